"""What a running pass is told and what it leaves behind: numbers, gate, remarks, provenance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from onnx import ModelProto

from graphopt.contract import Contract
from graphopt.errors import InternalError, UsageError
from graphopt.ir import Graph, Node, decode
from graphopt.ir.store import Store
from graphopt.pipeline import Context, Pass
from graphopt.pipeline.context import Ledger, RunContext
from graphopt.pipeline.gate import Candidate, Limits, parse_disabled
from graphopt.pipeline.protocol import Remark
from graphopt.testing import model


@dataclass(frozen=True)
class Named(Pass):
    """Stands for a pass: the tests do its work."""

    name = "named"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        return None


def start(proto: ModelProto | str, ledger: Ledger | None = None) -> tuple[Graph, RunContext, Ledger]:
    """A graph whose edits a fresh context hears."""
    graph = decode(model(proto) if isinstance(proto, str) else proto, Store())
    ledger = ledger or Ledger()
    ctx = RunContext(graph, Named(), ledger, step=2)
    graph.journal = ctx
    return graph, ctx, ledger


CHAIN = "g (float[N] x) => (float[N] y) { a = Relu(x)  b = Identity(a)  c = Identity(b)  y = Neg(c) }"
TWINS = "g (float[N] x) => (float[N] y, float[N] z) { [same] y = Relu(x)  [same] z = Neg(x) }"


def skip(graph: Graph, node: Node) -> None:
    graph.replace_uses(node.outputs[0], node.inputs[0])
    graph.remove(node)


def test_an_edit_that_was_not_announced_is_refused() -> None:
    graph, ctx, _ = start(CHAIN)
    with pytest.raises(InternalError, match="pass named edited 'b' without announcing a rewrite"):
        skip(graph, graph.nodes[1])
    assert ctx.applied == 0


def test_an_edit_after_a_refused_rewrite_is_refused() -> None:
    graph, ctx, _ = start(CHAIN, Ledger(Limits(limit=1)))
    assert ctx.rewrite("skip", graph.nodes[1])
    assert not ctx.rewrite("skip", graph.nodes[2])
    with pytest.raises(InternalError, match="without announcing"):
        skip(graph, graph.nodes[2])


def test_sorting_needs_no_announcement() -> None:
    graph, _, _ = start(CHAIN)
    nodes = list(graph.nodes)
    list.__setitem__(graph.nodes, slice(None), nodes[::-1])
    graph.toposort()
    assert list(graph.nodes) == nodes


def test_remarks_say_what_went_and_what_stands_there_now() -> None:
    graph, ctx, ledger = start(CHAIN)
    _, b, c, _ = graph.nodes
    assert ctx.rewrite("skip", b, "a detail")
    skip(graph, b)
    ctx.missed("skip", graph.nodes[0], "it computes something")
    assert ctx.rewrite("skip", c)
    skip(graph, c)
    ctx.close()
    assert ledger.remarks == [
        Remark("applied", "named", "skip", "Identity(b)", "Identity", "a detail", 1, 2, "", ("b",), ("a",)),
        Remark("missed", "named", "skip", "Relu(a)", "Relu", "it computes something", None, 2, "", values=("a",)),
        Remark("applied", "named", "skip", "Identity(c)", "Identity", "", 2, 2, "", ("c",), ("a",)),
    ]
    assert ledger.origins == {"a": ("a", "b", "c")}
    assert (ctx.applied, ctx.missed_count, ctx.disabled) == (2, 1, 0)


def test_provenance_goes_back_to_the_first_names() -> None:
    """Two rewrites in a row: what stands there in the end stands for all that went."""
    graph, ctx, ledger = start(CHAIN)
    relu, b, _, _ = graph.nodes
    assert ctx.rewrite("new", b)
    fresh = Node("Abs", outputs=[graph.variable("fresh")], inputs=[relu.outputs[0]])
    graph.insert(fresh, before=b)
    graph.replace_uses(b.outputs[0], fresh.outputs[0])
    graph.remove(b)
    assert ctx.rewrite("newer", fresh)
    newer = Node("Abs", outputs=[graph.variable("newer")], inputs=[relu.outputs[0]])
    graph.insert(newer, before=fresh)
    graph.replace_uses(fresh.outputs[0], newer.outputs[0])
    graph.remove(fresh)
    ctx.close()
    assert ledger.origins == {"fresh": ("b",), "newer": ("b",)}
    assert [(one.before, one.after) for one in ledger.remarks] == [
        (("b",), ("fresh",)),
        (("fresh",), ("newer",)),
    ]


def test_a_value_made_of_nothing_stands_for_what_it_replaces_later() -> None:
    graph, ctx, ledger = start(CHAIN)
    relu, b, _, _ = graph.nodes
    assert ctx.rewrite("new", relu)
    fresh = graph.insert(Node("Abs", inputs=[relu.outputs[0]], outputs=[graph.variable("fresh")]), after=relu)
    assert ctx.rewrite("use", b)
    graph.replace_uses(b.outputs[0], fresh.outputs[0])
    graph.remove(b)
    ctx.close()
    assert ledger.origins == {"fresh": ("b",)}


def test_other_values_of_a_weight_change_nothing_about_where_it_comes_from() -> None:
    graph, ctx, ledger = start(model("g (float[N] x) => (float[N] y) { y = Add(x, w) }", w=np.float32(1)))
    (weight,) = graph.initializers
    assert ctx.rewrite("set", weight)
    graph.set_values(weight, np.array(2, np.float32))
    ctx.close()
    assert (ledger.remarks[0].before, ledger.remarks[0].after) == (("w",), ("w",))
    assert ledger.origins == {}


def test_an_output_that_changes_its_maker_stands_for_the_value_behind_it() -> None:
    graph, ctx, ledger = start("g (float[N] x) => (float[N] y) { a = Relu(x)  y = Identity(a) }")
    assert ctx.rewrite("skip", graph.nodes[1])
    skip(graph, graph.nodes[1])
    ctx.close()
    assert (ledger.remarks[0].before, ledger.remarks[0].after) == (("y", "a"), ("y",))
    assert ledger.origins == {"y": ("y", "a")}


def test_long_provenance_is_cut() -> None:
    names = [f"v{i}" for i in range(100)]
    lines = " ".join(f"{name} = Abs(x)" for name in names)
    graph, ctx, ledger = start(f"g (float[N] x) => (float[N] y) {{ {lines} y = Relu(x) }}")
    assert ctx.rewrite("all", graph.nodes[0])
    for node in list(graph.nodes)[:100]:
        graph.remove(node)
    ctx.close()
    assert ledger.remarks[0].before == tuple(names[:32])


def test_a_remark_says_where() -> None:
    graph, ctx, ledger = start(
        """g (bool c, float[N] x) => (float[N] y) {
            y = If(c)<
                then_branch = t () => (float[N] o) { o = Abs(x) }, else_branch = e () => (float[N] o) { o = Neg(x) }
            >
        }"""
    )
    inner = graph.nodes[0].bodies[1].nodes[0]
    ctx.missed("rule", inner, "why")
    ctx.missed("rule", graph.inputs[1], "why")
    assert [(one.node, one.op, one.scope) for one in ledger.remarks] == [
        ("Neg(o)", "Neg", "If(y).else_branch"),
        ("x", "value", ""),
    ]


def test_a_remark_on_an_initializer() -> None:
    graph, ctx, ledger = start(model("g (float[N] x) => (float[N] y) { y = Add(x, w) }", w=np.float32(1)))
    (weight,) = graph.initializers
    ctx.missed("rule", weight, "why")
    assert (ledger.remarks[0].node, ledger.remarks[0].op) == ("w", "initializer")


def test_the_same_miss_is_kept_once_but_not_for_two_nodes_of_one_name() -> None:
    graph, ctx, ledger = start(TWINS)
    for _ in range(2):
        for node in graph.nodes:
            ctx.missed("rule", node, "why")
    assert [one.op for one in ledger.remarks] == ["Relu", "Neg"]
    assert ctx.missed_count == 2


def test_a_refused_candidate_keeps_its_number_and_stays_refused() -> None:
    gate = Limits(frozenset({("named", 2)}))
    graph, ctx, ledger = start(CHAIN, Ledger(gate))
    a, b, c, _ = graph.nodes
    assert [ctx.rewrite("rule", node) for node in (a, b, c)] == [True, False, True]
    assert [ctx.rewrite("rule", node) for node in (b, b)] == [False, False]
    ctx.close()
    # A later turn of the same run, as in the next round of a repeat group.
    again = RunContext(graph, Named(), ledger)
    assert not again.rewrite("rule", b)
    assert again.rewrite("rule", a)
    again.close()
    assert [(one.kind, one.number, one.node) for one in ledger.remarks] == [
        ("applied", 1, "Relu(a)"),
        ("disabled", 2, "Identity(b)"),
        ("applied", 3, "Identity(c)"),
        ("applied", 4, "Relu(a)"),
    ]
    assert (ctx.disabled, again.disabled) == (1, 0)


def test_refusing_one_of_two_nodes_of_one_name_leaves_the_other() -> None:
    graph, ctx, _ = start(TWINS, Ledger(Limits(frozenset({("named", 1)}))))
    assert [ctx.rewrite("rule", node) for node in graph.nodes] == [False, True]


def test_another_rule_on_the_same_node_is_another_candidate() -> None:
    graph, ctx, _ = start(CHAIN, Ledger(Limits(frozenset({("named", 1)}))))
    node = graph.nodes[0]
    assert [ctx.rewrite("one", node), ctx.rewrite("two", node)] == [False, True]


def test_the_limit_counts_what_is_carried_out() -> None:
    gate = Limits(frozenset({("named", 1)}), limit=2)
    graph, ctx, ledger = start(CHAIN, Ledger(gate))
    assert [ctx.rewrite("rule", node) for node in graph.nodes] == [False, True, True, False]
    assert ledger.total == 2


def test_shapes_are_inferred_once_a_revision() -> None:
    graph, ctx, _ = start("g (float[2, 3] x) => (float[6] y) { s = Constant<value_ints = [6]>()  y = Reshape(x, s) }")
    shapes = ctx.shapes
    assert shapes is ctx.shapes and shapes.shape(graph.nodes[0].outputs[0]) == (1,)
    assert ctx.rewrite("new", graph.nodes[0])
    graph.append(Node("Abs", inputs=[graph.inputs[0]], outputs=[graph.variable("fresh")]))
    assert ctx.shapes is not shapes
    assert ctx.shapes.shape(graph.nodes[-1].outputs[0]) == (2, 3)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (("dead-nodes",), {("dead-nodes", None)}),
        (("dead-nodes:3", "identities:1"), {("dead-nodes", 3), ("identities", 1)}),
    ],
)
def test_disabled_texts(texts: tuple[str, ...], found: set[tuple[str, int | None]]) -> None:
    assert parse_disabled(texts, frozenset({"dead-nodes", "identities"})) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dead", "--disable dead: the pipeline has no pass 'dead'; it has dead-nodes, identities"),
        ("dead-nodes:", "--disable dead-nodes:: '' is not the number of a rewrite"),
        ("dead-nodes:0", "'0' is not the number of a rewrite"),
        ("dead-nodes:x", "'x' is not the number of a rewrite"),
        ("dead-nodes:²", "'²' is not the number of a rewrite"),
    ],
)
def test_disabled_texts_that_are_wrong(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        parse_disabled((text,), frozenset({"dead-nodes", "identities"}))


def test_a_whole_pass_can_be_disabled() -> None:
    gate = Limits(frozenset({("named", None)}))
    assert not gate.allows(Candidate("named", 7, "rule", "node", 1))
    assert gate.allows(Candidate("other", 7, "rule", "node", 1))
