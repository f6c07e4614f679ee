"""ort-qlinear: operators between DequantizeLinear and QuantizeLinear on integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.qlinear import OrtQlinear

RNG = np.random.default_rng(0)
U8, S8 = np.uint8, np.int8
GRIDS = {"s": np.float32(0.02), "t": np.float32(0.03), "r": np.float32(0.05)}


def integers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Any:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape, dtype=dtype)


def qlinear(
    text: str, shape: str = "3, 4", dtype: Any = U8, opset: int = 17, out: str = "", feeds: Any = None, **weights: Any
) -> Applied:
    """Run on `text`, where x is the input, f its numbers, m the result, and y the integers of that."""
    given = {**GRIDS, "z": dtype(9), "v": dtype(4)} | weights
    kind = np.dtype(dtype).name
    dims = tuple(int(one) for one in shape.split(","))
    sizes = ", ".join("ABCD"[: len(dims)])
    head = f'<ir_version: 8, opset_import: ["": {opset}]> g ({kind}[{shape}] x) => ({out or kind}[{sizes}] y)'
    nodes = f"f = DequantizeLinear(x, s, z) {text} y = QuantizeLinear(m, t, v)"
    drawn = [{"x": integers(dims, dtype, seed)} for seed in range(3)]
    return apply(OrtQlinear(), model(f"{head} {{ {nodes} }}", **given), feeds=drawn if feeds is None else feeds)


@pytest.mark.parametrize("dtype", [U8, S8])
@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("Sigmoid(f)", "QLinearSigmoid(x, s, z, t, v)"),
        ("LeakyRelu<alpha=0.2>(f)", "QLinearLeakyRelu<alpha=0.2>(x, s, z, t, v)"),
        ("Softmax<axis=1>(f)", "QLinearSoftmax<axis=1, opset=17>(x, s, z, t, v)"),
        ("Softmax(f)", "QLinearSoftmax<axis=-1, opset=17>(x, s, z, t, v)"),
    ],
)
def test_functions_of_one_value(call: str, after: str, dtype: Any) -> None:
    done = qlinear(f"m = {call}", dtype=dtype, t=np.float32(1 / 256), v=dtype(0))
    assert done.body == f"y = com.microsoft.{after}"


@pytest.mark.parametrize("dtype", [U8, S8])
@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("GlobalAveragePool(f)", "QLinearGlobalAveragePool(x, s, z, t, v)"),
        ("AveragePool<kernel_shape=[2,2]>(f)", "QLinearAveragePool<kernel_shape=[2, 2]>(x, s, z, t, v)"),
        (
            "AveragePool<auto_pad='SAME_UPPER', kernel_shape=[2,2], strides=[2,2]>(f)",
            "QLinearAveragePool<auto_pad='SAME_UPPER', kernel_shape=[2, 2], strides=[2, 2]>(x, s, z, t, v)",
        ),
    ],
)
def test_averages(call: str, after: str, dtype: Any) -> None:
    done = qlinear(f"m = {call}".replace("'", '"'), "2, 3, 5, 5", dtype)
    assert done.body == f"y = com.microsoft.{after}"


def test_dilated_averages_stay() -> None:
    done = qlinear("m = AveragePool<kernel_shape=[2,2], dilations=[2,2]>(f)", "2, 3, 5, 5", opset=19)
    assert_missed(done, "averagepool", "no dilations")
    assert done.after == done.before


@pytest.mark.parametrize("dtype", [U8, S8])
@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_sums_and_products(op: str, dtype: Any) -> None:
    done = qlinear(f"g = DequantizeLinear(w, r, z) m = {op}(f, g)", dtype=dtype, w=integers((3, 4), dtype, 7))
    assert done.body == f"y = com.microsoft.QLinear{op}(x, s, z, w, r, z, t, v)"
    done = qlinear(f"m = {op}(f, f)", dtype=dtype)
    assert done.body == f"y = com.microsoft.QLinear{op}(x, s, z, x, s, z, t, v)"


@pytest.mark.parametrize("opset", [10, 13, 17, 21])
@pytest.mark.parametrize(("dtype", "weight"), [(U8, U8), (U8, S8), (S8, S8)])
def test_matrix_products(dtype: Any, weight: Any, opset: int) -> None:
    done = qlinear(
        "g = DequantizeLinear(w, r, u) m = MatMul(f, g)", "3, 4", dtype, opset, w=integers((4, 5), weight), u=weight(3)
    )
    assert done.body == "y = QLinearMatMul(x, s, z, w, r, u, t, v)"
    assert {one.domain for one in done.after.opset_import} == {""}


def test_signed_with_unsigned_stays() -> None:
    done = qlinear("g = DequantizeLinear(w, r, u) m = MatMul(f, g)", "3, 4", S8, w=integers((4, 5), U8), u=U8(3))
    assert_missed(done, "matmul", "no kernel for int8, uint8, int8")
    done = qlinear("m = Sigmoid(f)", dtype=U8, out="int8", v=S8(0))
    assert_missed(done, "sigmoid", "signed integers on one side")


CONV = "g = DequantizeLinear{axis}(w, r, u) m = Conv<pads=[1,1,1,1]>(f, g{bias})"
AFTER = "y = QLinearConv<pads=[1, 1, 1, 1]>(x, s, z, w, r, u, t, v{})"


@pytest.mark.parametrize(("dtype", "weight"), [(U8, U8), (U8, S8), (S8, S8)])
def test_a_convolution(dtype: Any, weight: Any) -> None:
    text = CONV.format(axis="", bias="")
    done = qlinear(text, "1, 3, 5, 5", dtype, w=integers((2, 3, 3, 3), weight), u=weight(3), t=np.float32(0.5))
    assert done.body == AFTER.format("")


def test_a_scale_for_each_channel_and_a_bias() -> None:
    weights: dict[str, Any] = {"w": integers((2, 3, 3, 3), S8), "u": np.zeros(2, S8), "t": np.float32(0.5)}
    weights |= {"r": np.array([0.01, 0.02], np.float32), "b": np.array([1.5, -2], np.float32)}
    text = CONV.format(axis="<axis=0>", bias=", b")
    done = qlinear(text, "1, 3, 5, 5", U8, **weights)
    assert done.body == AFTER.format(", fused")
    made = next(one for one in done.after.graph.initializer if one.name == "fused")
    assert np.frombuffer(made.raw_data, np.int32).tolist() == [7500, -5000]
    assert "b" not in {one.name for one in done.after.graph.initializer}


def test_a_bias_that_is_quantized_already() -> None:
    weights: dict[str, Any] = {"w": integers((2, 3, 3, 3), S8), "u": S8(0), "t": np.float32(0.5)}
    weights |= {"b": np.array([1500, -2000], np.int32), "c": np.float32(0.02 * 0.05), "n": np.int32(0)}
    text = "h = DequantizeLinear(b, c, n) " + CONV.format(axis="", bias=", h")
    done = qlinear(text, "1, 3, 5, 5", U8, **weights)
    assert done.body == AFTER.format(", b")


@pytest.mark.parametrize(
    ("axis", "change", "why"),
    [
        ("<axis=1>", {"r": np.full(3, 0.01, np.float32), "u": np.zeros(3, S8)}, "scales along another axis"),
        ("<axis=0>", {"r": np.full(2, 0.01, np.float32), "u": np.array([0, 1], S8)}, "several zero points"),
        ("", {"b": np.array([1e9, 0], np.float32)}, "does not fit into 32 bits"),
    ],
)
def test_convolutions_that_stay(axis: str, change: dict[str, Any], why: str) -> None:
    weights: dict[str, Any] = {"w": integers((2, 3, 3, 3), S8), "u": S8(0), "b": np.zeros(2, np.float32)} | change
    done = qlinear(CONV.format(axis=axis, bias=", b"), "1, 3, 5, 5", U8, **weights)
    assert_missed(done, "conv", why)
    assert done.after == done.before


def test_what_others_read_stays_for_them() -> None:
    text = """g (uint8[3, 4] x) => (uint8[3, 4] y, float[3, 4] e) {
        f = DequantizeLinear(x, s, z) m = Sigmoid(f) y = QuantizeLinear(m, t, z) e = Exp(f) }"""
    done = apply(OrtQlinear(), model(text, z=U8(9), s=GRIDS["s"], t=GRIDS["t"]))
    assert "y = com.microsoft.QLinearSigmoid(x, s, z, t, z)" in done.body
    assert "f = DequantizeLinear(x, s, z)" in done.body


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("m = Sqrt(f)", {}),
        ("m = Sigmoid(f)", {"s": np.float32(0)}),
        ("m = Sigmoid(f)", {"t": np.float32(1e-40)}),
    ],
)
def test_what_does_not_fit_stays(text: str, weights: dict[str, Any]) -> None:
    done = qlinear(text, feeds=(), **weights)
    assert done.after == done.before


@pytest.mark.parametrize(
    ("activation", "weight", "fuses"), [(U8, U8, True), (U8, S8, True), (S8, S8, True), (S8, U8, False)]
)
def test_types_that_a_convolution_has_kernels_for(activation: Any, weight: Any, fuses: bool) -> None:
    done = qlinear(
        "k = DequantizeLinear(w, r, o) m = Conv(f, k)",
        "1, 2, 4, 4",
        activation,
        w=integers((3, 2, 2, 2), weight),
        o=weight(1),
        t=np.float32(0.0312),  # no sum lies half way between two integers
    )
    assert ("QLinearConv" in done.body) == fuses
    if not fuses:
        assert_missed(done, "conv", "there is no kernel for int8, uint8, int8")


def test_a_bias_that_is_computed() -> None:
    text = "k = DequantizeLinear(w, r, o) c = Cast<to = 1>(b) m = Conv(f, k, c)"
    given: dict[str, Any] = {"w": integers((3, 2, 2, 2), S8), "o": S8(0), "b": np.arange(3)}
    assert_missed(qlinear(text, "1, 2, 4, 4", U8, **given), "conv", "its bias is not constant")
