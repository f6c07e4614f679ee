"""Sorting: stable, through bodies and functions, with a cycle named."""

from __future__ import annotations

import random

import pytest
from ir_models import from_text, model, node, shown, value

from graphopt.errors import BadModel, UsageError
from graphopt.ir import Graph, Node, Variable, decode, encode
from graphopt.ir.store import Store


def names(graph: Graph) -> list[str]:
    return [one.outputs[0].name for one in graph.nodes]


class TestStable:
    def test_nodes_in_order_stay(self) -> None:
        graph = from_text("main (float x) => (float y) { b = Neg(x)  a = Abs(x)  c = Exp(x)  y = Add(a, b) }")
        assert names(graph.toposort()) == ["b", "a", "c", "y"]

    def test_a_free_node_stays_where_it_stood(self) -> None:
        graph = decode(
            model([node("Add", "a b", "y"), node("Neg", "x", "b"), node("Exp", "x", "z"), node("Abs", "b", "a")]),
            Store(),
        )
        assert names(graph.toposort()) == ["b", "z", "a", "y"]

    @pytest.mark.parametrize("seed", range(10))
    def test_random_orders(self, seed: int) -> None:
        draw = random.Random(seed)
        values, nodes = ["x"], []
        for index in range(60):
            reads = draw.choices(values, k=draw.randrange(1, 4))
            nodes.append(node("Sum", " ".join(reads), f"v{index}"))
            values.append(f"v{index}")
        draw.shuffle(nodes)
        graph = decode(model(nodes), Store())
        before = list(graph.nodes)
        graph.toposort()
        place = {one: index for index, one in enumerate(graph.nodes)}
        assert set(place) == set(before) and len(place) == 60
        for one in graph.nodes:
            assert all(place[maker] < place[one] for tensor in one.inputs for maker in tensor.inputs)
        # Of the nodes that could stand at a place, the one that stood first does.
        was = {one: index for index, one in enumerate(before)}
        done: set[Node] = set()
        for one in graph.nodes:
            free = [n for n in before if n not in done and all(m in done for t in n.inputs for m in t.inputs)]
            assert one is min(free, key=was.__getitem__)
            done.add(one)


BODIES = """
main (float x, bool c) => (float y) {
    y = If(c) <then_branch = t () => (float p) { p = Neg(late) },
               else_branch = e () => (float later) { }>
    later = Abs(late)
    late = Exp(x)
}
"""


class TestBodies:
    def test_captures_count_as_reads(self) -> None:
        graph = from_text(BODIES)
        assert names(graph.toposort(recurse_subgraphs=False)) == ["late", "later", "y"]

    def test_bodies_and_functions_are_sorted_too(self) -> None:
        graph = from_text("""
            <ir_version: 10, opset_import: ["" : 21, "f" : 1]>
            main (float x, bool c) => (float y) {
                y = If(c) <then_branch = t () => (float p) { p = Neg(q)  q = f.F(x) },
                           else_branch = e () => (float r) { r = Identity(x) }>
            }
            <opset_import: ["" : 21], domain: "f">
            F (a) => (b) { b = Neg(t)  t = Abs(a) }""")
        body, function = graph.nodes[0].bodies[0], graph.functions[0]
        for keep in (graph.copy().toposort(recurse_subgraphs=False, recurse_functions=False), graph.copy()):
            assert names(keep.nodes[0].bodies[0]) == ["p", "q"] and names(keep.functions[0]) == ["b", "t"]
        graph.toposort(mode="functions")
        assert names(body) == ["p", "q"]
        graph.toposort()
        assert names(body) == ["q", "p"] and names(function) == ["t", "b"]
        with pytest.raises(UsageError, match="not 'sideways'"):
            graph.toposort(mode="sideways")


CYCLES = {
    "of one": ("main (float x) => (float y) { y = Add(x, y) }", {"y"}),
    "of three": ("main (float x) => (float y) { a = Add(x, c)  b = Neg(a)  c = Abs(b)  y = Exp(x) }", {"a", "b", "c"}),
    "before it": ("main (float x) => (float y) { y = Exp(d)  d = Exp(c)  b = Neg(c)  c = Abs(b) }", {"b", "c"}),
    "through a body": (
        """main (float x, bool k) => (float y) {
            a = Exp(y)
            y = If(k) <then_branch = t () => (float p) { p = Neg(a) }, else_branch = e () => (float q) { q = Neg(x) }>
        }""",
        {"a", "y"},
    ),
}


@pytest.mark.parametrize(("text", "on_it"), CYCLES.values(), ids=CYCLES)
def test_a_cycle_is_named_by_a_node_on_it(text: str, on_it: set[str]) -> None:
    graph = from_text(text)
    before = shown(graph)
    with pytest.raises(BadModel, match="the graph has a cycle through node") as caught:
        graph.toposort()
    named = str(caught.value).rsplit("'", 2)[1]
    assert named in {value(graph, name).inputs[0].label for name in on_it}
    assert shown(graph) == before


class TestDepth:
    def test_a_long_chain_needs_no_stack(self) -> None:
        nodes = [node("Neg", f"v{i}", f"v{i + 1}") for i in range(20_000)]
        proto = model(nodes[::-1], ["v0"], ["v20000"])
        graph = decode(proto, Store()).toposort()
        assert graph.nodes[0].inputs[0] is graph.inputs[0]
        graph = graph.copy().cleanup()
        assert len(graph.nodes) == 20_000
        assert [one.output[0] for one in encode(graph).proto.graph.node[:2]] == ["v1", "v2"]

    def test_deep_nesting(self) -> None:
        """As deep as protobuf itself reads messages, and then some."""
        outer = graph = Graph(name="outer", inputs=[Variable("c", bool, []), Variable("x", "float32", [2])])
        for depth in range(60):
            inner = Graph(name=f"level{depth}")
            out = Variable(f"r{depth}", "float32", [2])
            graph.nodes.append(Node("If", f"if{depth}", {"then_branch": inner}, [outer.inputs[0]], [out]))
            graph.outputs.append(out)
            graph = inner
        graph.nodes.append(Node("Neg", "innermost", None, [outer.inputs[1]], [Variable("q")]))
        graph.outputs.append(graph.nodes[0].outputs[0])
        assert graph.root is outer and graph.path.count("/") == 59 and graph.opset == outer.opset
        assert len(list(outer.graphs())) == 61 and outer.inputs[1].is_read
        copied = outer.copy().toposort().cleanup()
        assert len(list(copied.graphs())) == 61
        assert encode(copied).proto == encode(outer).proto
        outer.outputs.clear()
        assert len(outer.cleanup().nodes) == 0 and not outer.inputs[1].is_read
