"""Contracts as validation holds them: EXACT to the bit, ROUNDING to the model's own noise, LOSSY to budgets."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.testing import model
from graphopt.validation import Outcome, Verdict, parse_budgets
from graphopt.validation.plan import FeedPlan

RNG = np.random.default_rng(7)
W1 = RNG.standard_normal((16, 64)).astype(np.float32)
W2 = RNG.standard_normal((64, 10)).astype(np.float32)

MLP = "h = MatMul(x, w1)  r = Relu(h)  o = MatMul(r, w2)"
# logits that are small differences of large numbers, as in a detector's head: rounding reaches the sigmoid
DETECTOR = "h = MatMul(x, twice)  r = Relu(h)  l = MatMul(r, opposed)  o = Sigmoid(l)"
TWICE = np.concatenate([W1, W1], axis=1)
LARGE = (400 * RNG.standard_normal(W2.shape)).astype(np.float32)
OPPOSED = np.concatenate([LARGE, W2 / 20 - LARGE])


def build(nodes: str, last: str = "y = Identity(o)", out: str = "float[N, 10] y", **weights: Any) -> onnx.ModelProto:
    return model(
        f"g (float[N, 16] x) => ({out}) {{ {nodes}  {last} }}",
        **{"w1": W1, "w2": W2, "twice": TWICE, "opposed": OPPOSED, **weights},
    )


def scaled_by(nodes: str, factor: float) -> onnx.ModelProto:
    return build(nodes, "y = Mul(o, factor)", factor=np.array(factor, np.float32))


def test_a_model_is_equivalent_to_itself(judge: Any) -> None:
    verdict = judge(build(MLP), build(MLP))
    assert verdict.outcome is Outcome.EQUIVALENT
    assert (verdict.exit_code, verdict.passed) == (0, True)
    assert [(report.name, report.optimized) for report in verdict.outputs] == [("y", False), ("y", True)]
    assert all(report.differing == 0 for report in verdict.outputs)
    assert verdict.sentence() == "equivalent (EXACT): all outputs bit for bit the same, 3 generated feeds"


def test_exact_means_every_bit(judge: Any) -> None:
    other = W2.copy()
    other[0, 0] = np.nextafter(other[0, 0], np.float32(np.inf))
    verdict = judge(build(MLP), build(MLP, w2=other))
    assert (verdict.outcome, verdict.exit_code) == (Outcome.DIFFERENT, 1)
    assert verdict.reasons[0].startswith("output 'y' differs in ")
    assert verdict.reasons[0].endswith("where the contract asks for the same bits (onnxruntime's optimizations off)")
    rounding = judge(build(MLP), build(MLP, w2=other), Contract.ROUNDING)
    assert rounding.outcome is Outcome.EQUIVALENT


def test_a_zero_that_changed_its_sign_is_not_exact(judge: Any) -> None:
    zero = "g (float[N] x) => (float[N] y) { a = Relu(x)  z = Mul(a, nothing)  y = Mul(z, sign) }"
    nothing = np.zeros(1, np.float32)
    plus = model(zero, nothing=nothing, sign=np.ones(1, np.float32))
    minus = model(zero, nothing=nothing, sign=-np.ones(1, np.float32))
    assert judge(plus, minus).outcome is Outcome.DIFFERENT
    assert judge(plus, minus, Contract.ROUNDING).outcome is Outcome.EQUIVALENT


def test_exact_results_are_held_to_rounding_where_onnxruntime_optimizes(judge: Any) -> None:
    """A factor that is 1 for every x, which onnxruntime cannot know, keeps it from fusing Conv and its scale."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.standard_normal((6, 3, 3, 3)), "s": rng.uniform(1, 2, 6), "b": rng.standard_normal(6)}
    weights |= {"m": rng.standard_normal(6), "v": rng.uniform(1, 2, 6)}
    nodes = "c = Conv(x, w)  {}  y = BatchNormalization(f, s, b, m, v)"
    text = f"g (float[N, 3, 9, 9] x) => (float[N, 6, 7, 7] y) {{{{ {nodes} }}}}"
    blocked = "m0 = ReduceMax(x)  z = Sub(m0, m0)  one = Cos(z)  f = Mul(c, one)"
    arrays = {name: array.astype(np.float32) for name, array in weights.items()}
    verdict = judge(model(text.format(blocked), **arrays), model(text.format("f = Identity(c)"), **arrays))
    assert verdict.outcome is Outcome.EQUIVALENT
    off, on = verdict.outputs
    assert (off.differing, off.bound) == (0, None)
    assert on.differing > 0
    assert on.bound is not None
    assert 0 < on.scaled_error <= on.bound


