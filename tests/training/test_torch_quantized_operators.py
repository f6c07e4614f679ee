"""Quantization: the same codes as onnxruntime, and gradients that pass straight through."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from one_operator import agree, floats

from graphopt.testing.text import model
from graphopt.training.program import Program

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

X = floats(3, 4) * 4
SCALES = np.array([0.05, 0.02, 0.1, 0.03], np.float32)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16])
def test_codes_of_a_tensor(kind: Any) -> None:
    for zero in (0, 7):
        agree("QuantizeLinear", X, np.float32(0.03), np.array(zero, kind))
    agree("QuantizeLinear", X, np.float32(0.03))


def test_ties_go_to_even_before_the_zero_point() -> None:
    agree("QuantizeLinear", np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32), np.float32(1), np.array(3, np.int8))


def test_codes_of_an_axis() -> None:
    zeros = np.array([1, -2, 3, 4], np.int8)
    agree("QuantizeLinear", X, SCALES, zeros, axis=1)
    agree("QuantizeLinear", X.T.copy(), SCALES, zeros, axis=0)
    codes = np.arange(12, dtype=np.int8).reshape(3, 4)
    agree("DequantizeLinear", codes, SCALES, zeros, axis=1)
    agree("DequantizeLinear", codes.astype(np.int32), SCALES, axis=-1)


def test_codes_of_blocks() -> None:
    scales, zeros = np.abs(floats(3, 2)) + 0.1, np.ones((3, 2), np.int8)
    agree("QuantizeLinear", X, scales, zeros, axis=1, block_size=2)
    codes = np.arange(12, dtype=np.int8).reshape(3, 4)
    agree("DequantizeLinear", codes, scales, zeros, axis=1, block_size=2)


def test_dynamic_codes() -> None:
    for x in (X, np.abs(X), -np.abs(X), np.zeros(3, np.float32)):
        agree("DynamicQuantizeLinear", x, outputs=3)


def test_products_of_codes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 255, (2, 3, 700)).astype(np.uint8), rng.integers(-128, 127, (700, 5)).astype(np.int8)
    agree("MatMulInteger", a, b, np.array(7, np.uint8), np.array(-3, np.int8))
    agree("MatMulInteger", a, b, np.array(7, np.uint8), np.arange(5, dtype=np.int8))
    agree("MatMulInteger", a, b)
    x, w = rng.integers(0, 255, (1, 3, 6, 6)).astype(np.uint8), rng.integers(0, 255, (4, 3, 3, 3)).astype(np.uint8)
    agree("ConvInteger", x, w, np.array(9, np.uint8), np.array(100, np.uint8), pads=[1, 1, 1, 1])
    one, half = np.float32(0.02), np.float32(0.5)
    zero = np.array(120, np.uint8)
    agree("QLinearMatMul", a, one, zero, b, one, np.array(0, np.int8), half, zero)
    bias = rng.integers(-999, 999, 4).astype(np.int32)
    agree("QLinearConv", x, one, zero, w, one, zero, half, zero, bias, constants=(3, 4, 5))


TEXT = """g (float[N, 4] x) => (float[N, 4] y) {
    q = QuantizeLinear(x, s, z)
    r = Reshape(q, shape)
    y = DequantizeLinear(r, s, z)
}"""


def round_trip() -> Program:
    proto = model(TEXT, s=np.float32(0.5), z=np.array(0, np.int8), shape=np.array([-1, 4]))
    return Program.of(proto)


def test_gradients_pass_inside_the_range_only() -> None:
    x = torch.tensor([[1.3, -2.2, 100.0, -100.0]], requires_grad=True)
    y = round_trip()({"x": x})["y"]
    assert y.tolist() == [[1.5, -2, 63.5, -64]]
    y.sum().backward()
    assert x.grad.tolist() == [[1, 1, 0, 0]]


def test_the_step_learns() -> None:
    program = round_trip()
    program.parameters["s"].requires_grad_(True)
    program({"x": torch.tensor([[1.3, -2.2, 100.0, -100.0]])})["y"].sum().backward()
    exact = (3 - 1.3 / 0.5) + (-4 + 2.2 / 0.5) + 127 - 128
    assert program.parameters["s"].grad.item() == pytest.approx(exact, abs=1e-5)


DYNAMIC = """g (float[N, 4] x) => (float[N, 3] y) {
    c, s, z = DynamicQuantizeLinear(x)
    i = MatMulInteger(c, w, z)
    f = Cast<to = 1>(i)
    t = Mul(s, k)
    y = Mul(f, t)
}"""


def test_dynamic_products_have_the_gradient_of_the_product() -> None:
    w = np.array([[1, 2, 3], [4, -5, 6], [7, 8, -9], [1, 0, 1]], np.int8)
    proto = model(DYNAMIC, w=w, k=np.float32(0.1))
    x = torch.from_numpy(X.copy()).requires_grad_(True)
    y = Program.of(proto)({"x": x})["y"]
    (expected,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": X})
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.tile(0.1 * w.astype(np.float32).sum(1), (3, 1)), rtol=1e-5)


def test_codes_are_integers_for_those_that_need_them() -> None:
    proto = model(
        """g (float[N, 4] x) => (int8[N, 4] y, int8[N, 4] q) {
            q = QuantizeLinear(x, s, z)
            y = Div(q, three)
        }""",
        s=np.float32(0.1),
        z=np.array(0, np.int8),
        three=np.array(3, np.int8),
    )
    made = Program.of(proto)({"x": torch.from_numpy(X)})
    assert made["y"].dtype == made["q"].dtype == torch.int8
    assert torch.equal(made["y"], torch.div(made["q"], 3, rounding_mode="trunc"))


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "int4", "uint4"])
def test_weights_stored_in_few_bits(name: str) -> None:
    import ml_dtypes

    codes = (floats(4, 3) * 3).astype(getattr(ml_dtypes, name))
    text = "g (float[N, 4] x) => (float[N, 3] y) { w = DequantizeLinear(c, s) y = MatMul(x, w) }"
    proto = model(text, c=codes, s=np.float32(0.5))
    program = Program.of(proto)
    assert list(program.parameters) == ["s"]
    settings = ort.SessionOptions()  # optimized, the product of int4 weights is one of 8-bit activations
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = ort.InferenceSession(proto.SerializeToString(), settings).run(None, {"x": X})
    np.testing.assert_allclose(program({"x": torch.from_numpy(X)})["y"].numpy(), expected, rtol=1e-5)
