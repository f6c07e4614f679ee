"""`apply` itself: what it returns, what it refuses, and the small assertions beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from onnx import ModelProto

from graphopt.contract import Contract
from graphopt.ir import Graph
from graphopt.pipeline import Context, Pass, Pipeline, Repeat
from graphopt.pipeline.gate import Limits
from graphopt.testing import LawBroken, apply, assert_missed, model, remarks_of
from graphopt.testing.samples import samples


@dataclass(frozen=True)
class DropCopies(Pass):
    """Take Identity nodes out where that is simple."""

    name = "drop-copies"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in list(graph.nodes):
            if not node.is_op("Identity"):
                continue
            if node.outputs[0].graph_outputs:
                ctx.missed("copy", node, "it makes an output")
            elif ctx.rewrite("copy", node):
                graph.replace_uses(node.outputs[0], node.inputs[0])
                graph.remove(node)


@dataclass(frozen=True)
class Wrong(DropCopies):
    """Take Relu out, which is wrong."""

    name = "wrong"

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in list(graph.nodes):
            if node.is_op("Relu") and ctx.rewrite("wrong", node):
                graph.replace_uses(node.outputs[0], node.inputs[0])
                graph.remove(node)


def chain() -> ModelProto:
    return model("g (float[N] x) => (float[N] y) { a = Identity(x)  b = Relu(a)  c = Identity(b)  y = Identity(c) }")


def test_what_it_returns() -> None:
    before = chain()
    done = apply(DropCopies(), before)
    assert done.body == "b = Relu(x)\ny = Identity(b)"
    assert done.before is before and len(before.graph.node) == 4
    assert [one.node for one in done.applied] == ["Identity(a)", "Identity(c)"]
    assert [one.node for one in done.missed] == ["Identity(y)"]
    assert done.disabled == ()
    assert [node.op for node in done.graph.nodes] == ["Relu", "Identity"]
    assert done.sqnr_db("y") == float("inf")
    assert len(done.differences) == 3 and all(one["y"].differing == 0 for one in done.differences)


def test_where_nothing_changed() -> None:
    before = model("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    done = apply(DropCopies(), before)
    assert done.after.SerializeToString() == before.SerializeToString()
    assert done.differences == [{}, {}, {}]


def test_remarks_by_rule() -> None:
    done = apply(DropCopies(), chain())
    assert len(remarks_of(done, "copy")) == 3 and remarks_of(done, "other") == ()
    assert assert_missed(done, "copy", "output").node == "Identity(y)"
    with pytest.raises(AssertionError, match=r"no missed 'copy' says 'input'; missed were: Identity\(y\): it makes"):
        assert_missed(done, "copy", "input")
    with pytest.raises(AssertionError, match="missed were: nothing"):
        assert_missed(done, "other", "output")


def test_a_gate() -> None:
    done = apply(DropCopies(), chain(), gate=Limits(frozenset({("drop-copies", 1)})))
    assert done.body == "a = Identity(x)\nb = Relu(a)\ny = Identity(b)"
    assert [(one.node, one.number) for one in done.disabled] == [("Identity(a)", 1)]
    with pytest.raises(LawBroken, match="output 'y' differs"):
        apply(Wrong(), chain(), gate=Limits(limit=1))


def test_a_pipeline() -> None:
    done = apply(Pipeline.of(Repeat(4, (DropCopies(),))), chain())
    assert done.body == "b = Relu(x)\ny = Identity(b)"


def test_laws_can_be_left_out() -> None:
    done = apply(Wrong(), chain(), laws=False)
    assert "Relu" not in done.body and done.differences == []


def test_feeds_of_ones_own() -> None:
    """On positive numbers Relu is a copy: what the feeds do not show is not found."""
    assert apply(Wrong(), chain(), feeds=[{"x": np.ones(3, np.float32)}]).applied
    with pytest.raises(LawBroken, match="on feed 1"):
        apply(Wrong(), chain(), feeds=[{"x": np.ones(3, np.float32)}, {"x": -np.ones(3, np.float32)}])
    assert apply(Wrong(), chain(), feeds=()).applied


def test_a_model_that_is_not_valid() -> None:
    before = chain()
    before.graph.node[1].op_type = "Rely"
    with pytest.raises(ValueError, match="the model under test is not valid: No Op registered for Rely"):
        apply(DropCopies(), before)


def test_a_model_that_does_not_run() -> None:
    unknown = next(one for one in samples() if not one.runs)
    with pytest.raises(ValueError, match=r"the model under test does not run .give `feeds`"):
        apply(DropCopies(), unknown.proto)
    apply(DropCopies(), unknown.proto, feeds=())


def test_random_outputs_are_held_to_their_type_only() -> None:
    before = model("g (float[N] x) => (float[N] y, float[N] z) { y = RandomNormalLike(x)  z = Relu(x) }")
    assert apply(Wrong(), model("g (float[N] x) => (float[N] y) { a = Relu(x)  y = RandomNormalLike(a) }")).applied
    assert not apply(DropCopies(), before).applied


def test_the_samples_are_as_they_say() -> None:
    names = [one.name for one in samples()]
    assert len(set(names)) == len(names) >= 20
    assert [one.name for one in samples() if not one.runs] == ["unknown domain"]
    assert samples() is samples()
