"""weight-fixed-point: powers of two, what a given p does, and what it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.testing import apply, assert_missed, model
from passes.quantize.weight_fixed_point import WeightFixedPoint

DENSE = "g (float[N, 16] x) => (float[N, 24] y) { y = MatMul(x, w) }"


def weight(size: float = 1.0) -> Any:
    values = np.random.default_rng(0).uniform(-size, size, (16, 24))
    values[0, 0] = size
    return values.astype(np.float32)


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def test_the_scale_is_a_power_of_two_and_products_are_exact() -> None:
    values = weight(0.97)
    done = apply(WeightFixedPoint(min_elements=1), model(DENSE, w=values))
    assert done.body == "w_dequantized = DequantizeLinear(w_int8, w_scale)\ny = MatMul(x, w_dequantized)"
    found = tensors(done.after)
    assert found["w_scale"] == np.float32(2.0**-7)
    assert np.array_equal(found["w_int8"], np.rint(values.astype(np.float64) * 2**7))
    assert done.applied[0].why == "one scale, 0.007812"
    assert done.sqnr_db("y") > 30


@pytest.mark.parametrize(
    ("size", "p"), [(0.99, 7), (1.0, 6), (63.0, 1), (127.4, 0), (127.6, -1), (5000.0, -6), (1e-20, 73)]
)
def test_p_is_the_largest_that_fits(size: float, p: int) -> None:
    done = apply(WeightFixedPoint(min_elements=1), model(DENSE, w=weight(size)))
    assert float(tensors(done.after)["w_scale"]) == 2.0**-p


def test_a_given_p_is_taken() -> None:
    found = tensors(apply(WeightFixedPoint(p=3, min_elements=1), model(DENSE, w=weight(2.0))).after)
    assert float(found["w_scale"]) == 2.0**-3
    assert np.array_equal(found["w_int8"], np.rint(weight(2.0).astype(np.float64) * 8))


def test_a_p_that_saturates_is_refused_unless_asked_for() -> None:
    proto = model(DENSE, w=weight(2.0))
    done = apply(WeightFixedPoint(p=7, min_elements=1), proto)
    assert_missed(done, "quantize", "p=7 is too large for its values of up to 2, and saturate is false")
    assert not done.applied
    clipped = tensors(apply(WeightFixedPoint(p=7, saturate=True, min_elements=1), proto).after)["w_int8"]
    assert clipped.min() == -128
    assert clipped.max() == 127
    assert np.array_equal(clipped, np.clip(np.rint(weight(2.0).astype(np.float64) * 128), -128, 127))


def test_a_p_whose_step_float16_does_not_have_is_refused() -> None:
    text = "g (float[N, 32] x) => (float[N, 48] y) { a = Cast<to = 10>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b) }"
    values = np.full((32, 48), 1e-4, np.float16)
    done = apply(WeightFixedPoint(p=20, min_elements=1), model(text, w=values), feeds=())
    assert_missed(done, "quantize", "2^-20 is not a normal float16: p must be from -15 to 14")


def test_16_bits_need_opset_21() -> None:
    def proto(opset: int) -> ModelProto:
        return model(f'<ir_version: 10, opset_import: ["": {opset}]> {DENSE}', w=weight())

    done = apply(WeightFixedPoint(bits=16, min_elements=1), proto(21))
    found = tensors(done.after)
    assert found["w_int16"].dtype == np.int16
    assert float(found["w_scale"]) == 2.0**-14
    assert done.sqnr_db("y") > 75
    done = apply(WeightFixedPoint(bits=16, min_elements=1), proto(20))
    why = "DequantizeLinear from 16 bits needs opset 21 and the model has 20: raise it with opset{to=21} first"
    assert_missed(done, "quantize", why)


def test_one_scale_needs_no_more_than_opset_10() -> None:
    assert apply(
        WeightFixedPoint(min_elements=1), model(f'<ir_version: 5, opset_import: ["": 10]> {DENSE}', w=weight())
    ).applied


def test_16_bits_of_a_half_save_nothing() -> None:
    text = "g (float[N, 32] x) => (float[N, 48] y) { a = Cast<to = 10>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b) }"
    done = apply(WeightFixedPoint(bits=16, min_elements=1), model(text, w=np.ones((32, 48), np.float16)))
    assert_missed(done, "quantize", "it would not be smaller: 3072 bytes now")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"p": 127}, "p must be from -127 to 126, where 2\\^-p is a normal number, and 127 is not"),
        ({"p": -128}, "p must be from -127 to 126, where 2\\^-p is a normal number, and -128 is not"),
        ({"saturate": True}, "saturate needs a given p"),
        ({"min_elements": -1}, "min-elements must not be negative, and -1 is"),
    ],
)
def test_options_are_checked(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        WeightFixedPoint(**options)


def test_the_text_of_a_pipeline_builds_it() -> None:
    text = "weight-fixed-point{bits=16 p=-3 saturate=true}"
    assert str(parse(text)) == text
    assert parse(text).steps == (WeightFixedPoint(bits=16, p=-3, saturate=True),)


def test_the_page_is_complete() -> None:
    assert [one.title for one in page(WeightFixedPoint).sections] == list(SECTIONS)
