"""topological-order: makers before readers, nothing moved that need not move."""

from __future__ import annotations

from onnx import ModelProto

from graphopt.testing import Applied, apply, assert_missed, body, model
from passes.tidy.topological_order import TopologicalOrder


def shuffled(text: str, *order: int) -> ModelProto:
    proto = model(text)
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes[index] for index in order)
    return proto


def sort(proto: ModelProto) -> Applied:
    """Without the laws: a model that is not sorted is not valid to begin with."""
    return apply(TopologicalOrder(), proto, laws=False)


TEXT = "g (float[N] x) => (float[N] y) { a = Relu(x)  b = Neg(a)  c = Exp(a)  y = Add(b, c) }"


def test_nodes_out_of_order() -> None:
    done = sort(shuffled(TEXT, 3, 2, 1, 0))
    assert done.body == "a = Relu(x)\nc = Exp(a)\nb = Neg(a)\ny = Add(b, c)"
    assert [one.rule for one in done.applied] == ["order"]
    assert sort(done.after).applied == ()


def test_nodes_in_order_stay() -> None:
    before = shuffled(TEXT, 0, 2, 1, 3)
    done = apply(TopologicalOrder(), before)
    assert done.applied == () and done.body == body(before)


def test_bodies_and_what_they_capture() -> None:
    text = """g (bool c, float[N] x) => (float[N] y) {
        a = Relu(x)
        y = If(c)<then_branch = t () => (float[N] o) { p = Exp(a)  o = Neg(p) },
                  else_branch = e () => (float[N] o) { o = Neg(x) }>
    }"""
    before = shuffled(text, 1, 0)
    then = next(one.g for one in before.graph.node[0].attribute if one.name == "then_branch")
    nodes = list(then.node)
    del then.node[:]
    then.node.extend(reversed(nodes))
    done = sort(before)
    assert done.body == body(model(text)) and len(done.applied) == 2


def test_a_circle() -> None:
    before = shuffled("g (float[N] x) => (float[N] y) { a = Add(x, x)  b = Neg(a)  y = Exp(b) }", 0, 1, 2)
    before.graph.node[0].input[1] = "b"
    assert_missed(sort(before), "order", "cycle")
