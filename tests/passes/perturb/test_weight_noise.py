"""weight-noise: how far weights move, what they get, what is left, and that dithered rounding is right on average."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.ir import decode
from graphopt.pipeline import Pipeline, manager
from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.session.api import optimize
from graphopt.storage.read import from_proto
from graphopt.testing import apply, assert_missed, model
from passes.perturb.weight_noise import WeightNoise
from passes.quantize.weight_int8 import WeightInt8

ONE = "g (float[N, 8] x) => (float[N, 12] y) { y = MatMul(x, w) }"
TWO = "g (float[N, 8] x) => (float[N, 5] y) { a = MatMul(x, v)  y = MatMul(a, w) }"


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def two() -> ModelProto:
    return model(TWO, v=floats(8, 12), w=floats(12, 5))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_no_weight_moves_by_more_than_eps_of_itself(dtype: Any) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    text = f"""g (float[N, 8] x) => (float[N, 12] y) {{
        c = Cast<to = {kind}>(x)  a = MatMul(c, w)  y = Cast<to = 1>(a) }}"""
    old = floats(8, 12, dtype=dtype)
    old[3, 4] = 0
    done = apply(WeightNoise(0.25), model(text, w=old))
    new = tensors(done.after)["w"]
    half_an_ulp = np.spacing(np.abs(old)).astype(np.float64)
    moved = np.abs(new.astype(np.float64) - old)
    assert (moved <= 0.25 * np.abs(old.astype(np.float64)) + half_an_ulp).all()
    assert new[3, 4] == 0
    assert np.count_nonzero(moved) > 90
    assert new.dtype == dtype


@pytest.mark.parametrize(("distribution", "variance"), [("uniform", 1 / 3), ("normal", 1.0)])
def test_the_noise_is_as_strong_as_asked_for(distribution: Any, variance: float) -> None:
    old = floats(128, 64)
    text = "g (float[N, 128] x) => (float[N, 64] y) { y = MatMul(x, w) }"
    done = apply(WeightNoise(0.1, distribution), model(text, w=old), feeds=())
    drawn = (tensors(done.after)["w"].astype(np.float64) / old - 1) / 0.1
    assert abs(drawn.mean()) < 0.04
    assert drawn.var() == pytest.approx(variance, rel=0.05)
    assert done.applied[0].why == f"noise {-10 * np.log10(_share(tensors(done.after)['w'], old)):.1f} dB below it"


def _share(new: Any, old: Any) -> float:
    return float(np.square(new.astype(np.float64) - old).sum() / np.square(old.astype(np.float64)).sum())


def test_a_tensor_gets_the_same_noise_whatever_else_does() -> None:
    both = tensors(apply(WeightNoise(), two()).after)
    alone = tensors(apply(WeightNoise(skip=("v",)), two()).after)
    only = tensors(apply(WeightNoise(only=("w",)), two()).after)
    assert (both["w"] == alone["w"]).all()
    assert (both["w"] == only["w"]).all()
    assert (alone["v"] == floats(8, 12)).all()
    other = tensors(apply(WeightNoise(seed=1), two()).after)
    assert (both["w"] != other["w"]).any()
    assert not np.allclose(
        both["v"].ravel()[:60] / floats(8, 12).ravel()[:60], both["w"].ravel() / floats(12, 5).ravel()
    )


def test_one_number_for_each_channel_or_tensor() -> None:
    old = floats(8, 12)
    factors = tensors(apply(WeightNoise(0.5, per="channel"), model(ONE, w=old)).after)["w"] / old
    assert np.allclose(factors, factors[:1])
    assert np.unique(factors[0].round(4)).size == 12
    factors = tensors(apply(WeightNoise(0.5, per="tensor"), model(ONE, w=old)).after)["w"] / old
    assert np.allclose(factors, factors[0, 0])


def test_noise_can_be_as_wide_in_every_place_of_a_channel() -> None:
    old = floats(512, 12) * np.geomspace(0.01, 100, 12, dtype=np.float32)
    text = "g (float[N, 512] x) => (float[N, 12] y) { y = MatMul(x, w) }"
    done = apply(WeightNoise(0.1, "normal", relative="channel"), model(text, w=old), feeds=())
    moved = tensors(done.after)["w"].astype(np.float64) - old
    assert moved.std(0) == pytest.approx(0.1 * np.sqrt(np.square(old, dtype=np.float64).mean(0)), rel=0.2)
    done = apply(WeightNoise(0.1, "normal", relative="tensor"), model(text, w=old), feeds=())
    moved = tensors(done.after)["w"].astype(np.float64) - old
    assert moved.std(0) == pytest.approx(np.full(12, 0.1 * np.sqrt(np.square(old, dtype=np.float64).mean())), rel=0.2)


@pytest.mark.parametrize("bits", [3, 8])
def test_rounding_dithered_weights_is_stochastic_rounding(bits: int) -> None:
    """The mean over many draws of what rounding to nearest gives is the weight itself, and no draw is off by a step."""
    old = np.zeros((400, 4), np.float32)
    most = (1 << bits - 1) - 1
    old[0] = 1.0  # fixes the step of each channel
    old[1:] = np.asarray([0.3, -0.77, 0.5, 0.111], np.float32) / np.float32(most) + np.float32(0.25)
    text = "g (float[N, 400] x) => (float[N, 4] y) { y = MatMul(x, w) }"
    dithered = tensors(apply(WeightNoise(dither=True, bits=bits), model(text, w=old), feeds=()).after)["w"]
    step = 1.0 / most
    rounded = np.rint(dithered.astype(np.float64) / step) * step
    assert (dithered[0] == 1.0).all()
    assert (np.abs(rounded - old) < step * 1.000001).all()
    # 399 draws a column: the mean is within four deviations, each at most half a step
    assert (np.abs((rounded - old)[1:].mean(0)) < 4 * 0.5 * step / np.sqrt(399)).all()
    nearest = np.rint(old.astype(np.float64) / step) * step
    assert np.abs((nearest - old)[1:].mean(0)).max() > 0.2 * step


def test_dithered_codes_of_weight_int8_are_off_by_less_than_a_step() -> None:
    old = floats(64, 48)
    text = "g (float[N, 64] x) => (float[N, 48] y) { y = MatMul(x, w) }"
    both = Pipeline((WeightNoise(dither=True), WeightInt8()))
    done = apply(both, model(text, w=old), laws=False)
    found = tensors(done.after)
    scale, codes = found["w_scale"].astype(np.float64), found["w_int8"].astype(np.float64)
    assert scale == pytest.approx(np.abs(old).max(0) / 127, rel=1e-6)
    error = codes * scale - old
    assert (np.abs(error) < scale * 1.0001).all()
    assert (np.abs(error) > scale * 0.5).any()
    assert abs(float((error / scale).mean())) < 4 * 0.5 / np.sqrt(error.size)


def test_the_largest_eps_that_keeps_the_outputs_is_found() -> None:
    feeds = {"x": floats(32, 8, seed=3)}
    result = optimize(two(), pipeline=Pipeline((WeightNoise(sqnr=30.0),)), calibration=feeds, feeds=feeds,
                      budget="sqnr_db>=29")  # fmt: skip
    reached = next(one.sqnr_db for one in result.verdict.outputs)
    assert 30.0 <= reached < 31.0
    (first, second) = (one.why for one in result.report.remarks if one.kind == "applied")
    assert first.endswith("of the search")
    assert first.split("eps=")[1] == second.split("eps=")[1]


def test_without_feeds_no_eps_can_be_searched() -> None:
    source = from_proto(two(), None)
    done = manager.run(lambda: decode(source.proto, source.store), Pipeline((WeightNoise(sqnr=30.0),)))
    assert [one.kind for one in done.remarks] == ["missed", "missed"]
    assert done.remarks[0].why.startswith("no eps could be searched: ")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.array([[1.0, np.nan]], np.float32), "it has a NaN"),
        (np.array([[1.0, np.inf]], np.float32), "it has an infinity"),
        (np.zeros((1, 2), np.float32), "it is all zeros"),
        (np.zeros((1, 0), np.float32), "it is empty"),
    ],
)
def test_what_noise_means_nothing_for_is_left(values: Any, why: str) -> None:
    text = f"g (float[N, 1] x) => (float[N, {values.shape[1]}] y) {{ y = MatMul(x, w) }}"
    assert_missed(apply(WeightNoise(), model(text, w=values), feeds=()), "noise", why)


def test_what_others_decide_is_left() -> None:
    proto = model(ONE, w=floats(8, 12))
    declared = proto.graph.input.add()
    declared.CopyFrom(helper.make_tensor_value_info("w", 1, [8, 12]))
    assert_missed(apply(WeightNoise(), proto), "noise", "it is also a graph input")
    shared = "g (float[N, 8] x) => (float[N, 12] y, float[8, 12] z) { y = MatMul(x, w)  z = Relu(w) }"
    assert_missed(apply(WeightNoise(), model(shared, w=floats(8, 12))), "noise", "not an operator with weights")
    integers = "g (int64[N] x) => (int64[N, 2] y) { y = Gather(w, x) }"
    proto = model(integers, w=np.arange(6, dtype=np.int64).reshape(3, 2))
    assert_missed(apply(WeightNoise(), proto, feeds=()), "noise", "it is int64, not floating point")
    assert_missed(
        apply(WeightNoise(min_elements=97), model(ONE, w=floats(8, 12))), "noise", "fewer than min-elements=97"
    )
    assert_missed(apply(WeightNoise(skip=("w*",)), model(ONE, w=floats(8, 12))), "noise", "skip has 'w*'")
    assert_missed(apply(WeightNoise(only=("v*",)), model(ONE, w=floats(8, 12))), "noise", "only does not name it")


def test_channels_must_be_one_axis_where_noise_is_for_each() -> None:
    text = """g (float[N, 6] x) => (float[N, 6] y, float[N, 6] z) {
        t = Transpose<perm = [1, 0]>(w)  y = MatMul(x, w)  z = MatMul(x, t) }"""
    done = apply(WeightNoise(per="channel"), model(text, w=floats(6, 6)))
    assert_missed(done, "noise", "are not one axis of it")
    assert len(apply(WeightNoise(), model(text, w=floats(6, 6))).applied) == 1


@pytest.mark.parametrize("opset", [7, 13, 21])
def test_any_opset_will_do(opset: int) -> None:
    assert len(apply(WeightNoise(), model(ONE, opset=opset, w=floats(8, 12))).applied) == 1


def test_weights_of_bodies_get_noise_of_their_own() -> None:
    text = """g (bool c, float[N, 8] x) => (float[N, 5] y) {
        y = If(c) <
            then_branch = t () => (float[N, 5] p) { w = Constant<value = float[8, 5] {%s}>()  p = MatMul(x, w) },
            else_branch = e () => (float[N, 5] q) { w = Constant<value = float[8, 5] {%s}>()  q = MatMul(x, w) }
        > }"""
    values = ", ".join(f"{one:.6f}" for one in floats(8, 5).ravel())
    done = apply(WeightNoise(), model(text % (values, values)))
    assert len(done.applied) == 2
    bodies = [attribute.g for attribute in done.after.graph.node[0].attribute]
    first, second = (numpy_helper.to_array(body.node[0].attribute[0].t) for body in bodies)
    assert (first != second).any()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("eps=-1", "eps must be from 0 to 1000"),
        ("sqnr=-1", "sqnr must be from 0 to 200 dB"),
        ("bits=1", "bits must be from 2 to 16"),
        ("seed=-1", "seed must not be negative"),
        ("min-elements=-1", "min-elements must not be negative"),
    ],
)
def test_wrong_options_are_refused(wrong: str, why: str) -> None:
    with pytest.raises(Exception, match=why):
        Pipeline.parse(f"weight-noise{{{wrong}}}")


def test_the_page_has_all_sections_and_the_text_reads_back() -> None:
    assert [one.title for one in page(WeightNoise).sections] == list(SECTIONS)
    assert parse("weight-noise{eps=0.1 relative=channel dither}")


@pytest.mark.parametrize(
    ("options", "good"), [({"bits": 2}, True), ({"bits": 16}, True), ({"bits": 1}, False), ({"bits": 17}, False)]
)
def test_the_ends_of_what_options_may_be(options: dict[str, int], good: bool) -> None:
    if good:
        WeightNoise(dither=True, **options)
    else:
        with pytest.raises(ValueError, match="bits"):
            WeightNoise(dither=True, **options)


def test_any_of_the_names_is_enough() -> None:
    done = apply(WeightNoise(only=("w", "none of these")), model(ONE, w=floats(8, 12)))
    assert len(done.applied) == 1


@pytest.mark.parametrize(
    "options", [{"eps": 0.0}, {"eps": 1000.0}, {"sqnr": 0.0}, {"sqnr": 200.0}, {"min_elements": 0}, {"seed": 0}]
)
def test_the_ends_of_what_numbers_may_be(options: dict[str, Any]) -> None:
    WeightNoise(**options)


def test_biases_and_what_nobody_reads_stay_and_nothing_is_said_of_them() -> None:
    text = "g (float[N, 8] x) => (float[N, 12] y) { y = Gemm(x, w, b) }"
    b, u = floats(12), floats(3)
    done = apply(WeightNoise(), model(text, w=floats(8, 12), b=b, u=u))
    assert (tensors(done.after)["b"] == b).all() and (tensors(done.after)["u"] == u).all()
    assert [one.node for one in done.remarks] == ["w"]


def test_a_weight_of_one_element_and_one_of_one_channel() -> None:
    text = "g (float[N, {0}] x) => (float[N, 1] y) {{ y = MatMul(x, w) }}"
    assert apply(WeightNoise(), model(text.format(1), w=floats(1, 1))).applied
    old = floats(8, 1)
    factors = tensors(apply(WeightNoise(0.5, per="channel"), model(text.format(8), w=old)).after)["w"] / old
    assert np.allclose(factors, factors[0, 0]) and not np.allclose(factors, 1)


def test_bfloat16_gets_noise_too() -> None:
    text = "g (bfloat16[N, 8] x) => (bfloat16[N, 12] y) { y = MatMul(x, w) }"
    assert apply(WeightNoise(), model(text, w=floats(8, 12).astype(ml_dtypes.bfloat16)), feeds=()).applied


def test_noise_that_is_too_small_for_the_type() -> None:
    assert_missed(apply(WeightNoise(1e-12), model(ONE, w=floats(8, 12))), "noise", "the noise is too small for it")


def test_channels_must_be_one_axis_also_where_only_the_strength_is_for_each() -> None:
    text = """g (float[N, 6] x) => (float[N, 6] y, float[N, 6] z) {
        t = Transpose<perm = [1, 0]>(w)  y = MatMul(x, w)  z = MatMul(x, t) }"""
    done = apply(WeightNoise(relative="channel"), model(text, w=floats(6, 6)))
    assert_missed(done, "noise", "are not one axis of it")
    assert apply(WeightNoise(dither=True), model(text, w=floats(6, 6))).applied


def test_dither_needs_no_search_and_leaves_zeros() -> None:
    old = floats(8, 12)
    old[2] = 0
    done = apply(WeightNoise(dither=True, sqnr=30.0), model(ONE, w=old))
    assert done.applied and "of the search" not in done.applied[0].why
    assert not tensors(done.after)["w"][2].any()
    old[3] = 1.0
    assert (tensors(apply(WeightNoise(dither=True), model(ONE, w=old)).after)["w"][3] != 1.0).any()


def test_dithered_in_the_steps_of_the_whole_tensor() -> None:
    old = floats(64, 2) * np.array([1, 1000], np.float32)
    text = "g (float[N, 64] x) => (float[N, 2] y) { y = MatMul(x, w) }"
    for granularity, wide in (("channel", False), ("tensor", True)):
        done = apply(WeightNoise(dither=True, granularity=granularity), model(text, w=old), feeds=())  # type: ignore[arg-type]
        moved = np.abs(tensors(done.after)["w"] - old)[:, 0].max()
        assert (moved > np.abs(old[:, 0]).max() / 127) == wide


def searched(proto: ModelProto, sqnr: float) -> list[Any]:
    feeds = {"x": floats(16, 8, seed=3)}
    made = optimize(
        proto, pipeline=Pipeline((WeightNoise(sqnr=sqnr),)), calibration=feeds, feeds=feeds, budget="max_error<=1e9"
    )
    return [(one.kind, one.why) for one in made.report.remarks]


def test_the_ends_of_the_search() -> None:
    """Where no noise matters the strongest is taken, and where all of it matters none."""
    blind = model("g (float[N, 8] x) => (float[N, 12] y) { a = MatMul(x, w)  y = Mul(a, z) }",
                  w=floats(8, 12), z=np.float32(0))  # fmt: skip
    ((kind, why),) = searched(blind, 30.0)
    assert kind == "applied" and why.endswith("eps=10 of the search")
    ((kind, why),) = searched(model(ONE, w=floats(8, 12)), 200.0)
    assert kind == "missed" and "even eps=1e-06 brings the outputs below 200 dB" in why


@pytest.mark.parametrize("options", [{"eps": 1000.5}, {"sqnr": 200.5}])
def test_numbers_beyond_the_ends(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be from 0 to"):
        WeightNoise(**options)
