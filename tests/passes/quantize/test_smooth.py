"""smooth: the same mathematics, less error once quantized, and every reason to leave a value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.testing import Applied, apply, assert_missed, model
from passes.quantize.dynamic_int8 import DynamicInt8
from passes.quantize.smooth import Smooth
from passes.quantize.smoothing_error import ChannelRanges, Demand, search

K = 16
OUTLIER = 5


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def outliers(*shape: int, seed: int = 9, by: float = 40.0) -> Any:
    """Values one of whose last indices is much larger than the others."""
    found = floats(*shape, seed=seed)
    found[..., OUTLIER] *= by
    return found


def weight(*shape: int, seed: int = 0) -> Any:
    """A weight whose row of the outlier is small, as models have it: the result is not all outlier."""
    found = floats(*shape, seed=seed)
    found[OUTLIER] /= 40
    return found


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


FEEDS = [{"x": floats(6, 3, K, seed=seed)} for seed in range(3)]
NORMALIZED = "g (float[B, T, 16] x) => (float[B, T, 24] y) { h = LayerNormalization(x, g, b)  y = MatMul(h, w) }"
NORM = {"g": outliers(K, seed=3), "b": outliers(K, seed=4, by=5)}
DYNAMIC = DynamicInt8(min_elements=1)


def better(proto: ModelProto, feeds: Any, by: float, output: str = "y", smooth: Smooth | None = None) -> None:
    """Quantized after smoothing, an output has `by` decibels more than quantized without."""
    plain = apply(DYNAMIC, proto, feeds=feeds, laws=True).sqnr_db(output)
    smoothed = apply(Pipeline.of(smooth or Smooth(), DYNAMIC), proto, feeds=feeds).sqnr_db(output)
    assert smoothed > plain + by, (plain, smoothed)


def test_a_normalization_takes_the_factors() -> None:
    proto = model(NORMALIZED, w=weight(K, 24), **NORM)
    done = apply(Smooth(), proto, feeds=FEEDS)
    assert done.body.splitlines() == ["h = LayerNormalization(x, g, b)", "y = MatMul(h, w)"]
    assert "taken by LayerNormalization 'LayerNormalization(h)': error" in done.applied[0].why
    found = tensors(done.after)
    factors = NORM["g"] / found["g"]
    assert factors[OUTLIER] > 5 * np.median(factors)
    assert np.allclose(NORM["b"] / found["b"], factors, rtol=1e-5)
    assert np.allclose(found["w"] / weight(K, 24), factors[:, None], rtol=1e-5)
    assert done.after.ByteSize() == proto.ByteSize()
    better(proto, FEEDS, 8)


def test_steps_of_a_normalization_take_the_factors_too() -> None:
    text = "g (float[B, T, 16] x) => (float[B, T, 24] y) { a = Mul(x, g)  h = Add(a, b)  y = MatMul(h, w) }"
    done = apply(Smooth(), model(text, w=weight(K, 24), **NORM), feeds=FEEDS)
    assert "taken by Mul 'Mul(a)' and Add 'Add(h)'" in done.applied[0].why


def test_query_key_and_value_get_the_same_factors() -> None:
    text = """g (float[B, T, 16] x) => (float[B, T, 24] q, float[B, T, 24] k, float[B, T, 24] v) {
        h = LayerNormalization(x, g, b)  q = MatMul(h, w)  k = MatMul(h, u)  v = MatMul(h, z) }"""
    weights = {"w": weight(K, 24), "u": weight(K, 24, seed=1), "z": weight(K, 24, seed=2)}
    done = apply(Smooth(), model(text, **weights, **NORM), feeds=FEEDS)
    assert len(done.applied) == 1
    found = tensors(done.after)
    factors = [found[name] / values for name, values in weights.items()]
    assert np.allclose(factors[0], factors[1], rtol=1e-5)
    assert np.allclose(factors[0], factors[2], rtol=1e-5)


RESIDUAL = """g (float[B, T, 16] x) => (float[B, T, 16] y) {
    h = LayerNormalization(x, g, b)  m = MatMul(h, w)  u = MatMul(h, v)  p = Add(m, h)  y = Add(p, u) }"""


def test_a_residual_connection_needs_a_mul() -> None:
    proto = model(RESIDUAL, w=weight(K, K), v=weight(K, K, seed=1), **NORM)
    done = apply(Smooth(), proto, feeds=FEEDS)
    assert done.body.splitlines() == [
        "h = LayerNormalization(x, g, b)",
        "h_smooth = Mul(h, h_smooth_factors)",
        "m = MatMul(h_smooth, w)",
        "u = MatMul(h_smooth, v)",
        "p = Add(m, h)",
        "y = Add(p, u)",
    ]
    assert "taken by a Mul" in done.applied[0].why
    assert_missed(apply(Smooth(insert=False), proto, feeds=FEEDS), "smooth", "'h' is read elsewhere too, and insert")
    above = apply(Smooth(insert_below_db=5), proto, feeds=FEEDS)
    assert_missed(above, "smooth", "dB are above insert-below-db=5")
    assert_missed(apply(Smooth(insert_gain_db=60), proto, feeds=FEEDS), "smooth", "is less than insert-gain-db=60")


def test_outlier_channels_may_be_multiplied_apart() -> None:
    proto = model(RESIDUAL, w=floats(K, K), v=floats(K, K, seed=1), **NORM)
    apart = Smooth(outliers=2, insert_below_db=100, outlier_gain_db=3)
    done = apply(apart, proto, feeds=FEEDS)
    assert done.body.splitlines() == [
        "h = LayerNormalization(x, g, b)",
        "h_smooth = Mul(h, h_smooth_factors)",
        "h_outliers = Gather<axis=-1>(h, h_channels)",
        "m_others = MatMul(h_smooth, w)",
        "m_outliers = MatMul(h_outliers, w_outliers)",
        "m = Add(m_others, m_outliers)",
        "u_others = MatMul(h_smooth, v)",
        "u_outliers = MatMul(h_outliers, v_outliers)",
        "u = Add(u_others, u_outliers)",
        "p = Add(m, h)",
        "y = Add(p, u)",
    ]
    assert f"channels {OUTLIER} apart" in done.applied[0].why
    found = tensors(done.after)
    assert found["h_channels"].tolist() == [OUTLIER]
    assert found["h_smooth_factors"][OUTLIER] == 0
    assert not found["w"][OUTLIER].any()
    assert (found["w_outliers"] == floats(K, K)[[OUTLIER]]).all()
    together = apply(Pipeline.of(Smooth(insert_below_db=100), DYNAMIC), proto, feeds=FEEDS).sqnr_db("y")
    quantized = apply(Pipeline.of(apart, DYNAMIC), proto, feeds=FEEDS)
    assert quantized.sqnr_db("y") > together + 2
    assert_missed(quantized, "dynamic", "it adds up only 1 products")


def test_outliers_of_a_gemm_with_a_bias_behind_a_product() -> None:
    text = """g (float[N, 16] x) => (float[N, 24] y, float[N, 24] z) {
        h = Exp(x)  y = Gemm<transB = 1, alpha = 0.5>(h, w, c)  m = MatMul(h, v)  z = Add(m, c) }"""
    weights = {"w": floats(K, 24).T.copy(), "c": floats(24), "v": floats(K, 24, seed=1)}
    x = floats(20, K, seed=1)
    x[:, OUTLIER] += 4
    done = apply(Smooth(outliers=1, insert_below_db=100, outlier_gain_db=3), model(text, **weights), feeds=[{"x": x}])
    assert "apart" in done.applied[0].why
    assert "y = Add(y_others, y_outliers)" in done.body
    assert "z_others = Add(m, c)" in done.body


def test_columns_before_a_relu_take_the_factors() -> None:
    text = """g (float[B, T, 16] x) => (float[B, T, 24] y) {
        a = MatMul(x, v)  h = Add(b, a)  r = Relu(h)  y = MatMul(r, w) }"""
    proto = model(text, v=outliers(K, K), w=weight(K, 24), b=NORM["b"])
    done = apply(Smooth(), proto, feeds=FEEDS)
    assert any("taken by Add 'Add(h)' and MatMul 'MatMul(a)'" in one.why for one in done.applied)
    better(proto, FEEDS, 5)


def test_a_gemm_gives_to_a_gemm() -> None:
    text = """g (float[N, 16] x) => (float[N, 24] y) {
        h = Gemm<transB = 1>(x, v, b)  r = LeakyRelu(h)  y = Gemm<transB = 1>(r, w, c) }"""
    weights = {"v": outliers(K, K).T.copy(), "b": NORM["b"], "w": floats(24, K), "c": floats(24)}
    done = apply(Smooth(), model(text, **weights), feeds=[{"x": floats(9, K, seed=1)}])
    assert any("taken by Gemm 'Gemm(h)'" in one.why for one in done.applied)


def test_behind_a_gelu_a_mul_is_put() -> None:
    text = """g (float[B, T, 16] x) => (float[B, T, 24] y) {
        h = MatMul(x, v)  d = Div(h, root)  e = Erf(d)  f = Add(e, one)  m = Mul(h, f)
        r = Mul(m, half)  y = MatMul(r, w) }"""
    numbers = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    proto = model(text, v=outliers(K, K), w=weight(K, 24), **{k: np.asarray(v) for k, v in numbers.items()})
    done = apply(Smooth(), proto, feeds=FEEDS)
    assert "r_smooth = Mul(r, r_smooth_factors)" in done.body
    assert tensors(done.after)["half"].shape == ()


def test_bodies_are_smoothed_where_all_readers_are() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21]>
        g (bool c, float[B, T, 16] x) => (float[B, T, 16] y) {
            h = LayerNormalization(x, g, b)
            y = If(c)<then_branch = t () => (float[B, T, 16] o) { r = Relu(h)  o = MatMul(r, w) },
                      else_branch = e () => (float[B, T, 16] o) { o = Relu(h) }> }"""
    feeds = [{"c": np.array(take), "x": one["x"]} for one in FEEDS for take in (True, False)]
    done = apply(Smooth(), model(text, w=weight(K, K), **NORM), feeds=feeds)
    assert_missed(done, "smooth", "'h' is read elsewhere too")
    within = text.replace("h = LayerNormalization(x, g, b)", "").replace("{ o = Relu(h) }", "{ o = Relu(x) }")
    within = within.replace("{ r = Relu(h)", "{ h = LayerNormalization(x, g, b)  r = Relu(h)")
    assert apply(Smooth(), model(within, w=weight(K, K), **NORM), feeds=feeds).applied


