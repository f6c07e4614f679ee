"""unique-names: every node can be told by its name."""

from __future__ import annotations

from graphopt.testing import apply, model
from passes.tidy.unique_names import UniqueNames

TEXT = """g (bool c, float[N] x) => (float[N] y) {
    a = Relu(x)  b = Relu(a)
    y = If(c)<then_branch = t () => (float[N] o) { o = Exp(b) }, else_branch = e () => (float[N] o) { o = Exp(b) }>
}"""


def test_nodes_without_names_are_called_after_their_operators() -> None:
    done = apply(UniqueNames(), model(TEXT))
    assert [node.name for node in done.after.graph.node] == ["Relu", "Relu_1", "If"]
    inner = [one.g.node[0].name for one in done.after.graph.node[2].attribute]
    assert sorted(inner) == ["Exp", "Exp_1"]
    assert {one.rule for one in done.applied} == {"unnamed"}


def test_names_that_are_there_twice() -> None:
    before = model(TEXT)
    for node in before.graph.node:
        node.name = "same"
    done = apply(UniqueNames(unnamed=False), before, laws=False)  # onnxruntime takes no such model
    assert [node.name for node in done.after.graph.node] == ["same", "same_1", "same_2"]
    assert [one.rule for one in done.applied] == ["twice", "twice"]


def test_unique_names_stay() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Relu(x)  y = Neg(a) }")
    for node in before.graph.node:
        node.name = node.op_type
    assert apply(UniqueNames(), before).applied == ()


def test_the_name_of_a_value_is_not_taken() -> None:
    before = model("g (float[N] Relu) => (float[N] y) { y = Relu(Relu) }")
    assert apply(UniqueNames(), before).after.graph.node[0].name == "Relu_1"
