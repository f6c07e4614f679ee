"""Names that a pass asks for are nobody else's, whatever happened since the model was read."""

from __future__ import annotations

import pytest
from ir_models import from_text, value

from graphopt.ir import Constant, Graph, Node, Variable
from graphopt.ir.names import Names

MODEL = """
<ir_version: 10, opset_import: ["" : 21, "f" : 1]>
main (float x, bool c) => (float y)
<float w = {1.0}, float ghost>
{
    [first] a = Abs(x)
    b = If(c) <then_branch = t () => (float p) <float inner = {1.0}> { [second] q = Neg(a)  p = Add(q, inner) },
               else_branch = e () => (float r) { r = Identity(x) }>
    y = f.F(b)
}
<opset_import: ["" : 21], domain: "f">
F (arg) => (res) { mid = Neg(arg)  res = Abs(mid) }
"""
TAKEN = ["x", "c", "y", "w", "ghost", "first", "second", "a", "b", "p", "q", "inner", "r", "arg", "res", "mid"]


@pytest.mark.parametrize("taken", TAKEN)
def test_every_scope_counts(taken: str) -> None:
    graph = from_text(MODEL)
    inside = value(graph, "q").inputs[0].graph
    for scope in (graph, inside, graph.functions[0]):
        assert scope.fresh_name(taken) not in TAKEN
    assert graph.names is inside.names is graph.functions[0].names


def test_stems() -> None:
    graph = from_text(MODEL)
    assert [graph.fresh_name("new") for _ in range(3)] == ["new", "new_1", "new_2"]
    assert graph.fresh_name("new_1") == "new_3"
    assert graph.fresh_name("w") == "w_1" and "w_1" in graph.names
    assert graph.fresh_name("") == "value" and graph.fresh_name("") == "value_1"
    graph.names.add("reserved")
    assert graph.fresh_name("reserved") == "reserved_1"


def test_names_that_come_later() -> None:
    """Nodes that scripts bring, renamed values and nodes, bodies that are set, initializers."""
    graph = from_text(MODEL)
    assert graph.fresh_name("late") == "late"
    graph.nodes.append(Node("Op", "node_1", None, [Variable("in_1")], [Variable("out_1")]))
    body = Graph([Node("Op", "", None, [], [Variable("body_1")])], name="body")
    graph.nodes.append(Node("If", "", {"then_branch": body}, [graph.inputs[1]], [Variable("if_1")]))
    value(graph, "a").name = "renamed_1"
    graph.inputs[0].name = "input_1"
    graph.nodes[0].name = "node_2"
    next(iter(graph.initializers)).name = "weight_1"
    import numpy as np

    graph.initializers.add(Constant("added_1", np.ones(1)))
    for stem in ("node", "in", "out", "body", "if", "renamed", "input", "weight", "added"):
        first, second = graph.fresh_name(stem), graph.fresh_name(stem)
        assert first == stem and second not in (f"{stem}_1", stem), stem
    assert graph.fresh_name("node") == "node_4"


def test_names_are_gathered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = from_text(MODEL)
    graph.fresh_name("x")
    monkeypatch.setattr(Names, "__init__", lambda *_: pytest.fail("gathered again"))
    graph.fresh_name("x")
    graph.constant([1.0], "x")  # type: ignore[arg-type]
    graph.append(Node("Neg", "", None, [graph.inputs[0]], [graph.variable("x")]))
    graph.nodes[0].name = "other"


def test_a_copy_has_names_of_its_own() -> None:
    graph = from_text(MODEL)
    graph.fresh_name("new")
    assert graph.copy().fresh_name("new") == "new"


def test_labels_and_paths() -> None:
    graph = from_text(MODEL)
    branch = graph.nodes[1].bodies[0]
    assert [node.label for node in graph.nodes] == ["first", "If(b)", "F(y)"]
    assert (graph.path, branch.path, graph.functions[0].path) == ("", "If(b).then_branch", "function f.F")
    assert branch.is_body and not graph.is_body and graph.functions[0].is_function
    assert branch.opset_of() == 21 and branch.opset_of("f") == 1 and branch.opset_of("g") == 0
    assert graph.functions[0].opset_of("f") == 0
    branch.opset = 22
    assert graph.opset == 22 and graph.functions[0].opset == 21
