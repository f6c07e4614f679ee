"""Elementwise operators, products, reductions and normalizations against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_operator import agree, floats, ints

pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

X, Y = floats(2, 3, 4), floats(3, 1, seed=1)
INTEGERS = np.array([[-7, 5, 3], [4, -9, 8]], np.int64)
DIVISORS = np.array([[2, -3, 4], [-3, 2, 5]], np.int64)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "PRelu"])
def test_broadcasting(op: str) -> None:
    agree(op, X, Y)
    agree(op, X, np.float32(2.5))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Pow"])
def test_integers(op: str) -> None:
    agree(op, INTEGERS, np.abs(DIVISORS) if op == "Pow" else DIVISORS)


def test_remainders_of_floats() -> None:
    agree("Mod", X, np.abs(Y) + 0.3, fmod=1)


@pytest.mark.parametrize("exponent", [2.0, 0.5, 3.0, -1.0])
def test_power(exponent: float) -> None:
    agree("Pow", np.abs(X) + 0.1, np.float32(exponent))
    agree("Pow", np.abs(X) + 0.1, np.full((4,), exponent, np.float32))
    agree("Pow", np.abs(X) + 0.1, np.array(exponent, np.float64))


@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_operands(op: str, count: int) -> None:
    agree(op, *[X, Y, floats(1, 4, seed=2)][:count])


UNARY = (
    "Neg Abs Sqrt Exp Log Reciprocal Floor Ceil Round Sign Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Relu "
    "Sigmoid Tanh Erf LeakyRelu Elu Celu Selu HardSigmoid HardSwish ThresholdedRelu Shrink Gelu Mish Softplus Softsign"
)


@pytest.mark.parametrize("op", UNARY.split())
def test_functions(op: str) -> None:
    x = {"Log": np.abs(X) + 0.1, "Sqrt": np.abs(X), "Acosh": np.abs(X) + 1.1}.get(op, X)
    x = np.tanh(X) if op in ("Asin", "Acos", "Atanh") else x
    agree(op, x, tolerance=2e-5)


def test_rounding_halves_to_even() -> None:
    agree("Round", np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32))


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 0.3}),
        ("Celu", {"alpha": 0.3}),
        ("Selu", {"alpha": 0.3, "gamma": 2.0}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("ThresholdedRelu", {"alpha": 0.3}),
        ("Shrink", {"bias": 0.3, "lambd": 0.2}),
        ("Gelu", {"approximate": "tanh"}),
    ],
)
def test_parameters_of_functions(op: str, attrs: dict[str, Any]) -> None:
    agree(op, X, **attrs)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("opset", [9, 11, 13])
def test_softmax(op: str, axis: int, opset: int) -> None:
    agree(op, X, axis=axis, opset=opset)


def test_clip() -> None:
    low, high = np.float32(-0.5), np.float32(0.3)
    agree("Clip", X, low, high)
    agree("Clip", X, None, high)
    agree("Clip", X, low)
    agree("Clip", X)
    agree("Clip", X, min=-0.5, max=0.3, opset=10)
    agree("Clip", X, max=0.3, opset=6, domain="")
    agree("Clip", INTEGERS, np.int64(-3), np.int64(4))


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sums(exclusive: int, reverse: int) -> None:
    for axis in (0, -1):
        agree("CumSum", X, np.array(axis, np.int32), exclusive=exclusive, reverse=reverse)


def test_comparisons() -> None:
    same = np.round(X)
    for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        agree(op, same, np.round(Y))
    for op in ("And", "Or", "Xor"):
        agree(op, X > 0, Y > 0)
    agree("Not", X > 0)
    agree("Where", X > 0, X, Y)
    odd = np.array([1, np.nan, np.inf, -np.inf], np.float32)
    agree("IsNaN", odd)
    for negative in (0, 1):
        for positive in (0, 1):
            agree("IsInf", odd, detect_negative=negative, detect_positive=positive)
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        agree(op, INTEGERS, DIVISORS)
    agree("BitwiseNot", INTEGERS)
    agree("BitShift", np.array([1, 2], np.uint8), np.array([3, 1], np.uint8), direction="LEFT")


def test_products() -> None:
    agree("MatMul", floats(5, 2, 3, 4), floats(2, 4, 5, seed=1))
    agree("MatMul", floats(4), floats(2, 4, 5, seed=1))
    agree("MatMul", floats(2, 4), floats(4, seed=1))
    agree("Einsum", floats(2, 3, 4), floats(2, 5, 4, seed=1), equation="b i d, b j d -> b i j")
    agree("Einsum", floats(3, 3), equation="ii->i")
    agree("Einsum", floats(2, 3, 4), floats(4, 5, seed=1), equation="...d,de->...e")


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
def test_gemm(left: int, right: int) -> None:
    a, b = floats(*((4, 3) if left else (3, 4))), floats(*((5, 4) if right else (4, 5)), seed=1)
    for c in (None, floats(5, seed=2), floats(3, 1, seed=2), floats(3, 5, seed=2), floats(1, seed=2), floats(1)[0]):
        operand = None if c is None else np.asarray(c)
        agree("Gemm", a, b, operand, transA=left, transB=right)
        agree("Gemm", a, b, operand, transA=left, transB=right, alpha=0.5, beta=2.0)


REDUCTIONS = ["Sum", "Mean", "Prod", "Max", "Min", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"]


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(name: str, keep: int) -> None:
    x = np.abs(X) + 0.1
    agree(f"Reduce{name}", x, ints(0, -1), keepdims=keep, opset=18)
    agree(f"Reduce{name}", x, ints(1), keepdims=keep, opset=18)
    agree(f"Reduce{name}", x, keepdims=keep, opset=18)
    agree(f"Reduce{name}", x, axes=[0, 2], keepdims=keep, opset=11)
    agree(f"Reduce{name}", x, axes=[-2], keepdims=keep, opset=12)
    agree(f"Reduce{name}", x, keepdims=keep, opset=11)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_of_no_axes(name: str) -> None:
    agree(f"Reduce{name}", np.abs(X) + 0.1, ints(), noop_with_empty_axes=0, opset=18)


def test_idle_reduction() -> None:
    agree("ReduceSum", X, ints(), noop_with_empty_axes=1, opset=18)
    agree("ReduceMax", X, ints(), noop_with_empty_axes=1, opset=18)
    agree("ReduceSum", X, ints(1), noop_with_empty_axes=1, opset=18)


@pytest.mark.parametrize("name", ["Sum", "Max", "Min", "Mean", "Prod"])
def test_reductions_of_integers(name: str) -> None:
    agree(f"Reduce{name}", INTEGERS.astype(np.int32), ints(1), opset=18)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_places(op: str, last: int) -> None:
    x = np.array([[1, 3, 3, 0, 0], [2, 2, 2, 2, 2]], np.float32)
    for axis in (0, 1, -1):
        for keep in (0, 1):
            agree(op, x, axis=axis, keepdims=keep, select_last_index=last)


C = floats(4, seed=3)


def test_normalizations() -> None:
    image = floats(2, 4, 5, 6)
    for x in (image, floats(2, 4), floats(2, 4, 7)):
        agree("BatchNormalization", x, C, C, C, np.abs(C) + 0.2, epsilon=0.01)
    agree("InstanceNormalization", image, C, C, epsilon=0.01)
    agree("LRN", image, size=3)
    agree("LRN", image, size=5, alpha=0.3, beta=0.6, bias=2.0)
    agree("MeanVarianceNormalization", image, axes=[0, 2, 3], tolerance=1e-5)
    agree("GroupNormalization", image, C, C, num_groups=2, opset=21)
    for axis in (1, -1):
        for power in (1, 2):
            agree("LpNormalization", image, axis=axis, p=power)


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_layer_normalization(axis: int) -> None:
    scale = np.random.default_rng(0).standard_normal(X.shape[axis:]).astype(np.float32)
    agree("LayerNormalization", X, scale, scale, axis=axis, epsilon=0.01)
    agree("LayerNormalization", X, scale, axis=axis)
    agree("LayerNormalization", X, scale, scale, axis=axis, outputs=3)


def test_root_mean_square_normalization() -> None:
    agree("RMSNormalization", X, floats(4), opset=23, tolerance=1e-5)


def test_bounds_that_are_left_out_are_those_of_the_type() -> None:
    odd = np.array([np.inf, -np.inf, 1], np.float32)
    agree("Clip", odd)
    agree("Clip", odd, np.float32(0))
    agree("Clip", odd, max=2.0, opset=10)