def test_reassociation_is_rounding(judge: Any) -> None:
    """(x W1) W2 against x (W1 W2): the same function over the reals."""
    chained = model("g (float[N, 16] x) => (float[N, 10] y) { h = MatMul(x, w1)  y = MatMul(h, w2) }", w1=W1, w2=W2)
    product = (W1.astype(np.float64) @ W2).astype(np.float32)
    folded = model("g (float[N, 16] x) => (float[N, 10] y) { y = MatMul(x, w) }", w=product)
    verdict = judge(chained, folded, Contract.ROUNDING)
    assert verdict.outcome is Outcome.EQUIVALENT
    off = verdict.outputs[0]
    assert off.differing > 0
    assert off.bound == pytest.approx(8 * off.noise)
    assert 2.0**-20 <= off.noise < 1e-5
    assert judge(chained, folded, Contract.EXACT).outcome is Outcome.DIFFERENT


def test_the_same_error_is_noise_in_a_detector_and_an_error_in_a_plain_network(judge: Any) -> None:
    """What counts is how far the model's own rounding moves its outputs."""
    detector = judge(build(DETECTOR), scaled_by(DETECTOR, 1.003), Contract.ROUNDING)
    plain = judge(build(MLP), scaled_by(MLP, 1.003), Contract.ROUNDING)
    for verdict in (detector, plain):
        assert 1e-3 < verdict.outputs[0].scaled_error < 2e-2
    assert detector.outcome is Outcome.EQUIVALENT
    assert detector.outputs[0].noise > 5e-4
    assert plain.outcome is Outcome.DIFFERENT
    assert plain.outputs[0].noise < 1e-5
    assert "times its own noise" in plain.reasons[0]


def test_the_bound_is_eight_times_the_noise(judge: Any) -> None:
    noise = judge(build(MLP), scaled_by(MLP, 1.01), Contract.ROUNDING).outputs[0].noise
    ratio = judge(build(MLP), scaled_by(MLP, 1 + 2.0**-10), Contract.ROUNDING).outputs[0].scaled_error * 2**10
    inside = judge(build(MLP), scaled_by(MLP, 1 + 5 * noise / ratio), Contract.ROUNDING)
    outside = judge(build(MLP), scaled_by(MLP, 1 + 12 * noise / ratio), Contract.ROUNDING)
    assert (inside.outcome, outside.outcome) == (Outcome.EQUIVALENT, Outcome.DIFFERENT)


