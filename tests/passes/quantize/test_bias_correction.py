"""bias-correction, and the same inside static-int8: means come back to where they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.testing import apply, assert_missed, model
from graphopt.testing.running import outputs_of
from passes.quantize.bias_correction import BiasCorrection
from passes.quantize.static.drift import Drift
from passes.quantize.static_int8 import StaticInt8

PLAIN = StaticInt8(bias_correction=0, range="min-max")


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


TEXT = """g (float[1, 4, 12, 12] x) => (float[1, 5, 6, 6] y) {
    a = Conv(x, w, b)  r = Relu(a)  c = Conv<group = 2>(r, v, d)  s = Relu(c)  y = Conv(s, u, e) }"""
WEIGHTS = {
    "w": floats(8, 4, 3, 3),
    "b": floats(8),
    "v": floats(6, 4, 3, 3),
    "d": floats(6, seed=1),
    "u": floats(5, 6, 3, 3),
    "e": floats(5),
}
FEEDS = [{"x": floats(1, 4, 12, 12, seed=seed) + 0.5} for seed in range(8)]


def means(proto: ModelProto, feeds: Any = FEEDS) -> Any:
    return np.mean([one["y"] for one in outputs_of(proto.SerializeToString(), feeds)], axis=(0, 1, 3, 4))


def stored(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def test_the_means_of_the_result_come_back() -> None:
    proto = model(TEXT, **WEIGHTS)
    plain = apply(PLAIN, proto, feeds=FEEDS).after
    corrected = apply(Pipeline((PLAIN, BiasCorrection(rounds=3))), proto, feeds=FEEDS)
    wanted = means(proto)
    before, after = np.abs(means(plain) - wanted).max(), np.abs(means(corrected.after) - wanted).max()
    assert after < before / 4
    assert [one.rule for one in corrected.applied if one.pass_name == "bias-correction"] == ["correct-bias"] * 3


@pytest.mark.parametrize("rounds", [1, 2])
def test_static_int8_corrects_by_itself(rounds: int) -> None:
    proto = model(TEXT, **WEIGHTS)
    own = apply(StaticInt8(bias_correction=rounds, range="min-max"), proto, feeds=FEEDS)
    two = apply(Pipeline((PLAIN, BiasCorrection(rounds=rounds))), proto, feeds=FEEDS)
    for name, value in stored(own.after).items():
        assert np.allclose(value, stored(two.after)[name], atol=2 if name.endswith("int32") else 0)
    assert own.sqnr_db("y") >= apply(PLAIN, proto, feeds=FEEDS).sqnr_db("y") - 0.5


def test_one_layer_is_exact_in_one_round() -> None:
    """Without operators before, the mean difference is taken out to half a code of the bias."""
    text = "g (float[64, 16] x) => (float[64, 8] y) { y = Gemm(x, w, b) }"
    feeds = [{"x": floats(64, 16, seed=seed)} for seed in range(4)]
    proto = model(text, w=floats(16, 8), b=floats(8))
    done = apply(StaticInt8(range="min-max"), proto, feeds=feeds)
    wanted, made = (
        np.concatenate([one["y"] for one in outputs_of(each.SerializeToString(), feeds)]).mean(0)
        for each in (proto, done.after)
    )
    found = stored(done.after)
    drift = found["x_scale"] * 0.5  # what is read moves, too, and its part is not the operator's
    reach = np.abs(floats(16, 8)).sum(0) * drift
    assert np.all(np.abs(wanted - made) <= found["b_scale"] + reach)


def test_a_matmul_is_corrected_through_the_add_behind_it() -> None:
    text = "g (float[64, 16] x) => (float[64, 8] y) { a = MatMul(x, w)  s = Add(a, b)  y = Exp(s) }"
    proto = model(text, w=floats(16, 8) / 8, b=floats(8))
    done = apply(StaticInt8(range="min-max"), proto, feeds=[{"x": floats(64, 16, seed=seed)} for seed in range(4)])
    assert done.applied[-1].rule == "correct-bias"
    assert not np.array_equal(stored(done.after)["b"], floats(8))
    assert np.allclose(stored(done.after)["b"], floats(8), atol=0.02)


def test_other_quantizers_are_corrected_too() -> None:
    """Here only the weights are integers, and the original has the floats."""
    proto = model(TEXT, **WEIGHTS)
    weights = parse("weight-int8{min-elements=1 granularity=tensor}").steps
    done = apply(Pipeline.of(*weights, BiasCorrection(rounds=2)), proto, feeds=FEEDS)
    alone = apply(Pipeline.of(*weights), proto, feeds=FEEDS)
    wanted = means(proto)
    assert np.abs(means(done.after) - wanted).max() < np.abs(means(alone.after) - wanted).max()
    assert stored(done.after)["b"].dtype == np.float32


def test_another_value_of_the_same_name_is_not_compared() -> None:
    drift = Drift(1)
    drift.update(floats(8, 4, 5, 5), 3 * floats(8, 4, 5, 5, seed=9))
    assert drift.why_not() == "the value of that name in the model as it was read is another one"
    drift = Drift(1)
    drift.update(floats(8, 4, 5, 5), floats(8, 4, 5, 6))
    assert drift.why_not() == "the value of that name in the model as it was read has another shape"
    drift = Drift(1)
    drift.update(floats(1, 4, 5, 5), floats(1, 4, 5, 5))
    assert drift.why_not() == "25 samples of a channel are too few for a mean"


def test_drift_is_the_mean_of_the_difference() -> None:
    drift = Drift(-1)
    one, other = floats(40, 6), floats(40, 6, seed=3) / 100
    drift.update((one + other + 0.25)[:16], one[:16])
    drift.update((one + other + 0.25)[16:], one[16:])
    assert drift.why_not() is None
    assert np.allclose(drift.mean, other.mean(0) + 0.25, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("g (float[64, 64] x) => (float[64, 32] y) { y = MatMul(x, w) }", "it has no bias"),
        ("g (float[64, 64] x) => (float[64, 32] y) { y = Gemm(x, w) }", "it has no bias"),
        (
            "g (float[64, 64] x) => (float[64, 32] y, float[64, 32] z) { y = Gemm(x, w, b)  z = Gemm(x, w, b) }",
            "its bias is shared",
        ),
    ],
)
def test_what_has_no_bias_of_its_own_is_left(text: str, why: str) -> None:
    weights = {"w": floats(64, 32)} | ({"b": floats(32)} if "b)" in text else {})
    steps = parse("weight-int8{min-elements=1},bias-correction").steps
    done = apply(Pipeline.of(*steps), model(text, **weights), feeds=[{"x": floats(64, 64)}])
    assert_missed(done, "correct-bias", why)


def test_the_gate_refuses_single_corrections() -> None:
    gate = Limits(frozenset({("bias-correction", 2)}))
    done = apply(Pipeline((PLAIN, BiasCorrection(rounds=2))), model(TEXT, **WEIGHTS), feeds=FEEDS, gate=gate)
    plain = stored(apply(PLAIN, model(TEXT, **WEIGHTS), feeds=FEEDS).after)
    found = stored(done.after)
    assert np.array_equal(found["d_int32"], plain["d_int32"])
    assert not np.array_equal(found["b_int32"], plain["b_int32"])


def test_patterns_choose() -> None:
    proto = model(TEXT, **WEIGHTS)
    done = apply(Pipeline((PLAIN, BiasCorrection(skip=("c",)))), proto, feeds=FEEDS)
    assert_missed(done, "correct-bias", "skip has 'c'")
    done = apply(Pipeline((PLAIN, BiasCorrection(only=("c",)))), proto, feeds=FEEDS)
    assert sum(one.rule == "correct-bias" for one in done.applied) == 1


def test_options_and_page() -> None:
    with pytest.raises(ValueError, match="rounds must be at least 1, and 0 is"):
        BiasCorrection(rounds=0)
    with pytest.raises(ValueError, match="bias-correction must not be negative, and -1 is"):
        StaticInt8(bias_correction=-1)
    assert [one.title for one in page(BiasCorrection).sections] == list(SECTIONS)


def test_few_samples_correct_nothing() -> None:
    text = "g (float[3, 16] x) => (float[3, 8] y) { y = Gemm(x, w, b) }"
    done = apply(StaticInt8(), model(text, w=floats(16, 8), b=floats(8)), feeds=[{"x": floats(3, 16)}])
    assert_missed(done, "correct-bias", "3 samples of a channel are too few for a mean")
    assert [one.rule for one in done.applied] == ["quantize"]
