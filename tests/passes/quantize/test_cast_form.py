"""form=cast: the same floats as behind DequantizeLinear, at old opsets too, computed at load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.pipeline import Pass
from graphopt.testing import Applied, apply, assert_missed, model
from passes.quantize.cast_form import Layout, lined_up, why_not_exact
from passes.quantize.weight_fixed_point import WeightFixedPoint
from passes.quantize.weight_int4 import WeightInt4
from passes.quantize.weight_int8 import WeightInt8
from passes.quantize.weight_int16 import WeightInt16

CONV = "(float[1, 8, 9, 9] x) => (float[1, 16, 7, 7] y) { y = Conv(x, w) }"
DENSE = "(float[5, 40] x) => (float[5, 24] y) { y = MatMul(x, w) }"


def floats(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


def at(opset: int, text: str) -> str:
    return f'<ir_version: {4 if opset < 10 else 10}, opset_import: ["": {opset}]> g {text}'


def ops(done: Applied) -> list[str]:
    return [line.split(" = ")[1].split("(")[0].split("<")[0] for line in done.body.splitlines()]


def initializers(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 12, 13, 18, 21, 25])
def test_scales_for_channels_at_every_opset(opset: int) -> None:
    text = at(opset, CONV)
    done = apply(WeightInt16(min_elements=1), model(text, w=floats(16, 8, 3, 3)))
    assert done.body == "w_Cast = Cast<to=1>(w_int16)\nw_floats = Mul(w_Cast, w_scale)\ny = Conv(x, w_floats)"
    found = initializers(done.after)
    assert found["w_int16"].dtype == np.int16
    assert found["w_scale"].shape == (16, 1, 1, 1)
    assert done.sqnr_db("y") > 85
    done = apply(WeightInt8(form="cast", symmetric=False, min_elements=1), model(text, w=floats(16, 8, 3, 3) + 1))
    assert ops(done) == ["Cast", "Sub", "Mul", "Conv"]
    assert done.sqnr_db("y") > 40


FORMS: dict[str, Callable[[Any], Pass]] = {
    "int8": lambda form: WeightInt8(form=form, min_elements=1),
    "asymmetric": lambda form: WeightInt8(form=form, symmetric=False, min_elements=1),
    "unsigned blocks": lambda form: WeightInt8("block", block=16, signed=False, form=form, min_elements=1),
    "int16": lambda form: WeightInt16(form=form, min_elements=1),
    "int4": lambda form: WeightInt4(form=form, min_elements=1),
    "fixed point": lambda form: WeightFixedPoint(form=form, min_elements=1),
    "fixed point channels": lambda form: WeightFixedPoint(16, "channel", form=form, min_elements=1),
}


@pytest.mark.parametrize("way", FORMS)
@pytest.mark.parametrize("text", [CONV, DENSE])
def test_both_forms_compute_with_the_same_floats(text: str, way: str) -> None:
    weight = floats(16, 8, 3, 3) if text == CONV else floats(40, 24)
    proto = model(at(21, text), w=weight)
    feeds = [{"x": floats(*((1, 8, 9, 9) if text == CONV else (5, 40)))}]
    first, second = (apply(FORMS[way](form), proto, feeds=feeds) for form in ("dequantize", "cast"))
    assert first.applied and second.applied
    assert first.sqnr_db("y") == second.sqnr_db("y")


def test_a_table_and_a_transposed_weight_are_moved_as_floats() -> None:
    text = """(float[5, 32] x, int64[7] i) => (float[5, 64] y, float[7, 32] e)
        { t = Transpose(w)  y = MatMul(x, t)  e = Gather(w, i) }"""
    feeds = [{"x": floats(5, 32), "i": np.arange(7)}]
    done = apply(WeightInt8(form="cast", min_elements=1), model(at(21, text), w=floats(64, 32)), feeds=feeds)
    assert ops(done) == ["Cast", "Mul", "Transpose", "MatMul", "Gather"]
    assert done.sqnr_db("e") > 38


def test_constant_nodes_at_an_old_opset() -> None:
    proto = model(at(9, CONV))
    weight = numpy_helper.from_array(floats(16, 8, 3, 3))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    done = apply(WeightInt16(min_elements=1), proto)
    assert ops(done) == ["Cast", "Mul", "Conv"]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves(dtype: Any) -> None:
    number = 10 if dtype is np.float16 else 16
    text = f"""(float[5, 32] x) => (float[5, 64] y)
        {{ a = Cast<to = {number}>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b) }}"""
    feeds = [{"x": floats(5, 32)}] if dtype is np.float16 else ()
    done = apply(
        WeightInt8(form="cast", min_elements=1), model(at(13, text), w=floats(32, 64, dtype=dtype)), feeds=feeds
    )
    assert ops(done) == ["Cast", "Cast", "Mul", "Cast", "MatMul", "Cast"]
    if feeds:
        assert done.sqnr_db("y") > 36


def test_opsets_that_are_too_old_say_what_helps() -> None:
    done = apply(WeightInt16(min_elements=1), model(at(6, CONV), w=floats(16, 8, 3, 3)))
    assert_missed(done, "quantize", "Mul by scales needs opset 7 and the model has 6: raise it with opset{to=7} first")
    done = apply(WeightInt4(form="cast", min_elements=1), model(at(13, CONV), w=floats(16, 8, 3, 3)))
    assert_missed(done, "quantize", "Cast from 4 bits needs opset 21 and the model has 13")


def test_a_second_time_there_is_nothing_to_do() -> None:
    once = apply(WeightInt16(min_elements=1), model(at(13, CONV), w=floats(16, 8, 3, 3))).after
    for again in (WeightInt16(min_elements=1), WeightInt8(min_elements=1)):
        assert not apply(again, once).applied


def test_blocks_are_counted_in_what_the_file_takes() -> None:
    text = "(float[5, 512] x) => (float[5, 1] y) { y = MatMul(x, w) }"
    done = apply(WeightInt8("block", form="cast", min_elements=1), model(at(21, text), w=floats(512, 1)))
    assert_missed(done, "quantize", "it would not be smaller")


@pytest.mark.parametrize("seed", range(5))
def test_a_point_for_each_channel_is_the_largest_that_fits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((16, 8, 3, 3)) * np.exp2(rng.integers(-20, 20, (16, 1, 1, 1)))).astype(np.float32)
    weight[3] = 0
    done = apply(WeightFixedPoint(granularity="channel", min_elements=1), model(at(13, CONV), w=weight))
    found = initializers(done.after)
    codes, scale = found["w_int8"].astype(np.float64), found["w_scale"].astype(np.float64).reshape(16, 1, 1, 1)
    mantissa, _ = np.frexp(scale)
    assert (mantissa == 0.5).all()
    assert (np.abs(codes * scale - weight) <= scale / 2).all()
    finer = np.rint(weight / (scale / 2))
    leaves = ((finer < -128) | (finer > 127)).any((1, 2, 3))
    assert leaves[[i for i in range(16) if i != 3]].all()
    assert scale[3] == 1


def test_a_given_point_has_no_channels() -> None:
    with pytest.raises(ValueError, match="a given p is the same for every channel"):
        WeightFixedPoint(p=3, granularity="channel")


def test_layouts() -> None:
    values = np.arange(3.0)
    assert lined_up(values, 4, 1).shape == (3, 1, 1)
    assert lined_up(values, 2, 1).shape == (3,)
    assert lined_up(np.ones(1), 4, 1).shape == ()
    assert Layout((6, 4), 0, 2).spread_out(np.ones((3, 4))).shape == (3, 4)


def test_which_codes_are_not_exact() -> None:
    assert why_not_exact(3, np.array([3], np.int8)) is None
    assert why_not_exact(6, None) is None
    assert why_not_exact(6, np.array(1, np.int32)) == "its codes are int32 with a zero point"
    assert why_not_exact(17, np.array(1, ml_dtypes.float8_e4m3fn)) == "its codes are float8_e4m3fn with a zero point"
    assert why_not_exact(8, None) == "its codes are of element type 8"