def constant(values: list[float]) -> onnx.ModelProto:
    return model("g (float[1] x) => (float[4] y) { z = Sub(x, x)  y = Add(z, c) }", c=np.array(values, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("contract", [Contract.EXACT, Contract.ROUNDING, Contract.LOSSY])
def test_a_new_nan_or_infinity_is_always_a_failure(judge: Any, bad: float, contract: Contract) -> None:
    budgets = parse_budgets(["sqnr_db>=-900"]) if contract is Contract.LOSSY else ()
    verdict = judge(constant([1, 2, 3, 4]), constant([1, 2, bad, 4]), contract, budgets=budgets)
    assert verdict.outcome is Outcome.DIFFERENT
    if contract is not Contract.EXACT:
        assert re.match(r"output 'y' has NaN or Inf in \d elements? where the original has none", verdict.reasons[0])
    assert judge(constant([1, 2, bad, 4]), constant([1, 2, 3, 4]), contract, budgets=budgets).exit_code == 1
    assert judge(constant([1, 2, bad, 4]), constant([1, 2, bad, 4]), contract, budgets=budgets).exit_code == 0


ARGMAX = "o = MatMul(x, w2)  y = ArgMax <axis = 1, keepdims = 0> (o)"


def classes(nodes: str, weight: np.ndarray) -> onnx.ModelProto:
    return model(f"g (float[N, 64] x) => (int64[N] y) {{ {nodes} }}", w2=weight)


def test_decisions_must_be_the_same_where_they_survive_the_noise(judge: Any) -> None:
    flipped = W2[:, ::-1].copy()
    verdict = judge(classes(ARGMAX, W2), classes(ARGMAX, flipped), Contract.ROUNDING)
    assert verdict.outcome is Outcome.DIFFERENT
    assert "elements that the original decides the same way under rounding" in verdict.reasons[0]
    assert verdict.outputs[0].kind == "integer"
    assert verdict.outputs[0].agreement < 1.0


def test_a_decision_that_does_not_survive_the_noise_may_fall_either_way(judge: Any) -> None:
    """Rows of x - x' with x' one ulp away: which class wins is decided by rounding alone."""
    nodes = "d = Mul(x, third)  e = Div(x, three)  o = Sub(d, e)  y = Greater(o, zero)"
    parts = {"third": np.array(1 / 3, np.float32), "three": np.array(3, np.float32), "zero": np.array(0, np.float32)}
    first = model(f"g (float[N, 400] x) => (bool[N, 400] y) {{ {nodes} }}", **parts)
    nearly = {**parts, "third": np.nextafter(parts["third"], np.float32(1))}
    second = model(f"g (float[N, 400] x) => (bool[N, 400] y) {{ {nodes} }}", **nearly)
    verdict = judge(first, second, Contract.ROUNDING)
    report = verdict.outputs[0]
    assert report.kind == "boolean"
    assert report.differing > 0
    assert report.unstable > 0  # some were excused; the verdict depends on whether all were


def test_lossy_needs_a_budget(judge: Any) -> None:
    with pytest.raises(UsageError) as caught:
        judge(build(MLP), scaled_by(MLP, 1.01), Contract.LOSSY)
    assert str(caught.value) == "lossy passes need a budget, for example --budget 'sqnr_db>=30'"


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        ("sqnr_db>=39.9", True),
        ("sqnr_db>=40.1", False),
        ("cosine>=0.9999", True),
        ("max_error<=0.06", True),
        ("max_error<=0.001", False),
        ("agreement>=1", True),
    ],
)
def test_lossy_results_are_held_to_their_budgets(judge: Any, budget: str, kept: bool) -> None:
    """A factor of 1.01 is an error of 1 in 100, which is 40 dB."""
    verdict = judge(build(MLP), scaled_by(MLP, 1.01), Contract.LOSSY, budgets=parse_budgets([budget]))
    assert verdict.outcome is (Outcome.WITHIN_BUDGET if kept else Outcome.DIFFERENT)
    (result,) = verdict.budgets
    assert result.kept is kept
    if not kept:
        assert verdict.reasons[0].startswith(f"over budget: {result.budget.metric} reached ")
        assert verdict.reasons[0].endswith(f" where {budget} was asked for")
    if budget.startswith("sqnr"):
        assert result.off == pytest.approx(40.0, abs=0.01)
        assert result.on == pytest.approx(40.0, abs=0.01)


def test_every_budget_counts(judge: Any) -> None:
    budgets = parse_budgets(["sqnr_db>=30", "max_error<=0.001"])
    verdict = judge(build(MLP), scaled_by(MLP, 1.01), Contract.LOSSY, budgets=budgets)
    assert [result.kept for result in verdict.budgets] == [True, False]
    assert verdict.outcome is Outcome.DIFFERENT


def test_the_worst_output_governs(judge: Any) -> None:
    two = "float[N, 10] y, float[N, 10] z"
    before = build(MLP, "y = Identity(o)  z = Neg(o)", two)
    after = build(MLP, "y = Mul(o, f)  z = Neg(o)", two, f=np.array(1.1, np.float32))
    verdict = judge(before, after, Contract.LOSSY, budgets=parse_budgets(["sqnr_db>=1"]))
    assert verdict.budgets[0].reached == pytest.approx(20.0, abs=0.01)


RANDOM = "g (float[N] x) => (float[N] y{more}) {{ n = RandomNormalLike <seed = 1.0> (x)  y = Add(x, n) {node} }}"


