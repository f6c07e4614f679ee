"""weight-fp8 and weight-mx: nearest small floats, powers of two, forms as the standard and onnxruntime read them."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphopt.pipeline import Pipeline
from graphopt.pipeline.page import SECTIONS, page
from graphopt.testing import Applied, apply, assert_missed, model
from passes.quantize.cast_form import POWER
from passes.quantize.grid import Grid
from passes.quantize.small_floats import SMALL, Small, errors, rounded
from passes.quantize.weight_fp8 import WeightFp8
from passes.quantize.weight_int8 import WeightInt8
from passes.quantize.weight_mx import WeightMx

Array = np.ndarray[Any, Any]
DENSE = "(float[5, 80] x) => (float[5, 24] y) { y = MatMul(x, w) }"
CONV = "(float[1, 8, 9, 9] x) => (float[1, 16, 7, 7] y) { y = Conv(x, w) }"


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def at(opset: int, text: str, **weights: Array) -> ModelProto:
    return model(f'<ir_version: {10 if opset < 24 else 12}, opset_import: ["": {opset}]> g {text}', **weights)


def tensors(proto: ModelProto) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def ops(done: Applied) -> list[str]:
    return [line.split(" = ")[1].split("(")[0].split("<")[0] for line in done.body.splitlines()]


def loaded(proto: ModelProto) -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "loaded.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    return {one.op_type for one in nodes if not one.op_type.startswith("Reorder")}


def finite(small: Small) -> Array:
    """All numbers of the type, ascending."""
    values = np.arange(1 << small.bits, dtype=np.uint8).view(small.dtype).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


@pytest.mark.parametrize("name", SMALL)
def test_the_largest_number_and_its_binade(name: str) -> None:
    small = SMALL[name]
    assert finite(small)[-1] == small.largest
    assert math.floor(math.log2(small.largest)) == small.top
    assert set(small.decoded().tolist()) == set(finite(small).tolist())


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e5, 1e30])
@pytest.mark.parametrize("name", SMALL)
def test_each_value_gets_the_nearest_number(name: str, size: float) -> None:
    small, values = SMALL[name], floats(9, 50) * np.float32(size)
    scale = (np.abs(values).max(1) / np.float32(small.largest) / 1.3).astype(np.float32)  # some are clipped
    grid = Grid(scale, None, 0, 0, 0, small.dtype)
    made = rounded(values, grid, small).astype(np.float64)
    ratio = values.astype(np.float64) / scale[:, None]
    distance = np.abs(ratio[..., None] - finite(small)).min(-1)
    assert (np.abs(made - ratio) <= distance * (1 + 1e-6) + np.abs(ratio) * 2.0**-23).all()
    error = np.square(values - made * scale[:, None]).sum(1)
    np.testing.assert_allclose(errors(values, grid, small), error, rtol=1e-4)


@pytest.mark.parametrize("to", ["float8e4m3fn", "float8e5m2"])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_float8_keeps_its_bound(to: Any, granularity: Any) -> None:
    weight = floats(16, 8, 3, 3) * np.exp2(np.arange(16, dtype=np.float32)).reshape(16, 1, 1, 1)
    done = apply(WeightFp8(to, granularity, min_elements=1), at(19, CONV, w=weight))
    assert ops(done) == ["Cast", "Mul", "Conv"]
    found = tensors(done.after)
    codes, scale = found[f"w_{SMALL[to].dtype}"].astype(np.float64), found["w_scale"].astype(np.float64)
    part = 1 / 16 if to == "float8e4m3fn" else 1 / 8
    smallest = float(finite(SMALL[to])[finite(SMALL[to]) > 0][0])
    error = np.abs(codes * scale - weight)
    assert (error <= np.maximum(np.abs(weight) * part, scale * smallest / 2) * (1 + 1e-5)).all()
    assert np.abs(codes).max() == SMALL[to].largest


@pytest.mark.parametrize("to", ["float8e4m3fn", "float8e5m2"])
def test_both_forms_of_float8_are_the_same_floats(to: Any) -> None:
    proto = at(21, DENSE, w=floats(80, 24))
    feeds = [{"x": floats(5, 80)}]
    first, second = (
        apply(WeightFp8(to, form=form, min_elements=1), proto, feeds=feeds) for form in ("dequantize", "cast")
    )
    assert first.sqnr_db("y") == second.sqnr_db("y") > (30 if to == "float8e4m3fn" else 24)
    assert ops(first) == ["DequantizeLinear", "MatMul"]


@pytest.mark.parametrize("to", SMALL)
def test_what_onnxruntime_is_left_with(to: Any) -> None:
    proto = at(21, CONV, w=floats(16, 8, 3, 3))
    assert loaded(apply(WeightMx(to, min_elements=1), proto).after) == {"Conv"}
    if to != "float4e2m1":
        assert loaded(apply(WeightFp8(to, min_elements=1), proto).after) == {"Conv"}
        kept = loaded(apply(WeightFp8(to, form="dequantize", min_elements=1), proto).after)
        assert kept == {"DequantizeLinear", "Conv"}  # at every run


def test_codes_of_float8_are_not_moved() -> None:
    text = """(float[5, 80] x, int64[3] i) => (float[5, 24] y, float[3, 80] e)
        { t = Transpose(w)  y = MatMul(x, t)  e = Gather(w, i) }"""
    feeds = [{"x": floats(5, 80), "i": np.arange(3)}]
    done = apply(WeightFp8(form="dequantize", min_elements=1), at(19, text, w=floats(24, 80)), feeds=feeds)
    assert ops(done) == ["DequantizeLinear", "Transpose", "MatMul", "Gather"]


def meant(values: Array, scale: Array, shape: tuple[int, int], block: int) -> Array:
    return values.astype(np.float64) * np.repeat(scale.astype(np.float64), block, 0)[: shape[0]]


@pytest.mark.parametrize("block", [16, 32])
@pytest.mark.parametrize("to", SMALL)
def test_scales_are_powers_of_two_and_the_better_of_two(to: Any, block: int) -> None:
    small, weight = SMALL[to], floats(80, 24) * np.exp2(np.arange(24, dtype=np.float32) - 12)
    weight[:16, 3] = 0
    done = apply(WeightMx(to, block, "dequantize", min_elements=1), at(24, DENSE, w=weight), feeds=())
    found = tensors(done.after)
    codes, scale = found[f"w_{small.dtype}"], found["w_scale"]
    assert (codes.dtype, scale.dtype) == (small.dtype, POWER)
    assert scale.shape == (-(-80 // block), 24)
    exact = weight.astype(np.float64)
    for row, first in enumerate(range(0, 80, block)):
        part = exact[first : first + block]
        peak = np.abs(part).max(0)
        low = np.exp2(np.floor(np.log2(np.where(peak > 0, peak, 1))) - small.top) * np.where(
            peak > 0, 1, 2.0**small.top
        )
        tried = np.stack([low, 2 * low])
        chosen = scale[row].astype(np.float64)
        assert ((chosen == tried).any(0)).all()
        sums = [
            np.square(
                part - np.clip(part / one, -small.largest, small.largest).astype(small.dtype).astype(np.float64) * one
            ).sum(0)
            for one in tried
        ]
        mine = np.square(part - codes[first : first + block].astype(np.float64) * chosen).sum(0)
        assert (mine <= np.minimum(*sums) * (1 + 1e-5)).all()
    run: Any = ReferenceEvaluator(done.after).run
    (y,) = run(None, {"x": np.eye(5, 80, dtype=np.float32)})
    np.testing.assert_allclose(y, meant(codes, scale, (80, 24), block)[:5], rtol=1e-6)


@pytest.mark.parametrize("opset", [8, 13, 21, 24])
@pytest.mark.parametrize("to", SMALL)
def test_tables_hold_the_same_numbers_at_any_opset(to: Any, opset: int) -> None:
    small, weight = SMALL[to], floats(80, 24)
    standard = tensors(apply(WeightMx(to, 16, "dequantize", 1), at(24, DENSE, w=weight), feeds=()).after)
    expected = meant(standard[f"w_{small.dtype}"], standard["w_scale"], (80, 24), 16)
    feeds = [{"x": np.eye(5, 80, k=shift, dtype=np.float32)} for shift in (0, 40, 75)]
    done = apply(WeightMx(to, 16, min_elements=1), at(opset, DENSE, w=weight), feeds=feeds)
    session = onnxruntime.InferenceSession(done.after.SerializeToString(), providers=["CPUExecutionProvider"])
    for feed, shift in zip(feeds, (0, 40, 75), strict=True):
        np.testing.assert_allclose(session.run(None, feed)[0], expected[shift : shift + 5], rtol=1e-6)
    stored = tensors(done.after)[f"w_{small.dtype}"]
    assert stored.dtype == (ml_dtypes.uint4 if to == "float4e2m1" and opset >= 21 else np.uint8)


def test_a_convolution_has_a_power_for_each_channel() -> None:
    done = apply(WeightMx(min_elements=1), at(13, CONV, w=floats(16, 8, 3, 3)))
    assert done.applied[0].why == "16 scales along axis 0: blocks of 'Conv(y)' are not along one axis of it"
    assert done.sqnr_db("y") > 30


def test_float16_weights() -> None:
    text = "(float[5, 80] x) => (float[5, 24] y) { a = Cast<to = 10>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b) }"
    proto = at(21, text, w=floats(80, 24).astype(np.float16))
    for one in (WeightFp8(min_elements=1), WeightFp8(form="dequantize", min_elements=1), WeightMx(min_elements=1)):
        assert apply(one, proto).sqnr_db("y") > 30


def test_very_small_and_very_large_weights() -> None:
    for size in (1e-38, 1e37):
        done = apply(
            WeightMx("float4e2m1", min_elements=1), at(21, DENSE, w=floats(80, 24) * np.float32(size)), feeds=()
        )
        values = tensors(done.after)["w_powers"]
        assert np.isfinite(values).all() and (values > 0).all()


def test_opsets_that_are_too_old() -> None:
    done = apply(WeightFp8(min_elements=1), at(18, DENSE, w=floats(80, 24)))
    assert_missed(done, "quantize", "Cast from float8 needs opset 19 and the model has 18: raise it with opset{to=19}")
    done = apply(WeightFp8(form="dequantize", min_elements=1), at(18, DENSE, w=floats(80, 24)))
    assert_missed(done, "quantize", "DequantizeLinear from float8 needs opset 19")
    done = apply(WeightMx(form="dequantize", min_elements=1), at(21, DENSE, w=floats(80, 24)))
    assert_missed(done, "quantize", "DequantizeLinear by powers of two needs opset 24")


def test_a_second_time_there_is_nothing_to_do() -> None:
    for one in (WeightFp8(min_elements=1), WeightMx(min_elements=1), WeightMx("float4e2m1", min_elements=1)):
        once = apply(one, at(21, DENSE, w=floats(80, 24))).after
        assert not apply(one, once).applied
        assert not apply(WeightInt8(min_elements=1), once).applied


@pytest.mark.parametrize("kind", [WeightFp8, WeightMx])
def test_the_page_and_the_options(kind: Any) -> None:
    assert [one.title for one in page(kind).sections] == list(SECTIONS)
    with pytest.raises(ValueError, match="min-elements must not be negative"):
        kind(min_elements=-1)


def test_the_spelling() -> None:
    assert str(Pipeline.of(WeightMx("float4e2m1"))) == "weight-mx{to=float4e2m1}"
    with pytest.raises(ValueError, match="block must be at least 2"):
        WeightMx(block=1)
