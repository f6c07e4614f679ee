"""weight-codebook: k-means theorems, how indices are stored, what onnxruntime is left with at load."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.pipeline.page import SECTIONS, page
from graphopt.testing import Applied, apply, assert_missed, model
from graphopt.testing.running import USUAL, outputs_of
from passes.quantize.clusters import Points, nearest
from passes.quantize.codebooks import Codebook, exactly, scaled, shared
from passes.quantize.weight_codebook import WeightCodebook
from passes.quantize.weight_int8 import WeightInt8

Array = np.ndarray[Any, Any]
BITS = (2, 3, 4, 5, 6, 7, 8)
WIDE = "g (float[1, 32, 9, 9] x) => (float[1, 64, 7, 7] y) { y = Conv(x, w) }"
CONV = "(float[1, 8, 9, 9] x) => (float[1, 16, 7, 7] y) { y = Conv(x, w) }"


def drawn(kind: str, *shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    values = {
        "normal": lambda: rng.standard_normal(shape),
        "heavy": lambda: rng.standard_t(2, shape),
        "uniform": lambda: rng.uniform(-1, 1, shape),
        "one side": lambda: rng.exponential(1, shape),
        "channels": lambda: (
            rng.standard_normal(shape) * np.exp2(rng.integers(-9, 9, (shape[0], *[1] * (len(shape) - 1))))
        ),
        "tiny": lambda: rng.standard_normal(shape) * 1e-30,
        "lumps": lambda: rng.choice([-1.0, 0.3, 0.7], shape) + rng.standard_normal(shape) * 0.01,
    }[kind]()
    return np.asarray(values, np.float32)


KINDS = ("normal", "heavy", "uniform", "one side", "channels", "tiny", "lumps")


def error(weight: Array, made: Array) -> float:
    return float(np.square(weight.astype(np.float64) - made).sum())


def uniform(weight: Array, count: int, low: float, high: float) -> Array:
    """`weight` on evenly spaced values of that number, one of them zero, over a range."""
    step = (high - low) / (count - 1)
    zero = np.rint(low / step)
    return (np.clip(np.rint(weight.astype(np.float64) / step), zero, zero + count - 1)) * step


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_element_gets_the_nearest_value(kind: str, bits: int) -> None:
    weight = drawn(kind, 40, 50)
    for book in (shared(weight, bits), scaled(weight, bits, 0), scaled(weight, bits, 1)):
        assert book.values.size <= 1 << bits
        assert book.values.dtype == np.float32
        assert (np.diff(book.values) > 0).all() or book.scale is not None
        scale = np.ones((1, 1)) if book.scale is None else book.scale.astype(np.float64)
        distances = np.abs(weight[..., None] / scale[..., None] - book.values)
        chosen = np.take_along_axis(distances, book.indices[..., None].astype(int), -1)[..., 0]
        assert (chosen <= distances.min(-1) * (1 + 1e-6) + 1e-300).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_never_above_that_of_evenly_spaced_values(kind: str, bits: int) -> None:
    weight, count = drawn(kind, 40, 50), 1 << bits
    found = error(weight, shared(weight, bits).made())
    low, high = min(float(weight.min()), 0.0), max(float(weight.max()), 0.0)
    assert found <= error(weight, uniform(weight, count, low, high)) * (1 + 1e-6)
    step = float(np.abs(weight).max()) / (count // 2 - 1)
    assert found <= error(weight, uniform(weight, count, -count // 2 * step, (count // 2 - 1) * step)) * (1 + 1e-6)
    for axis in (0, 1):
        peak = np.abs(weight).max(1 - axis, keepdims=True).astype(np.float64)
        steps = peak / (count // 2 - 1)
        grid = np.clip(np.rint(weight / steps), -count // 2, count // 2 - 1) * steps
        assert error(weight, scaled(weight, bits, axis).made()) <= error(weight, grid) * (1 + 1e-5)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_normal_weights_come_near_to_the_best_quantizer(bits: int) -> None:
    """Max 1960: 14.62 dB for 8 levels, 20.22 for 16."""
    weight = drawn("normal", 256, 256)
    best = {3: 14.62, 4: 20.22, 8: 43.8}[bits]
    for book in (shared(weight, bits), scaled(weight, bits, 0)):
        assert 10 * np.log10(float(np.square(weight).sum()) / error(weight, book.made())) > best - 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_never_raises_the_error(kind: str) -> None:
    weight = drawn(kind, 2000)
    points = Points.of(weight)
    centres = np.linspace(weight.min(), weight.max(), 9)
    before = points.error(centres)
    after = points.lloyd(centres)
    assert points.error(after) <= before * (1 + 1e-12)
    assert points.error(after) == pytest.approx(error(weight, after[nearest(weight, after)]), rel=1e-6)
    means = [weight[nearest(weight, after) == i].astype(np.float64) for i in range(9)]
    settled = [abs(float(one.mean()) - after[i]) for i, one in enumerate(means) if one.size]
    assert max(settled) <= 1e-3 * float(weight.max() - weight.min())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3, 16, 256])
def test_a_rough_sort_first_finds_the_same(kind: str, count: int) -> None:
    numbers = drawn(kind, 30_000)
    for centres in (np.sort(numbers[:count]), np.linspace(numbers.min(), numbers.max(), count), np.ones(count)):
        middles = (centres.astype(np.float64)[1:] + centres.astype(np.float64)[:-1]) / 2
        tried = np.concatenate([numbers, middles.astype(np.float32)])
        assert np.array_equal(nearest(tried, centres), np.searchsorted(middles, tried.astype(np.float64), side="left"))


def test_weights_of_points_count() -> None:
    numbers, weights = np.array([0.0, 1.0, 10.0]), np.array([1.0, 3.0, 1.0])
    assert Points.of(numbers, weights).lloyd(np.array([0.4, 9.0])).tolist() == [0.75, 10.0]
    assert Points.of(numbers, weights).error(np.array([0.75, 10.0])) == pytest.approx(0.75**2 + 3 * 0.25**2)


def test_a_pinned_centre_stays() -> None:
    points = Points.of(np.array([0.0, 0.0, 0.4, 5.0]))
    assert points.lloyd(np.array([0.0, 4.0]), np.array([True, False])).tolist() == [0.0, 5.0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_pruned_weights_stay_pruned(bits: int) -> None:
    weight = drawn("normal", 40, 50)
    weight[np.abs(weight) < 0.6] = 0
    for book in (shared(weight, bits), scaled(weight, bits, 0)):
        assert ((book.made() == 0) >= (weight == 0)).all()
        assert not np.signbit(book.made()[weight == 0]).any()


def test_few_values_are_kept_exactly() -> None:
    weight = np.random.default_rng(0).choice(np.array([-0.3, 0.0, 0.1, 7.0], np.float32), (40, 50))
    book = exactly(weight, 2)
    assert book is not None and book.exact
    assert np.array_equal(book.made(), weight)
    assert exactly(np.append(weight, np.float32(8)), 2) is None
    assert exactly(np.array([0.0, -0.0], np.float32), 2) is None
    assert exactly(np.arange(300, dtype=np.float32), 8) is None


def test_zeros_and_single_elements() -> None:
    for weight in (np.zeros((4, 5), np.float32), np.full((1, 1), 3, np.float32), np.full((4, 5), -2, np.float32)):
        for book in (shared(weight, 4), scaled(weight, 4, 0)):
            assert np.allclose(book.made(), weight, rtol=1e-6)


def convolution(bits: Any, opset: int = 21, granularity: Any = "channel", pass_: Any = None, **more: Any) -> Applied:
    text = f'<ir_version: 10, opset_import: ["": {opset}]> g {CONV}'
    weights = more or {"w": drawn("normal", 16, 8, 3, 3)}
    return apply(pass_ or WeightCodebook(bits, granularity, min_elements=1), model(text, **weights))


def ops(done: Applied) -> list[str]:
    return [line.split(" = ")[1].split("(")[0].split("<")[0] for line in done.body.splitlines()]


def tensors(proto: ModelProto) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def test_the_form_with_scales() -> None:
    done = convolution(4)
    assert done.body == (
        "w_Cast = Cast<to=6>(w_indices)\nw_Gather = Gather(w_codebook, w_Cast)\n"
        "w_Mul = Mul(w_Gather, w_scale)\ny = Conv(x, w_Mul)"
    )
    found = tensors(done.after)
    assert found["w_indices"].dtype == ml_dtypes.uint4
    assert found["w_codebook"].shape == (16,)
    assert found["w_scale"].shape == (16, 1, 1, 1)
    assert done.applied[0].why == "16 values, 16 scales along axis 0"
    assert done.sqnr_db("y") > 17


def test_the_form_without_scales() -> None:
    done = convolution(8, 13, "tensor")
    assert ops(done) == ["Cast", "Gather", "Conv"]
    assert tensors(done.after)["w_indices"].dtype == np.uint8
    assert done.applied[0].why == "256 values"


@pytest.mark.parametrize(
    ("bits", "opset", "kind"),
    [(2, 25, ml_dtypes.uint2), (2, 21, ml_dtypes.uint4), (3, 21, ml_dtypes.uint4), (5, 25, np.uint8)],
)
def test_indices_are_as_narrow_as_the_opset_allows(bits: int, opset: int, kind: Any) -> None:
    assert tensors(convolution(bits, opset).after)["w_indices"].dtype == kind


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize(("bits", "each"), [(4, 2), (3, 2), (2, 4)])
def test_old_opsets_hold_several_indices_in_a_byte(bits: Any, each: int, granularity: Any) -> None:
    weight = drawn("normal", 64, 32, 3, 3)
    text = f'<ir_version: 4, opset_import: ["": 8]> {WIDE}'
    done = apply(WeightCodebook(bits, granularity), model(text, w=weight))
    found = tensors(done.after)
    assert found["w_indices"].dtype == np.uint8
    assert found["w_indices"].size == weight.size // each
    assert found["w_codebook"].shape == (256, each)
    assert f"{each} indices in a byte" in done.applied[0].why
    new = apply(
        WeightCodebook(bits, granularity),
        model(text.replace('"": 8', '"": 21').replace("version: 4", "version: 10"), w=weight),
    )
    assert done.sqnr_db("y") == pytest.approx(new.sqnr_db("y"), abs=0.01)


def test_small_weights_take_a_byte_an_index_at_old_opsets() -> None:
    done = convolution(4, 13)
    assert "a byte for each index" in done.applied[0].why
    assert tensors(done.after)["w_indices"].dtype == np.uint8


def loaded(proto: ModelProto) -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "loaded.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        graphs, found = [onnx.load(options.optimized_model_filepath).graph], set()
    while graphs:
        for node in graphs.pop().node:
            found |= set() if node.op_type.startswith("Reorder") else {node.op_type}
            graphs += [one.g for one in node.attribute if one.HasField("g")]
    return found


@pytest.mark.parametrize(("bits", "opset"), [(4, 21), (8, 13), (2, 25), (4, 11)])
def test_onnxruntime_looks_up_at_load(bits: Any, opset: int) -> None:
    text = f'<ir_version: 10, opset_import: ["": {opset}]> {WIDE}'
    done = apply(WeightCodebook(bits), model(text, w=drawn("normal", 64, 32, 3, 3)))
    assert loaded(done.after) == {"Conv"}


def test_in_a_body() -> None:
    text = """g (bool c, float[1, 8, 9, 9] x) => (float[1, 16, 7, 7] y) {
        y = If(c)<then_branch = t () => (float[1, 16, 7, 7] o) { n = Neg(x)  o = Conv(n, w) },
                  else_branch = e () => (float[1, 16, 7, 7] o) { o = Conv(x, w) }> }"""
    done = apply(WeightCodebook(min_elements=1), model(text, w=drawn("normal", 16, 8, 3, 3)))
    assert len(done.applied) == 1
    assert loaded(done.after) <= {"If", "Conv", "Neg"}


def test_few_values_make_no_difference_at_all() -> None:
    weight = np.random.default_rng(0).choice(np.array([-0.3, 0.0, 0.1, 7.0], np.float32), (16, 8, 3, 3))
    done = convolution(2, w=weight)
    assert ops(done) == ["Cast", "Gather", "Conv"]
    assert done.applied[0].why == "4 values, exactly its own"
    assert done.sqnr_db("y") == float("inf")


def test_float16() -> None:
    text = "g (float[5, 32] x) => (float[5, 64] y) { a = Cast<to = 10>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b) }"
    for granularity in ("channel", "tensor"):
        weight = drawn("normal", 32, 64).astype(np.float16)
        done = apply(WeightCodebook(8, granularity, min_elements=1), model(text, w=weight))
        assert done.sqnr_db("y") > 36


def test_a_codebook_is_no_weight_for_a_second_pass() -> None:
    text = (
        '<ir_version: 10, opset_import: ["": 13]> g (float[1, 32, 9, 9] x) => (float[1, 64, 7, 7] y) { y = Conv(x, w) }'
    )
    once = apply(WeightCodebook(2), model(text, w=drawn("normal", 64, 32, 3, 3))).after
    for again in (WeightCodebook(8, min_elements=1), WeightInt8(min_elements=1)):
        done = apply(again, once)
        assert not done.applied
        assert_missed(done, done.missed[0].rule, "it is the codebook of a weight, not a weight")


def test_what_is_left() -> None:
    done = convolution(4, w=drawn("normal", 16, 8, 3, 3), pass_=WeightCodebook(skip=("w",), min_elements=1))
    assert_missed(done, "share", "skip has 'w'")
    done = convolution(4, w=np.where(np.arange(1152) == 5, np.nan, 1).astype(np.float32).reshape(16, 8, 3, 3))
    assert_missed(done, "share", "it has a NaN")
    text = "g (float[1, 2, 9, 9] x) => (float[1, 4, 7, 7] y) { y = Conv(x, w) }"
    done = apply(WeightCodebook(8, min_elements=1), model(text, w=drawn("normal", 4, 2, 3, 3)))
    assert_missed(done, "share", "it would not be smaller: 288 bytes now")
    old = f'<ir_version: 3, opset_import: ["": 6]> g {CONV}'
    proto = model(old)
    weight = numpy_helper.from_array(drawn("normal", 16, 8, 3, 3))
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=weight))
    assert_missed(apply(WeightCodebook(min_elements=1), proto), "share", "the model has IR version 3")
    proto.ir_version = 4
    done = apply(WeightCodebook(min_elements=1), proto)
    assert_missed(done, "share", "Mul by scales needs opset 7 and the model has 6: raise it with opset{to=7} first")


def test_without_scales_any_opset_will_do() -> None:
    done = convolution(8, 6, "tensor", w=drawn("normal", 64, 8, 3, 3)[:16])
    assert ops(done) == ["Cast", "Gather", "Conv"]


def test_large_weights_in_parts() -> None:
    weight = drawn("normal", 3, 300_001)
    for book in (shared(weight, 4), scaled(weight, 4, 0)):
        assert 10 * np.log10(float(np.square(weight.astype(np.float64)).sum()) / error(weight, book.made())) > 19


def test_the_page_and_the_spelling() -> None:
    assert [one.title for one in page(WeightCodebook).sections] == list(SECTIONS)
    assert str(Pipeline.of(WeightCodebook(8))) == "weight-codebook{bits=8}"
    with pytest.raises(ValueError, match="min-elements must not be negative"):
        WeightCodebook(min_elements=-1)


def test_results_are_deterministic_and_run_optimized() -> None:
    proto = model(f"g {CONV}", w=drawn("heavy", 16, 8, 3, 3))
    feeds = [{"x": drawn("normal", 1, 8, 9, 9)}]
    one, other = (apply(WeightCodebook(min_elements=1), proto).after for _ in range(2))
    assert one == other
    found: Any = outputs_of(one.SerializeToString(), feeds, USUAL)[0]["y"]
    assert np.isfinite(found).all()


def test_a_codebook_of_one_scale_for_each_channel_keeps_each_channel() -> None:
    weight = drawn("channels", 32, 200)
    book: Codebook = scaled(weight, 8, 0)
    ratio = np.square(weight.astype(np.float64)).sum(1) / np.square(weight - book.made().astype(np.float64)).sum(1)
    assert (10 * np.log10(ratio) > 38).all()