def test_random_models_cannot_be_told(judge: Any) -> None:
    proto = model(RANDOM.format(more="", node=""))
    proto.graph.node[0].name = "jitter"
    verdict = judge(proto, proto)
    assert (verdict.outcome, verdict.exit_code, verdict.passed) == (Outcome.COULD_NOT_TELL, 6, False)
    assert verdict.sentence() == (
        "could not tell (EXACT): two equal runs of the original gave different values for 'y', "
        "because of RandomNormalLike 'jitter'"
    )


def test_randomness_is_looked_for_on_every_feed_where_an_operator_may_draw(judge: Any) -> None:
    proto = model(
        """g (float[4] x, bool c) => (float[4] y) {
            y = If (c) <
                then_branch = a () => (float[4] p) { p = RandomUniformLike(x) },
                else_branch = b () => (float[4] q) { q = Neg(x) }
            >
        }"""
    )
    plan = FeedPlan([{"x": np.ones(4, np.float32), "c": np.array(last)} for last in (False, False, False, True)])
    assert judge(proto, proto, feeds=plan).outcome is Outcome.COULD_NOT_TELL


def test_randomness_that_no_output_sees_is_no_matter(judge: Any) -> None:
    proto = model(RANDOM.format(more="", node="s = Shape(n)").replace("y = Add(x, n)", "y = Neg(x)"))
    assert judge(proto, proto).outcome is Outcome.EQUIVALENT


def test_a_difference_beside_randomness_is_still_a_difference(judge: Any) -> None:
    first = model(RANDOM.format(more=", float[N] z", node="z = Mul(x, k)"), k=np.array(2, np.float32))
    second = model(RANDOM.format(more=", float[N] z", node="z = Mul(x, k)"), k=np.array(3, np.float32))
    verdict = judge(first, second)
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.reasons[0].startswith("output 'z' differs")


def test_random_operators_in_bodies_are_named(judge: Any) -> None:
    proto = model(
        """g (float[4] x, bool c) => (float[4] y) {
            y = If (c) <
                then_branch = a () => (float[4] p) { n = RandomUniformLike(x)  p = Add(x, n) },
                else_branch = b () => (float[4] q) { q = Neg(x) }
            >
        }"""
    )
    assert "because of RandomUniformLike 'n'" in judge(proto, proto).reasons[0]


def test_types_shapes_and_names_of_outputs(judge: Any) -> None:
    base = model("g (float[N] x) => (float[N] y) { y = Neg(x) }")
    cases = {
        "g (float[N] x) => (float[N] z) { z = Neg(x) }": "the result has lost the output 'y' of the original",
        "g (float[N] x) => (double[N] y) { n = Neg(x)  y = Cast <to = 11> (n) }": (
            "the output 'y' is tensor(double) in the result and tensor(float) in the original"
        ),
        "g (float[N] x) => (float[N] y, float[N] z) { y = Neg(x)  z = Neg(x) }": (
            "the result has an output 'z' that the original has not"
        ),
        "g (float[N] w) => (float[N] y) { y = Neg(w) }": "the result has lost the input 'x' of the original",
        "g (float[N] x, float[N] w) => (float[N] y) { y = Neg(x) }": (
            "the result has an input 'w' that the original has not"
        ),
        "g (float[N] x) => (float[N] y) { n = Neg(x)  y = Unsqueeze(n, zero) }": (
            "output 'y' is float32[1,2] instead of float32[2] (onnxruntime's optimizations off)"
        ),
    }
    for text, reason in cases.items():
        verdict = judge(base, model(text, zero=np.array([0])), Contract.ROUNDING)
        assert verdict.outcome is Outcome.DIFFERENT
        assert verdict.reasons[0] == reason
    both = model("g (float[N] x) => (float[N] y, float[N] z) { y = Neg(x)  z = Abs(x) }")
    swapped = model("g (float[N] x) => (float[N] z, float[N] y) { y = Neg(x)  z = Abs(x) }")
    assert judge(both, swapped).reasons == ("the result gives its outputs in another order than the original",)