def missed(text: str, why: str, smooth: Smooth | None = None, **weights: Any) -> Applied:
    done = apply(smooth or Smooth(), model(text, **weights), feeds=FEEDS)
    assert_missed(done, "smooth", why)
    assert done.after == done.before
    return done


def test_what_cannot_or_need_not_be_smoothed_is_left() -> None:
    missed(NORMALIZED, "less than min-gain-db=30", Smooth(min_gain_db=30), w=weight(K, 24), **NORM)
    shared = """g (float[B, T, 16] x) => (float[B, T, 16] y) {
        h = LayerNormalization(x, g, b)  m = MatMul(h, w)  y = MatMul(m, w) }"""
    missed(shared, "others read its weight, too", w=floats(K, K), **NORM)
    codes = NORMALIZED.replace("y = MatMul(h, w)", "d = DequantizeLinear(c, s)  y = MatMul(h, d)")
    missed(codes, "its weight is quantized already", c=np.ones((K, 24), np.int8), s=np.ones(24, np.float32), **NORM)
    batched = NORMALIZED.replace("x)", "x)")
    missed(batched, "its weight has 3 dims", w=floats(1, K, 24), **NORM)
    missed(NORMALIZED, "skip has 'w'", Smooth(skip=("w",)), w=weight(K, 24), **NORM)
    missed(NORMALIZED, "only has no pattern for it", Smooth(only=("v",)), w=weight(K, 24), **NORM)


