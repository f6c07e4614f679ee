"""The proxy of energy, by figures worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model
from graphopt.tune.energy import CACHE, CACHE_BYTES, DRAM, FLOAT, HALF, INT8, Energy, energy


def of(proto: onnx.ModelProto) -> Energy:
    root = decode(proto, Store())
    return energy(root, infer(root))


def counted(text: str, **weights: Any) -> Energy:
    return of(model(text, **weights))


def about(compute: float, memory: float) -> Any:
    return pytest.approx((compute, memory, 0))


def parts(found: Energy) -> tuple[float, float, int]:
    return found.compute, found.memory, found.unknown


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


def test_the_prices_are_those_of_the_source() -> None:
    prices = (INT8, HALF, FLOAT)
    assert prices == pytest.approx((0.3, 1.5, 4.6))
    assert (CACHE, DRAM) == (12.5, 162.5)


def test_a_product_of_floats() -> None:
    """5 x 4 times 4 x 7: the matrix from DRAM, 20 floats in and 35 out of the cache."""
    found = counted("g (float[5, 4] x) => (float[5, 7] y) { y = MatMul(x, w) }", w=ones(4, 7))
    assert parts(found) == about(140 * 4.6, 28 * 4 * 162.5 + (20 + 35) * 4 * 12.5)


def test_floats_of_sixteen_bits_halve_the_bytes() -> None:
    text = "g (float16[5, 4] x) => (float16[5, 7] y) { y = MatMul(x, w) }"
    found = counted(text, w=ones(4, 7, dtype=np.float16))
    assert parts(found) == about(140 * 1.5, 28 * 2 * 162.5 + (20 + 35) * 2 * 12.5)


@pytest.mark.parametrize(("rows", "price"), [(CACHE_BYTES // 4, CACHE), (CACHE_BYTES // 4 + 1, DRAM)])
def test_what_does_not_fit_in_the_cache_comes_from_dram(rows: int, price: float) -> None:
    found = counted(f"g (float[{rows}] x) => (float[{rows}] y) {{ y = Softmax(x) }}")
    assert parts(found) == about(0, 2 * rows * 4 * price)


def test_an_elementwise_operator_works_on_what_its_producer_holds() -> None:
    """A product and the two behind it cost as one: the matrix, x and y, and the shift of the Add."""
    text = "g (float[5, 4] x) => (float[5, 7] y) { a = MatMul(x, w)  b = Add(a, c)  y = Relu(b) }"
    found = counted(text, w=ones(4, 7), c=ones(7))
    assert parts(found) == about(140 * 4.6, (28 + 7) * 4 * 162.5 + (20 + 35) * 4 * 12.5)


def test_only_one_of_two_operands_is_held() -> None:
    text = "g (float[6] x) => (float[6] y) { a = Exp(x)  b = Softmax(x)  y = Add(a, b) }"
    reads_and_writes = 1 + (1 + 1) + (1 + 1)  # Exp reads; Softmax reads, writes; Add reads b, writes
    assert parts(counted(text)) == about(0, reads_and_writes * 24 * 12.5)


@pytest.mark.parametrize("other", ["z = Softmax(a)", "z = Identity(a)"])
def test_what_others_read_goes_through_memory(other: str) -> None:
    text = f"g (float[6] x) => (float[6] y, float[6] z) {{ a = Exp(x)  y = Relu(a)  {other} }}"
    moves = 4 + (2 if "Softmax" in other else 0)
    assert parts(counted(text)) == about(0, moves * 24 * 12.5)


def test_views_are_free() -> None:
    text = "g (float[2, 6] x) => (float[12] y) { s = Constant<value_ints = [12]>()  y = Reshape(x, s) }"
    assert parts(counted(text)) == about(0, 0)


def test_a_table_is_read_where_it_is_asked() -> None:
    """Three rows of eight of a table of a thousand, and three places of eight bytes."""
    found = counted("g (int64[3] i) => (float[3, 8] y) { y = Gather(w, i) }", w=ones(1000, 8))
    assert parts(found) == about(0, 24 * 4 * 162.5 + 3 * 8 * 12.5 + 24 * 4 * 12.5)


QUANTIZED = """g (uint8[1, 3, 8, 8] q) => (uint8[1, 6, 6, 6] y) {
    x = DequantizeLinear(q, s, z)  v = DequantizeLinear(w, s, n)  b = DequantizeLinear(c, s)
    a = Conv(x, v, b)  y = QuantizeLinear(a, s, z)
}"""
GRID: dict[str, Any] = {
    "s": np.float32(0.5),
    "z": np.uint8(0),
    "n": np.int8(0),
    "w": ones(6, 3, 3, 3, dtype=np.int8),
    "c": ones(6, dtype=np.int32),
}
PRODUCTS = 6 * 6 * 6 * 27


def test_a_convolution_between_quantized_values_is_done_in_integers() -> None:
    """One byte an element in, of weights and out; a bias of integers; scales and zero points are read with them."""
    found = counted(QUANTIZED, **GRID)
    assert found.compute == pytest.approx(PRODUCTS * 0.3)
    scales = 3 * (4 + 1)  # of the input, the weights and the output
    weights = 6 * 27 + 6 * 4 + 4 + scales
    assert found.memory == pytest.approx(weights * 162.5 + (192 + 216) * 12.5)


@pytest.mark.parametrize("held", ["Relu", "Clip"])
def test_an_activation_before_the_grid_changes_nothing(held: str) -> None:
    text = QUANTIZED.replace("y = QuantizeLinear(a, s, z)", f"r = {held}(a)  y = QuantizeLinear(r, s, z)")
    assert parts(counted(text, **GRID)) == parts(counted(QUANTIZED, **GRID))


def test_a_convolution_whose_result_stays_a_float_is_done_in_floats() -> None:
    text = QUANTIZED.replace("  y = QuantizeLinear(a, s, z)", "  y = Relu(a)").replace("uint8[1, 6", "float[1, 6")
    found = counted(text, **GRID)
    assert found.compute == pytest.approx(PRODUCTS * 4.6)
    decoded = (6 * 27 + 6) * 4  # floats, made when the model is loaded
    read = 192 * (1 + 4 + 4)  # DequantizeLinear reads bytes and writes floats, which Conv reads
    assert found.memory == pytest.approx((decoded + 5) * 162.5 + (read + 216 * 4) * 12.5)


def test_a_product_needs_no_quantized_result() -> None:
    text = """g (uint8[5, 4] q) => (float[5, 7] y) {
        x = DequantizeLinear(q, s, z)  v = DequantizeLinear(w, s, n)  y = MatMul(x, v)
    }"""
    found = counted(text, **{**GRID, "w": ones(4, 7, dtype=np.int8)})
    assert found.compute == pytest.approx(140 * 0.3)
    assert found.memory == pytest.approx((28 + 2 * 5) * 162.5 + (20 + 35 * 4) * 12.5)


def test_stored_integers_are_decoded_as_they_are_read() -> None:
    """Half a byte a weight and a scale of four bytes a block; the products are of floats."""
    text = """g (float[5, 32] x) => (float[5, 7] y) {
        v = DequantizeLinear<axis = 0, block_size = 32>(w, s)  y = MatMul(x, v)
    }"""
    found = of(model(text, opset=21, w=np.ones((32, 7), ml_dtypes.int4), s=ones(1, 7)))
    assert found.compute == pytest.approx(5 * 32 * 7 * 4.6)
    assert found.memory == pytest.approx((112 + 28) * 162.5 + (160 + 35) * 4 * 12.5)


def test_operators_of_integers() -> None:
    text = "g (uint8[5, 4] x) => (int32[5, 7] y) { y = MatMulInteger(x, w) }"
    found = counted(text, w=ones(4, 7, dtype=np.int8))
    assert parts(found) == about(140 * 0.3, 28 * 162.5 + (20 + 35 * 4) * 12.5)


@pytest.mark.parametrize(("level", "price"), [(0, FLOAT), (4, INT8)])
def test_products_of_onnxruntime_with_stored_bits(level: int, price: float) -> None:
    text = (
        "g (float[5, 32] x) => (float[5, 7] y) { y = com.microsoft.MatMulNBits"
        f"<K = 32, N = 7, bits = 4, block_size = 32, accuracy_level = {level}>(x, w, s) }}"
    )
    found = counted(text, w=ones(7, 1, 16, dtype=np.uint8), s=ones(7, 1))
    assert parts(found) == about(5 * 32 * 7 * price, (112 + 28) * 162.5 + (160 + 35) * 4 * 12.5)


def test_what_follows_from_constants_is_read_as_a_weight() -> None:
    text = "g (float[5, 4] x) => (float[5, 7] y) { v = Mul(w, c)  y = MatMul(x, v) }"
    plain = counted("g (float[5, 4] x) => (float[5, 7] y) { y = MatMul(x, w) }", w=ones(4, 7))
    assert parts(counted(text, w=ones(4, 7), c=ones(1))) == parts(plain)


def test_bodies_count_the_dearer_branch_or_one_round() -> None:
    branch = "g (bool c, float[6] x) => (float[6] y) { y = If(c) <%s> }"
    cheap, dear = "b () => (float[6] r) { r = Relu(x) }", "b () => (float[6] r) { s = Softmax(x)  r = Softmax(s) }"
    found = counted(branch % f"then_branch = {cheap}, else_branch = {dear}")
    assert parts(found) == about(0, 4 * 24 * 12.5)


def test_unknown_sizes_are_counted_not_guessed() -> None:
    text = "g (float[4] x) => (y) { a = example.Wild(x)  y = Softmax(a) }"
    found = counted(text)
    assert found.memory == pytest.approx(16 * 12.5)
    assert found.unknown == 3  # written, read, written


def test_as_a_share_of_the_original() -> None:
    assert Energy(1.0, 3.0).against(Energy(4.0, 4.0)) == 0.5
    assert Energy().against(Energy()) == 1.0
    assert Energy(1.0).against(Energy()) == math.inf
    assert Energy(1.0, 2.0, 1) + Energy(3.0, 4.0, 2) == Energy(4.0, 6.0, 3)