def test_a_result_that_does_not_run_is_different(judge: Any) -> None:
    base = model("g (float[N, 4] x) => (float[M] y) { y = Reshape(x, s) }", s=np.array([-1]))
    stuck = model("g (float[N, 4] x) => (float[M] y) { y = Reshape(x, s) }", s=np.array([7]))
    verdict = judge(base, stuck)
    assert (verdict.outcome, verdict.exit_code) == (Outcome.DIFFERENT, 1)
    assert verdict.reasons[0].startswith("the original runs and the result does not: onnxruntime failed while running")
    unloadable = model("g (float[N, 4] x) => (float[M] y) { y = NoSuchOperator(x) }")
    assert (
        judge(base, unloadable)
        .reasons[0]
        .startswith("the original runs and the result does not: onnxruntime cannot load")
    )


def test_a_result_that_takes_fewer_sizes_is_different(judge: Any) -> None:
    free = model("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }")
    fixed = model("g (float[2, 4] x) => (float[2, 4] y) { y = Relu(x) }")
    verdict = judge(free, fixed)
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.reasons[0].startswith("the original ")
    assert judge(fixed, free).outcome is Outcome.EQUIVALENT


def test_an_original_that_does_not_run_cannot_be_told(judge: Any) -> None:
    unloadable = model("g (float[N, 4] x) => (float[M] y) { y = NoSuchOperator(x) }")
    verdict = judge(unloadable, unloadable)
    assert (verdict.outcome, verdict.exit_code) == (Outcome.COULD_NOT_TELL, 6)
    assert verdict.reasons[0].startswith("the original could not be run: onnxruntime cannot load")
    stuck = model("g (float[N, 4] x) => (float[M] y) { y = Reshape(x, s) }", s=np.array([7]))
    assert judge(stuck, stuck).reasons[0].startswith("the model accepted none of ")
    given = FeedPlan({"x": np.ones((3, 4), np.float32)})
    assert (
        judge(stuck, stuck, feeds=given)
        .reasons[0]
        .startswith("the original could not be run: onnxruntime failed while running")
    )


def test_sequences_and_strings_are_compared(judge: Any) -> None:
    split = "g (float[N, 4] x) => (seq(float[N, 2]) y) {{ y = SplitToSequence <axis = 1> (x, {}) }}"
    halves = model(split.format("two"), two=np.array(2))
    quarters = model(split.format("one"), one=np.array(1))
    assert judge(halves, halves).outcome is Outcome.EQUIVALENT
    assert judge(halves, quarters).reasons[0].startswith("output 'y' has 4 elements instead of 2")
    text = "g (string[N] x) => (string[N] y) {{ y = StringConcat(x, {}) }}"
    a, b = (model(text.format("k"), k=np.array([end], object)) for end in "ab")
    assert judge(a, a).outcome is Outcome.EQUIVALENT
    assert judge(a, b, Contract.ROUNDING).outcome is Outcome.DIFFERENT


def test_empty_outputs_are_equal_and_said_to_be_empty(judge: Any) -> None:
    proto = model("g (float[N] x) => (float[M] y) { y = Slice(x, zero, zero) }", zero=np.array([0]))
    verdict = judge(proto, proto)
    assert verdict.outcome is Outcome.EQUIVALENT
    assert "every output was empty on these feeds, so only types and shapes were compared" in verdict.warnings


def test_a_verdict_is_plain_data_and_the_same_twice(judge: Any) -> None:
    verdict = judge(build(MLP), scaled_by(MLP, 1.01), Contract.LOSSY, budgets=parse_budgets(["sqnr_db>=30"]), seed=4)
    plain = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert plain["outcome"] == "within budget"
    assert plain["feeds"]["seed"] == 4
    assert plain["budgets"][0]["kept"] is True
    assert plain["outputs"][0]["name"] == "y"
    assert plain["sentence"] == verdict.sentence()
    again = judge(build(MLP), scaled_by(MLP, 1.01), Contract.LOSSY, budgets=parse_budgets(["sqnr_db>=30"]), seed=4)
    assert again == verdict
    equal: Verdict = judge(build(MLP), build(MLP))
    assert json.loads(json.dumps(equal.to_json(), allow_nan=False))["outputs"][0]["sqnr_db"] == "inf"
    assert dataclasses.replace(equal, seconds=99.0) == equal
