"""no-op-reductions: one element is reduced to itself, where even the sign of a zero comes out."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.no_op_reductions import NoOpReductions


def reduce(
    step: str, shape: str = "N, 1, 4", out: str = "N, 1, 4", kind: str = "float", version: int = 18, **weights: object
) -> Applied:
    head = f'<ir_version: 8, opset_import: ["": {version}]>'
    text = f"{head} g ({kind}[{shape}] x) => ({kind}[{out}] y) {{ a = {step}  y = Neg(a) }}"
    return apply(NoOpReductions(), model(text, **weights))


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "ReduceProd"])
def test_an_axis_of_one_element(op: str) -> None:
    assert reduce(f"{op}(x, k)", k=np.array([1])).body == "y = Neg(x)"
    assert reduce(f"{op}(x, k)", k=np.array([-2])).body == "y = Neg(x)"
    assert reduce(f"{op}<axes = [1]>(x)", version=13).body == "y = Neg(x)"
    assert reduce(f"{op}(x)", "1, 1", "1, 1").body == "y = Neg(x)"


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceSum", "ReduceMean", "ReduceProd"])
def test_integers(op: str) -> None:
    assert reduce(f"{op}(x, k)", kind="int32", k=np.array([1])).body == "y = Neg(x)"


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean"])
def test_sums_of_floats_may_lose_the_sign_of_zero(op: str) -> None:
    assert reduce(f"{op}(x, k)", k=np.array([1])).applied == ()


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"])
def test_what_computes_something_of_one_element(op: str) -> None:
    assert reduce(f"{op}(x, k)", k=np.array([1])).applied == ()


def test_longer_axes() -> None:
    assert reduce("ReduceMax(x, k)", out="1, 1, 4", k=np.array([0])).applied == ()
    assert reduce("ReduceMax(x, k)", out="N, 1, 1", k=np.array([1, 2])).applied == ()
    assert reduce("ReduceMax(x)", out="1, 1, 1").applied == ()


def test_axes_that_go_away() -> None:
    done = reduce("ReduceMax<keepdims = 0>(x, k)", out="N, 4", k=np.array([1]))
    assert_missed(done, "size-1", "it takes the axes away")


def test_scalars() -> None:
    text = "g (float x) => (float y) { a = ReduceMax<keepdims = 0>(x)  y = Neg(a) }"
    assert apply(NoOpReductions(), model(text)).body == "y = Neg(x)"


def test_axes_that_come_back() -> None:
    text = (
        "g (int32[N, 1] x) => (int32[N, 1] y) { a = ReduceProd<keepdims = 0>(x, k)  b = Unsqueeze(a, k)  y = Neg(b) }"
    )
    done = apply(NoOpReductions(), model(text, k=np.array([1])))
    assert done.body == "y = Neg(x)" and [one.rule for one in done.applied] == ["round-trip"]
    assert not done.after.graph.initializer
    elsewhere = text.replace("Unsqueeze(a, k)", "Unsqueeze(a, j)").replace("[N, 1] y", "[1, N] y")
    assert apply(NoOpReductions(), model(elsewhere, k=np.array([1]), j=np.array([0]))).applied == ()
    floats = text.replace("int32", "float").replace("ReduceProd", "ReduceSum")
    assert apply(NoOpReductions(), model(floats, k=np.array([1]))).applied == ()


def test_told_to_do_nothing() -> None:
    for op in ("ReduceSum", "ReduceMean", "ReduceMax"):
        assert reduce(f"{op}<noop_with_empty_axes = 1>(x)").body == "y = Neg(x)"
        assert reduce(f"{op}<noop_with_empty_axes = 1>(x, k)", k=np.zeros(0, np.int64)).body == "y = Neg(x)"
    assert reduce("ReduceSum<noop_with_empty_axes = 1>(x, k)", out="1, 1, 4", k=np.array([0])).applied == ()
    assert reduce("ReduceSum<noop_with_empty_axes = 0>(x)", out="1, 1, 1").applied == ()


def test_axes_known_at_run_time_only() -> None:
    text = "g (float[N, 1] x, int64[1] k) => (float[M, L] y) { a = ReduceMax(x, k)  y = Neg(a) }"
    assert apply(NoOpReductions(), model(text), feeds=()).applied == ()


def test_outputs_and_bodies() -> None:
    done = apply(NoOpReductions(), model("g (float[1] x) => (float[1] y) { y = ReduceMax(x) }"))
    assert_missed(done, "size-1", "'y' is a graph output and 'x' an input")
    text = """g (bool c, float[1] x) => (float[1] y) {
        y = If(c)<then_branch = t () => (float[1] o) { p = ReduceMin(x)  o = Neg(p) },
                  else_branch = e () => (float[1] o) { o = Abs(x) }> }"""
    assert "ReduceMin" not in apply(NoOpReductions(), model(text)).body


@pytest.mark.parametrize("last", ["Unsqueeze(a, k)", "Reshape(a, t)"])
def test_axes_of_floats_that_come_back(last: str) -> None:
    text = f"g (float[3, 1] x) => (float[3, 1] y) {{ a = ReduceMax<keepdims = 0>(x, k)  b = {last}  y = Neg(b) }}"
    done = apply(NoOpReductions(), model(text, k=np.array([1]), t=np.array([3, 1])))
    assert done.body == "y = Neg(x)" and [one.rule for one in done.applied] == ["round-trip"]


def test_told_to_do_nothing_from_the_first_version_on() -> None:
    assert reduce("ReduceSum<noop_with_empty_axes = 1>(x)", version=13).body == "y = Neg(x)"


@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_is_not_there(axis: int) -> None:
    text = "g (float[1, 1] x) => (float[1, 1] y) { a = ReduceMax(x, k)  y = Neg(a) }"
    assert apply(NoOpReductions(), model(text, k=np.array([axis])), laws=False).applied == ()


def test_some_axes_of_one_element_whichever_they_are() -> None:
    text = "g (float[1, 1] x, int64[A] k) => (float[1, 1] y) { a = ReduceMax(x, k)  y = Neg(a) }"
    feeds = [{"x": np.full((1, 1), 3, np.float32), "k": np.array(axes, np.int64)} for axes in ([0], [0, 1], [])]
    assert apply(NoOpReductions(), model(text), feeds=feeds).body == "y = Neg(x)"
