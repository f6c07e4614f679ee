"""no-op-quantization: numbers of a grid come back to it as they were."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.idempotent import Idempotent
from passes.eliminate.no_op_quantization import NoOpQuantization

F = np.float32
EVERY = {np.uint8: np.arange(256), np.int8: np.arange(-128, 128), np.uint16: np.arange(65536)}
NAMES = {np.uint8: "uint8", np.int8: "int8", np.uint16: "uint16"}


def quantize(body: str, kind: type = np.uint8, **weights: object) -> Applied:
    text = f'<ir_version: 10, opset_import: ["": 21]> g ({NAMES[kind]}[N] x) => (float[N] y) {{ {body} }}'
    return apply(NoOpQuantization(), model(text, **weights), feeds=[{"x": EVERY[kind].astype(kind)}])


BACK = "a = DequantizeLinear(x, s, z)  b = QuantizeLinear(a, s, z)  y = DequantizeLinear(b, s, z)"


@pytest.mark.parametrize("kind", list(NAMES))
@pytest.mark.parametrize("scale", [1.0, 0.1, 0.023528477, 3e-5, 1e30, 7e-39])
def test_back_to_the_same_grid(kind: type, scale: float) -> None:
    done = quantize(BACK, kind, s=F(scale), z=np.array(100, kind))
    assert done.body == "y = DequantizeLinear(x, s, z)"
    assert [one.rule for one in done.applied] == ["requantize"]


def test_without_a_zero_point() -> None:
    body = "a = DequantizeLinear(x, s)  b = QuantizeLinear(a, s)  y = DequantizeLinear(b, s)"
    assert quantize(body, s=F(0.5)).body == "y = DequantizeLinear(x, s)"
    assert quantize(body.replace("QuantizeLinear(a, s)", "QuantizeLinear(a, s, z)"), s=F(0.5), z=np.uint8(0)).applied


def test_scales_that_lose_integers() -> None:
    """Above the largest number there are none; near zero there are as many as it takes."""
    assert quantize(BACK, s=F(1e-45), z=np.uint8(100)).applied
    assert_missed(quantize(BACK, s=F(3e38), z=np.uint8(100)), "requantize", "not every integer")


@pytest.mark.parametrize(
    ("scale", "zero"), [(F(0.5), np.uint8(100)), (F(0.25), np.uint8(101)), (F(0.25), np.int8(100))]
)
def test_another_grid(scale: np.float32, zero: np.generic) -> None:
    body = "a = DequantizeLinear(x, s, z)  b = QuantizeLinear(a, t, u)  y = DequantizeLinear(b, t, u)"
    assert quantize(body, s=F(0.25), z=np.uint8(100), t=scale, u=zero).applied == ()


def test_a_grid_for_each_channel() -> None:
    text = """g (uint8[N, 2] x) => (uint8[N, 2] y) { a = DequantizeLinear(x, s, z)  y = QuantizeLinear(a, s, z) }"""
    done = apply(NoOpQuantization(), model(text, s=np.array([1, 2], F), z=np.zeros(2, np.uint8)))
    assert done.remarks == ()


def test_a_dequantized_value_that_others_read() -> None:
    body = "a = DequantizeLinear(x, s, z)  b = QuantizeLinear(a, s, z)  c = DequantizeLinear(b, s, z)  y = Sub(a, c)"
    done = quantize(body, s=F(0.25), z=np.uint8(9))
    assert done.body == "a = DequantizeLinear(x, s, z)\nc = DequantizeLinear(x, s, z)\ny = Sub(a, c)"


def test_a_scale_that_callers_may_override() -> None:
    text = f"g (uint8[N] x, float s) => (float[N] y) {{ {BACK} }}"
    assert apply(NoOpQuantization(), model(text, s=F(0.25), z=np.uint8(9))).applied == ()


@pytest.mark.parametrize(("scale", "zero", "gone"), [(6 / 256, 0, True), (6 / 250, 0, False), (0.01, 1, False)])
def test_clip_of_what_a_grid_holds(scale: float, zero: int, gone: bool) -> None:
    text = "g (uint8[N] x) => (float[N] y) { a = DequantizeLinear(x, s, z)  b = Clip(a, lo, hi)  y = Neg(b) }"
    before = model(text, s=F(scale), z=np.uint8(zero), lo=F(0), hi=F(6))
    done = apply(Idempotent(), before, feeds=[{"x": EVERY[np.uint8].astype(np.uint8)}])
    assert bool(done.applied) == gone


@pytest.mark.parametrize("attribute", ["precision = 10", "output_dtype = 2", "block_size = 2"])
def test_a_grid_with_an_attribute_that_changes_it(attribute: str) -> None:
    """Each of them alone says more than the scale and the zero point do."""
    head = '<ir_version: 11, opset_import: ["": 23]> g (uint8[N] x) => (uint8[N] y)'
    body = f"{{ a = DequantizeLinear(x, s, z)  b = QuantizeLinear<{attribute}>(a, s, z)  y = Identity(b) }}"
    done = apply(NoOpQuantization(), model(f"{head} {body}", s=F(0.5), z=np.uint8(3)), feeds=(), laws=False)
    assert done.applied == ()
    plain = model(f"{head} {body.replace(f'<{attribute}>', '')}", s=F(0.5), z=np.uint8(3))
    assert apply(NoOpQuantization(), plain, feeds=()).applied


@pytest.mark.parametrize("scale", [np.inf, np.nan, 0.0, -1.0])
def test_scales_that_are_no_grid(scale: float) -> None:
    assert quantize(BACK, s=F(scale), z=np.uint8(0)).applied == ()


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16"])
def test_each_type_has_its_ends(kind: str) -> None:
    """At this scale the greatest integers of a type overflow, so they come back only if they are fewer."""
    from passes.eliminate.no_op_quantization import Grid

    info = np.iinfo(kind)
    number = {"uint8": 2, "int8": 3, "uint16": 4, "int16": 5}[kind]
    held = Grid(number, F(1), 0).values()
    assert (held[0], held[-1], held.size) == (info.min, info.max, 1 << info.bits)


def test_a_zero_point_that_is_no_integer() -> None:
    text = """<ir_version: 9, opset_import: ["": 19]> g (float8e4m3fn[N] x) => (float8e4m3fn[N] y) {
        a = DequantizeLinear(x, s, z)  y = QuantizeLinear(a, s, z) }"""
    zero = np.zeros((), ml_dtypes.float8_e4m3fn)
    assert apply(NoOpQuantization(), model(text, s=F(1), z=zero), feeds=()).remarks == ()


def test_without_a_zero_point_the_input_tells_the_type() -> None:
    """What is quantized without one is uint8, whatever it was before."""
    text = """<ir_version: 9, opset_import: ["": 18]> g (int8[N] x) => (float[N] y) {
        a = DequantizeLinear(x, s)  b = QuantizeLinear(a, s)  y = DequantizeLinear(b, s) }"""
    assert apply(NoOpQuantization(), model(text, s=F(0.5))).applied == ()


def test_a_scale_in_a_list_of_one() -> None:
    assert quantize(BACK, s=np.array([0.5], F), z=np.array([3], np.uint8)).applied
    text = f"g (uint8[N] x) => (float[N] y) {{ {BACK} }}"
    nested = model(text, s=np.array([[0.5]], F), z=np.array([[3]], np.uint8))
    assert apply(NoOpQuantization(), nested, feeds=()).remarks == ()
