"""operators: what the outputs do not need goes, measured one by one against the model as it was read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.analysis.changes import in_decibels
from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from graphopt.testing.trial import Without
from passes.prune.operators import Operators


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def error(before: onnx.ModelProto, after: onnx.ModelProto, feeds: Any, name: str = "y") -> float:
    one, other = (outputs_of(each.SerializeToString(), feeds) for each in (before, after))
    first, second = (
        np.concatenate([np.ravel(each[name]) for each in found]).astype(np.float64) for found in (one, other)
    )
    return float(np.square(first - second).sum() / np.square(first).sum())


def said(done: Applied) -> dict[str, str]:
    return {one.node: one.why for one in done.applied}


FEEDS = [{"x": draw(16, 6, seed=3) + 3}]


def small_gate() -> onnx.ModelProto:
    """A Tanh of small values, a Sigmoid that hardly moves, and a Relu that matters."""
    return model(
        """g (float[N, 6] x) => (float[N, 6] y) <float s = {0.01}> {
            a = MatMul(x, w)  b = Mul(a, s)  t = Tanh(b)  g = MatMul(b, v)  h = Sigmoid(g)  u = Mul(t, h)
            c = MatMul(u, z)  y = Relu(c) }""",
        w=draw(6, 6), v=draw(6, 6, seed=1, scale=0.05), z=draw(6, 6, seed=2),
    )  # fmt: skip


def test_operators_go_while_the_error_is_within_theta() -> None:
    done = apply(Operators(theta=0.001, samples=0), small_gate(), feeds=FEEDS)
    assert error(small_gate(), done.after, FEEDS) <= 0.001
    assert "Tanh" not in done.body and "Sigmoid" not in done.body and "Relu" in done.body
    last = done.applied[-1].why
    assert in_decibels(error(small_gate(), done.after, FEEDS)) in last


def test_what_stays_is_named_with_the_error_that_it_would_cost() -> None:
    done = apply(Operators(theta=0.001, samples=0), small_gate(), feeds=FEEDS)
    by_hand = small_gate()
    relu = next(node for node in by_hand.graph.node if node.op_type == "Relu")
    relu.op_type = "Identity"
    cost = in_decibels(error(small_gate(), by_hand, [{"x": FEEDS[0]["x"][:4]}]))
    remark = assert_missed(done, "operator", "more than theta=0.001")
    assert any(cost in one.why for one in done.missed if one.node == "Relu(y)"), remark.why


def test_the_mean_stands_for_what_hardly_changes() -> None:
    done = apply(Operators(theta=0.001, samples=0, longest=1), small_gate(), feeds=FEEDS)
    assert said(done)["Sigmoid(h)"].startswith("its mean stands for it, with it 1 nodes that nothing else read go")
    assert "Mul(t, h_mean)" in done.body or "Mul(b, h_mean)" in done.body
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in done.after.graph.initializer}
    made = model(
        "g (float[N, 6] x) => (float[N, 6] h) <float s = {0.01}> { a = MatMul(x, w)  b = Mul(a, s)  g = MatMul(b, v)"
        " h = Sigmoid(g) }",
        w=draw(6, 6), v=draw(6, 6, seed=1, scale=0.05),
    )  # fmt: skip
    mean = np.asarray(outputs_of(made.SerializeToString(), FEEDS)[0]["h"]).mean(axis=0)
    assert np.allclose(weights["h_mean"].reshape(-1), mean, rtol=1e-5)
    assert "Sigmoid" in apply(Operators(theta=0.001, means=False, samples=0), small_gate(), feeds=FEEDS).body


GATED = """g (float[B, 4, 5, 5] x) => (float[B, 4, 5, 5] y) {
    p = GlobalAveragePool(x)  c = Conv(p, w, b)  s = Sigmoid(c)  m = Mul(x, s)  y = Neg(m) }"""


def test_a_gate_of_channels_goes_with_all_that_makes_it() -> None:
    before = model(GATED, w=draw(4, 4, 1, 1, scale=0.01), b=draw(4, seed=1))
    feeds = [{"x": draw(3, 4, 5, 5, seed=seed)} for seed in range(4)]
    few = apply(Operators(theta=0.001), before, feeds=feeds[:1])
    assert "Sigmoid" in few.body  # three samples make no mean
    done = apply(Operators(theta=0.001), before, feeds=feeds)
    assert done.body == "m = Mul(x, s_mean)\ny = Neg(m)"
    assert [one.dims for one in done.after.graph.initializer] == [[1, 4, 1, 1]]
    assert error(before, done.after, feeds) <= 0.001


def test_theta_zero_takes_exact_no_ops_only() -> None:
    before = model(
        "g (float[N, 6] x) => (float[N, 6] y) { a = Abs(x)  b = Relu(a)  c = Exp(b)  d = Abs(c)  e = Tanh(d)"
        " y = Neg(e) }"
    )
    done = apply(Operators(theta=0), before, feeds=FEEDS)
    assert set(said(done)) <= {"Abs(a)", "Relu(b)", "Abs(d)"}  # FEEDS may be positive throughout
    assert {"Relu(b)", "Abs(d)"} <= set(said(done))
    assert error(before, done.after, FEEDS) == 0
    assert_missed(done, "operator", "more than theta=0")


def test_the_cheapest_error_for_the_work_goes_first_and_the_sum_is_bounded() -> None:
    """Each of three blocks alone is within theta, all of them are not."""
    lines, weights = [], {}
    for at in range(3):
        lines.append(f"a{at} = MatMul(x{at}, w{at})  x{at + 1} = Add(x{at}, a{at})")
        weights[f"w{at}"] = draw(6, 6, seed=at, scale=0.02 + 0.002 * at)
    before = model(f"g (float[N, 6] x) => (float[N, 6] y) {{ x0 = Neg(x) {' '.join(lines)} y = Abs(x3) }}", **weights)
    alone = [error(before, _without(before, at), FEEDS) for at in range(3)]
    theta = max(alone) * 1.05
    done = apply(Operators(theta=theta, samples=0, only=("x1", "x2", "x3")), before, feeds=FEEDS)
    order = [one.node for one in done.applied]
    assert order and order[0] == f"Add(x{int(np.argmin(alone)) + 1})"
    assert error(before, done.after, FEEDS) <= theta
    assert len(order) < 3


def _without(proto: onnx.ModelProto, at: int) -> onnx.ModelProto:
    made = onnx.ModelProto.FromString(proto.SerializeToString())
    node = next(one for one in made.graph.node if one.output[0] == f"x{at + 1}")
    node.op_type = "Identity"
    del node.input[1]
    return made


def test_chains_between_two_values_of_one_shape() -> None:
    before = model(
        """g (float[N, 6] x) => (float[N, 6] y) <float e = {0.0001}> {
            r = Neg(x)  a = MatMul(r, w)  b = Tanh(a)  c = MatMul(b, v)  d = Mul(c, e)  f = Add(r, d)  y = Exp(f) }""",
        w=draw(6, 9), v=draw(9, 6, seed=1),
    )  # fmt: skip
    done = apply(Operators(theta=1e-4, only=("f",)), before, feeds=FEEDS)
    assert done.body == "r = Neg(x)\ny = Exp(r)"
    assert apply(Operators(theta=1e-4, only=("f",), longest=4), before, feeds=FEEDS).body != done.body


def test_movers_are_left_to_exact_passes() -> None:
    before = model("g (float[6, 6] x) => (float[6, 6] y) { a = Transpose(x)  b = Identity(a)  y = Reshape(b, s) }",
                   s=np.asarray([6, 6]))  # fmt: skip
    done = apply(Operators(theta=100), before, feeds=[{"x": draw(6, 6)}])
    assert not done.applied
    assert_missed(done, "operator", "no operator has an input of the shape of its output")


def test_outputs_keep_their_names_and_inputs_are_handed_through() -> None:
    before = model("g (float[N, 6] x) => (float[N, 6] y, float[N, 6] z) { y = Relu(x)  z = Abs(y) }")
    done = apply(Operators(theta=0), before, feeds=FEEDS)
    assert [one.name for one in done.after.graph.output] == ["y", "z"]
    assert error(before, done.after, FEEDS) == 0


def test_bodies_and_captured_values() -> None:
    before = model(
        """g (float[6] x, bool p) => (float[6] y) {
            u = Abs(x)
            y = If (p) <then_branch = t () => (float[6] o) { a = Relu(u)  o = Exp(a) },
                        else_branch = e () => (float[6] o2) { o2 = Neg(u) }> }"""
    )
    feeds = [{"x": draw(6), "p": np.asarray(True)}, {"x": draw(6, seed=1), "p": np.asarray(False)}]
    done = apply(Operators(theta=0), before, feeds=feeds)
    assert "Relu(a)" in said(done) and "o = Exp(u)" in done.body
    assert "Abs" in done.body


def test_branches_that_were_not_taken_are_left() -> None:
    before = model(
        """g (float[6] x, bool p) => (float[6] y) {
            u = Neg(x)
            y = If (p) <then_branch = t () => (float[6] o) { a = Exp(u)  o = Tanh(a) },
                        else_branch = e () => (float[6] o2) { o2 = Neg(u) }> }"""
    )
    feeds: list[dict[str, Any]] = [{"x": draw(6, seed=seed), "p": np.asarray(False)} for seed in range(40)]
    done = apply(Operators(theta=0.001, samples=4), before, feeds=feeds)
    assert "Exp(u)" in done.body and "Tanh" in done.body
    assert_missed(done, "operator", "the branch that it is in was not taken")
    feeds[-1]["p"] = np.asarray(True)  # beyond the samples that decide elsewhere
    done = apply(Operators(theta=0.001, samples=4), before, feeds=feeds)
    assert "Exp(u)" in done.body and error(before, done.after, feeds) <= 0.001


def test_what_is_computed_from_constants_is_left_to_folding() -> None:
    before = model(
        "g (float[N, 6] x) => (float[N, 6] y) { c = Constant<value = float[6] {1, 2, 3, 4, 5, 6}>()  e = Relu(c)"
        " a = Add(x, e)  y = Exp(a) }"
    )
    done = apply(Operators(theta=0), before, feeds=FEEDS)
    assert "Relu(c)" in done.body and all("Relu" not in one.node for one in done.remarks)


def test_loops_are_measured_over_all_their_rounds() -> None:
    before = model(
        """g (float[6] x, int64 n, bool k) => (float[6] y) {
            y = Loop (n, k, x) <body = b (int64 i, bool c, float[6] s) => (bool c2, float[6] s2) {
                c2 = Identity(c)  a = Abs(s)  r = Relu(a)  s2 = Exp(r) }> }"""
    )
    feeds = [{"x": draw(6, scale=0.1), "n": np.asarray(2), "k": np.asarray(True)}]
    done = apply(Operators(theta=0), before, feeds=feeds)
    assert "Relu(r)" in said(done)
    assert error(before, done.after, feeds) == 0


def test_a_disabled_rewrite_is_not_offered_again() -> None:
    before = model("g (float[N, 6] x) => (float[N, 6] y) { a = Exp(x)  b = Relu(a)  y = Neg(b) }")
    done = apply(Operators(theta=0), before, feeds=FEEDS, gate=Without("operators", 1))
    assert len(done.disabled) == 1 and "Relu" in done.body


def test_what_makes_next_to_nothing_is_left() -> None:
    before = model(
        "g (float[N, 6] x) => (float[N, 6] y) <float e = {1e-9}> { s = ReduceMean(x, one)  a = Add(s, e)"
        "  d = Div(x, a)  m = MatMul(d, w)  y = MatMul(m, w) }",
        w=draw(6, 6),
        one=np.asarray([1]),
    )
    assert apply(Operators(theta=0.001, least=0), before, feeds=FEEDS).applied
    done = apply(Operators(theta=0.001, least=0.02, means=False), before, feeds=FEEDS)
    assert not done.applied
    assert_missed(done, "operator", "it makes less than least=0.02 of all that is computed")


def test_skip_and_only() -> None:
    skipped = apply(Operators(theta=0.001, skip=("t",)), small_gate(), feeds=FEEDS)
    assert "Tanh" in skipped.body
    assert_missed(skipped, "operator", "skip has 't'")
    only = apply(Operators(theta=0.001, only=("t",)), small_gate(), feeds=FEEDS)
    assert set(said(only)) == {"Tanh(t)"}
    assert_missed(only, "operator", "only has no pattern for it")


def test_numbers_that_are_not_finite_stay_out() -> None:
    before = model("g (float[N, 6] x) => (float[N, 6] y) { a = Abs(x)  y = Log(a) }")
    done = apply(Operators(theta=0.5), before, feeds=[{"x": draw(4, 6)}])
    assert not done.applied
    assert_missed(done, "operator", "")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"theta": -1}, "theta must not be negative"),
        ({"samples": -1}, "samples must not"),
        ({"longest": 0}, "longest at least 1"),
        ({"spread": 2}, "must be from 0 to 1"),
        ({"least": -1}, "must be from 0 to 1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Operators(**options)


def test_a_mean_of_channels_is_for_readers_that_spread_it() -> None:
    """The sum that spread the mean goes first; the product that then reads the value needs it whole."""
    before = model(
        """g (float[2, 1, 2, 2] x) => (float[2, 1, 2, 2] y) {
            s = Shape(x)  e = Expand(k, s)  a = Add(e, x)  m = MatMul(a, w)  y = Add(m, b)
        }""",
        k=np.float32([0.5, 0.05]),
        w=np.float32([[-0.69, 0.831], [-0.668, 0.824]]),
        b=np.float32([-1.118, 0.82]),
    )  # fmt: skip
    feeds = [{"x": np.zeros((2, 1, 2, 2), np.float32)}]
    done = apply(Operators(theta=0.01, spread=0.5), before, feeds=feeds)
    assert [one.node for one in done.applied] == ["Add(a)"]