def test_weights_that_are_not_finite_are_left() -> None:
    values = weight(K, 24)
    values[1, 1] = np.nan
    done = apply(Smooth(), model(NORMALIZED, w=values, **NORM), feeds=FEEDS, laws=False)
    assert_missed(done, "smooth", "there are NaN or infinities in its weights or its data")


def test_channels_that_are_always_zero_do_no_harm() -> None:
    gain, shift = NORM["g"].copy(), NORM["b"].copy()
    gain[2] = shift[2] = 0
    values = weight(K, 24)
    values[7] = 0
    done = apply(Smooth(), model(NORMALIZED, w=values, g=gain, b=shift), feeds=FEEDS)
    assert done.applied
    assert all(np.isfinite(values).all() for values in tensors(done.after).values())


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="ranges must be run or all"):
        Smooth(ranges="both")
    with pytest.raises(ValueError, match="outliers must not be negative"):
        Smooth(outliers=-1)
    with pytest.raises(ValueError, match="min-gain-db must be positive"):
        Smooth(min_gain_db=0)


def demand(seed: int, outlier: float) -> tuple[Demand, Any]:
    data, seen = outliers(5, 200, 32, seed=seed, by=outlier), ChannelRanges()
    for one in data:
        seen.update(one)
    return Demand(floats(32, 48, seed=seed + 1), seen.low, seen.high, seen.mean_square), data


@pytest.mark.parametrize("outlier", [1.0, 10.0, 300.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_factors_never_raise_the_expected_error(seed: int, outlier: float) -> None:
    found, _ = demand(seed, outlier)
    factors = search(found)
    assert found.noise(factors) <= found.noise(np.ones(32))
    assert search(found.divided(factors)) == pytest.approx(np.ones(32))


@pytest.mark.parametrize("outlier", [1.0, 10.0, 100.0])
def test_the_expected_error_is_the_measured_one(outlier: float) -> None:
    """Within a decibel of what rounding data and weights really gives."""
    found, data = demand(4, outlier)
    for factors in (np.ones(32), search(found)):
        weights = found.weights * factors[:, None]
        steps = np.abs(weights).max(axis=0) / 127
        rounded = np.rint(weights / steps) * steps
        error = []
        for one in data.astype(np.float64):
            divided = one / factors
            low, high = min(divided.min(), 0), max(divided.max(), 0)
            step = (high - low) / 255
            error.append(np.rint(divided / step) * step @ rounded - one @ found.weights)
        measured = np.mean(np.sum(np.square(error), axis=-1))
        assert abs(10 * np.log10(measured / found.noise(factors))) < 1
