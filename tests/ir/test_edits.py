"""Edits of graphs: what they change, what they keep, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ir_models import from_text, model, node, shown, value

from graphopt.errors import InternalError
from graphopt.ir import Constant, Graph, Node, Variable, decode, encode
from graphopt.ir.store import Store
from graphopt.testing.links import check_links

BODIES = """
main (float[N] x, bool c) => (float[N] y, float[N] t)
<float[2] w = {1.0, 2.0}, float[N] a, float[N] t>
{
    a = Abs(x)
    t = Neg(a)
    r = If(c) <
        then_branch = then () => (float[N] p) { q = Add(a, w)  p = Add(q, a) },
        else_branch = other () => (float[N] s) { s = Identity(x) }
    >
    y = Add(r, a)
}
"""


class Notes:
    """A journal that keeps what it hears."""

    def __init__(self, graph: Graph) -> None:
        self.heard: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        graph.journal = self

    def note(self, edit: str, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        self.heard.append((edit, before, after))


def then_branch(graph: Graph) -> Graph:
    return next(node for node in graph.nodes if node.op == "If").bodies[0]


class TestReplace:
    def test_every_reader_in_bodies_too(self) -> None:
        graph = from_text(BODIES)
        notes = Notes(graph)
        graph.replace_uses(value(graph, "a"), graph.inputs[0])
        assert shown(graph) == ["a = Abs(x)", "t = Neg(x)", "r = If(c)", "y = Add(r, x)"]
        assert shown(then_branch(graph)) == ["q = Add(x, w)", "p = Add(q, x)"]
        assert not value(graph, "a").is_read
        assert notes.heard == [("replace", ("a",), ("x",))]
        check_links(graph)

    def test_an_output_hands_on_its_name_and_its_declaration(self) -> None:
        graph = from_text(BODIES)
        old, new = value(graph, "t"), value(graph, "a")
        new.shape = ["wrong"]  # type: ignore[union-attr, misc]
        graph.replace_uses(old, new)
        assert graph.outputs[1] is new and (old.name, new.name) == ("a", "t")
        assert shown(graph) == ["t = Abs(x)", "a = Neg(t)", "r = If(c)", "y = Add(r, t)"]
        assert shown(then_branch(graph))[0] == "q = Add(t, w)"
        declared = encode(graph).proto.graph.output[1]
        assert declared == encode(from_text(BODIES)).proto.graph.output[1]
        check_links(graph)

    def test_a_new_value_without_a_type_takes_the_declared_one(self) -> None:
        graph = from_text(BODIES)
        new = graph.variable("made")
        graph.insert(Node("Exp", "", None, [graph.inputs[0]], [new]), before=graph.nodes[1])
        graph.replace_uses(value(graph, "t"), new)
        assert encode(graph).proto.graph.output == encode(from_text(BODIES)).proto.graph.output
        assert new.dtype == np.float32 and new.shape == ["N"]

    def test_an_output_that_stands_twice(self) -> None:
        proto = model([node("Neg", "x", "z"), node("Abs", "x", "u"), node("Exp", "x", "y")], outputs=["y", "z", "y"])
        proto.graph.output[2].doc_string = "the second"
        graph = decode(proto, Store())
        new = value(graph, "u")
        graph.replace_uses(value(graph, "y"), new)
        assert [one is new for one in graph.outputs] == [True, False, True] and new.name == "y"
        assert new.graph_outputs == [graph, graph]
        assert list(encode(graph).proto.graph.output) == list(proto.graph.output)

    def test_a_node_can_be_put_behind_a_value(self) -> None:
        graph = from_text(BODIES)
        for name in ("a", "y"):
            old = value(graph, name)
            new = graph.variable(f"{name}_scaled")
            graph.insert(Node("Exp", "", None, [old, old], [new]), after=old.inputs[0])
            graph.replace_uses(old, new)
        assert shown(graph) == [
            "a = Abs(x)",
            "a_scaled = Exp(a, a)",
            "t = Neg(a_scaled)",
            "r = If(c)",
            "y_scaled = Add(r, a_scaled)",
            "y = Exp(y_scaled, y_scaled)",
        ]
        check_links(graph.toposort())

    def test_itself_is_nothing(self) -> None:
        graph = from_text(BODIES)
        notes = Notes(graph)
        graph.replace_uses(value(graph, "a"), value(graph, "a"))
        assert notes.heard == []

    def test_a_hidden_name_is_a_reason(self) -> None:
        graph = from_text("""
            main (float x, bool c) => (float y) {
                a = Abs(x)
                b = Neg(x)
                y = If(c) <then_branch = t () => (float p) { b = Exp(a)  p = Neg(b) },
                           else_branch = e () => (float q) { q = Identity(a) }>
            }""")
        old, new = graph.nodes[0].outputs[0], graph.nodes[1].outputs[0]
        reason = "If(y).then_branch has another value called 'b'"
        assert graph.why_not_replace(old, new) == reason
        with pytest.raises(InternalError, match="'a' cannot be replaced: If"):
            graph.replace_uses(old, new)
        assert shown(graph)[0] == "a = Abs(x)" and old.is_read

    def test_a_name_that_a_body_takes_later_is_a_reason_too(self) -> None:
        graph = from_text(BODIES)
        old, new = value(graph, "a"), graph.inputs[0]
        assert graph.why_not_replace(old, new) is None
        body = then_branch(graph)
        body.insert(Node("Neg", "", None, [], [Variable("x")]), before=body.nodes[0])
        assert graph.why_not_replace(old, new) == "If(r).then_branch has another value called 'x'"
        other = from_text(BODIES)
        old, new = value(other, "a"), other.inputs[0]
        assert other.why_not_replace(old, new) is None
        value(other, "q").name = "x"
        assert other.why_not_replace(old, new) == "If(r).then_branch has another value called 'x'"


REASONS: dict[str, tuple[str, str, str]] = {
    "an input": ("y", "x", "'y' is a graph output and 'x' an input"),
    "an initializer": ("y", "w", "'y' is a graph output and 'w' an initializer"),
    "both outputs": ("y", "z", "'y' and 'z' are both graph outputs"),
    "an input that is an output": ("v", "a", "'v' is a graph output that no single node makes"),
    "an initializer that is an output": ("k", "a", "'k' is a graph output that no single node makes"),
    "made inside": ("a", "inner", "'inner' cannot be seen in the main graph, where 'a' is read"),
    "made in a sibling": ("p", "o", "'p' is a graph output and 'o' is made in another graph"),
    "made outside": ("p", "a", "'p' is a graph output and 'a' is made in another graph"),
    "read outside of the body": ("x", "inner", "'inner' cannot be seen in the main graph, where 'x' is read"),
    "an output of two graphs": ("s", "a", "'s' is an output of more than one graph"),
}
OBSTACLES = """
main (float x, bool c, float v) => (float y, float z, float v, float k, float s)
<float w = {1.0}, float k = {1.0}>
{
    a = Abs(x)
    b = Neg(a)
    z = Exp(b)
    s = Add(x, w)
    r = If(c) <then_branch = t () => (float p) { inner = Neg(v)  p = Exp(inner) },
               else_branch = e () => (float s) { o = Neg(v) }>
    y = Add(a, r)
}
"""


@pytest.mark.parametrize(("old", "new", "reason"), REASONS.values(), ids=REASONS)
def test_why_a_value_cannot_be_replaced(old: str, new: str, reason: str) -> None:
    graph = from_text(OBSTACLES)
    before = encode(graph).proto.SerializeToString()
    one, other = value(graph, old), value(graph, new)
    assert graph.why_not_replace(one, other) == reason
    with pytest.raises(InternalError) as caught:
        graph.replace_uses(one, other)
    assert str(caught.value) == f"'{old}' cannot be replaced: {reason}"
    assert encode(graph).proto.SerializeToString() == before


def test_a_body_replaces_its_own_values() -> None:
    graph = from_text(OBSTACLES)
    body = next(node for node in graph.nodes if node.op == "If").bodies[0]
    assert body.why_not_replace(value(graph, "p"), value(graph, "inner")) is None
    body.replace_uses(value(graph, "p"), value(graph, "inner"))
    assert [one.name for one in body.outputs] == ["p"] and shown(body) == ["p = Neg(v)", "inner = Exp(p)"]
    body.remove(body.nodes[1])
    assert shown(body) == ["p = Neg(v)"]


class TestRemove:
    def test_what_is_still_read_stays(self) -> None:
        graph = from_text(BODIES)
        for name in ("a", "t", "r"):
            (maker,) = value(graph, name).inputs
            with pytest.raises(InternalError, match=f"cannot be removed: '{name}' is still read"):
                graph.remove(maker)
        assert len(graph.nodes) == 4

    def test_a_node_with_bodies_lets_go_of_what_they_captured(self) -> None:
        graph = from_text(BODIES)
        choice = value(graph, "r").inputs[0]
        graph.rewire(graph.nodes[3], 0, graph.inputs[0])
        notes = Notes(graph)
        graph.remove(choice)
        assert notes.heard == [("remove", ("r",), ())]
        assert [node.op for node in value(graph, "a").readers] == ["Neg", "Add"]
        (weight,) = graph.initializers
        assert not weight.is_read
        graph.remove_initializer(weight)
        assert choice.graph is None and len(graph.initializers) == 0
        check_links(graph)

    def test_a_body_that_another_node_took_over_stays_whole(self) -> None:
        graph = from_text(BODIES)
        old = value(graph, "r").inputs[0]
        result = graph.variable("result")
        new = graph.insert(Node("If", "", dict(old.attrs), old.inputs, [result]), after=old)
        graph.replace_uses(old.outputs[0], result)
        graph.remove(old)
        assert shown(new.bodies[0]) == ["q = Add(a, w)", "p = Add(q, a)"]
        assert new.bodies[0].parent is new and new.bodies[0].root is graph
        check_links(graph)

    def test_a_node_that_was_taken_out_reads_nothing(self) -> None:
        """Scripts take nodes out of the list and leave their links: those do not count."""
        graph = from_text(BODIES)
        choice = value(graph, "r").inputs[0]
        add = value(graph, "y").inputs[0]
        graph.nodes.remove(add)
        assert not value(graph, "r").is_read
        graph.nodes.remove(choice)
        assert [node.op for node in graph.nodes[0].outputs[0].readers] == ["Neg"]
        assert not next(iter(graph.initializers)).is_read
        graph.nodes.extend([choice, add])
        assert graph.nodes[2].outputs[0].is_read and len(graph.nodes[0].outputs[0].readers) == 4
        check_links(graph)

    def test_one_that_is_nowhere(self) -> None:
        graph = from_text(BODIES)
        with pytest.raises(InternalError, match="node 'lost' is in no graph"):
            graph.remove(Node("Op", "lost"))

    def test_initializers(self) -> None:
        graph = from_text(BODIES)
        (weight,) = graph.initializers
        with pytest.raises(InternalError, match="initializer 'w' cannot be removed: it is still read"):
            graph.remove_initializer(weight)
        stray = Constant("stray", np.ones(1, np.float32))
        with pytest.raises(InternalError, match="'stray' cannot be removed: it is not one of this graph's"):
            graph.remove_initializer(stray)


def test_inserting_and_rewiring() -> None:
    graph = from_text("main (float x) => (float y) { y = Neg(x) }")
    notes = Notes(graph)
    made: list[Node] = []
    for name, place in {"u": {"before": graph.nodes[0]}, "v": {"after": graph.nodes[0]}, "w": {}}.items():
        made.append(graph.insert(Node("Abs", name, None, [graph.inputs[0]], [graph.variable(name)]), **place))
    assert graph.append(Node("Exp", "last", None, [], [Variable("")])) is graph.nodes[-1]
    assert shown(graph) == ["u = Abs(x)", "y = Neg(x)", "v = Abs(x)", "w = Abs(x)", "- = Exp()"]
    graph.rewire(made[1], 0, made[0].outputs[0])
    assert shown(graph)[2] == "v = Abs(u)" and made[0].outputs[0].readers == [made[1]]
    inserted: list[Any] = [("insert", (), (name,)) for name in "uvw"]
    assert notes.heard == [*inserted, ("insert", (), ()), ("rewire", ("x",), ("u",))]
    with pytest.raises(ValueError, match="node 'elsewhere' is not in this graph"):
        graph.insert(Node("Abs"), before=Node("Abs", "elsewhere"))
