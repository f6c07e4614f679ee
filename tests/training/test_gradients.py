"""Gradients of every family against finite differences, in doubles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_operator import Array, floats, ints, model_of

from graphopt.training.program import Program

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

X = floats(2, 3, 4)
IMAGE = floats(1, 2, 5, 4)
POSITIVE = np.abs(X) + 0.5
OWN: dict[str, Any] = {"domain": "com.microsoft"}


def check(op: str, *given: Array | None, **options: Any) -> None:
    """Compare the gradients with respect to every float operand but those whose places are `held`."""
    held = options.pop("held", ())
    special = {key: options.pop(key) for key in ("opset", "outputs", "domain") if key in options}
    program = Program.of(model_of(op, given, options, **special), compute="float64")
    names = [f"x{k}" for k, one in enumerate(given) if one is not None and k not in held]
    tensors = {f"x{k}": torch.from_numpy(one) for k, one in enumerate(given) if one is not None}
    moving = [name for name in names if tensors[name].is_floating_point()]
    inputs = [tensors[name].double().requires_grad_(True) for name in moving]

    def run(*values: Any) -> Any:
        made = program({**tensors, **dict(zip(moving, values, strict=True))})
        return tuple(one for one in made.values() if one.is_floating_point())

    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"])
def test_arithmetic(op: str) -> None:
    check(op, X, np.abs(floats(3, 1, seed=1)) + 0.3)


def test_powers() -> None:
    check("Pow", POSITIVE, floats(4, seed=1))
    check("Pow", POSITIVE, np.float32(2).reshape(1))
    check("CumSum", X, np.array(1), reverse=1, exclusive=1)
    check("Clip", X, np.array([-0.4], np.float32)[0:1].reshape(()), None)


FUNCTIONS = """
    Sqrt Exp Log Reciprocal Sin Cos Tanh Sigmoid Erf Relu LeakyRelu Elu Celu Selu HardSwish Gelu Mish Softplus Softsign
    Softmax LogSoftmax ReduceSum ReduceMean ReduceProd ReduceMax ReduceL1 ReduceL2 ReduceLogSum ReduceSumSquare
    ReduceLogSumExp
"""


@pytest.mark.parametrize("op", FUNCTIONS.split())
def test_functions_and_reductions(op: str) -> None:
    check(op, POSITIVE)


def test_products() -> None:
    check("MatMul", X, floats(4, 2, seed=1))
    check("Gemm", X[0], floats(5, 4, seed=1), floats(5, seed=2), transB=1)
    check("Gemm", X[0], floats(4, 5, seed=1), floats(3, 1, seed=2), alpha=0.5, beta=2.0)
    check("Einsum", X, floats(2, 4, 3, seed=1), equation="bij,bjk->bik")


def test_windows() -> None:
    check("Conv", IMAGE, floats(4, 1, 3, 2, seed=1), floats(4, seed=2), group=2, pads=[1, 0, 0, 1], strides=[2, 1])
    check("ConvTranspose", IMAGE, floats(2, 3, 3, 2, seed=1), floats(3, seed=2), strides=[2, 3], pads=[1, 0, 0, 1])
    for op in ("MaxPool", "AveragePool"):
        check(op, IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=1)
    check("GlobalAveragePool", IMAGE)
    check("LpPool", IMAGE, kernel_shape=[2, 2])
    check("Resize", IMAGE, None, np.array([1, 1, 1.7, 0.6], np.float32), mode="cubic", held=(2,))
    check("Resize", IMAGE, None, np.array([1, 1, 2, 2], np.float32), mode="nearest", held=(2,))


def test_normalizations() -> None:
    scale, bias, spread = floats(2, seed=1), floats(2, seed=2), np.abs(floats(2, seed=3)) + 0.3
    check("BatchNormalization", IMAGE, scale, bias, bias, spread)
    check("InstanceNormalization", IMAGE, scale, bias)
    check("GroupNormalization", IMAGE, scale, bias, num_groups=2)
    check("LayerNormalization", X, floats(4), floats(4, seed=1))
    check("LayerNormalization", X, floats(4), floats(4, seed=1), outputs=3)
    check("RMSNormalization", X, floats(4), opset=23)
    check("LpNormalization", X, axis=1)
    check("LRN", IMAGE, size=3)


def test_movement() -> None:
    check("Transpose", X, perm=[2, 0, 1])
    check("Slice", X, ints(3), ints(-9), ints(2), ints(-2))
    check("Pad", X, ints(0, 1, 1, 0, 0, 1), mode="reflect")
    check("Concat", X, X + 1, axis=1)
    check("Split", X, axis=2, num_outputs=2, outputs=2)
    check("Tile", X, ints(2, 1, 1))
    check("Expand", X, ints(2, 2, 3, 4))
    check("Where", X > 0, X, X * 2)


def test_indexing() -> None:
    places = np.array([[[0, 2, 1, 0]]])
    check("Gather", X, ints(0, -1, 0), axis=1)
    check("Gather", X[0], ints(0, -1, 0))
    check("GatherElements", X, places, axis=1)
    check("GatherND", X, np.array([[0, 1], [1, -1]]))
    for how in ("none", "add", "mul", "max"):
        check("ScatterElements", X, places, floats(1, 1, 4, seed=1), axis=1, reduction=how)
        check("ScatterND", X, np.array([[0, 1], [1, -1]]), floats(2, 4, seed=1), reduction=how)
    check("TopK", X, ints(2), outputs=2)
    check("OneHot", ints(0, 2), np.array(3), np.array([0.5, 2], np.float32))


@pytest.mark.parametrize("way", ["forward", "bidirectional"])
@pytest.mark.parametrize("lengths", [None, np.array([3, 2], np.int32)])
def test_recurrent(way: str, lengths: Array | None) -> None:
    n = 2 if way == "bidirectional" else 1
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        w, r, b = floats(n, 2 * gates, 4, seed=1), floats(n, 2 * gates, 2, seed=2), floats(n, 4 * gates, seed=3)
        x = floats(3, 2, 4)
        check(op, x, w, r, b, lengths, hidden_size=2, direction=way, outputs=3 if op == "LSTM" else 2)


def test_attention() -> None:
    q, k, v = floats(1, 2, 3, 4), floats(1, 2, 3, 4, seed=1), floats(1, 2, 3, 4, seed=2)
    check("Attention", q, k, v, is_causal=1, softcap=2.0, opset=23)
    x = floats(1, 3, 4)
    check("Attention", x, floats(4, 12, seed=1), floats(12, seed=2), num_heads=2, unidirectional=1, **OWN)
    check("MultiHeadAttention", x, x + 1, x - 1, num_heads=2, **OWN)


def test_fused() -> None:
    check("FastGelu", X, floats(4, seed=1), **OWN)
    check("QuickGelu", X, **OWN)
    check("SkipLayerNormalization", X, X * 0.3, floats(4), floats(4, seed=1), **OWN)
    check("FusedMatMul", X, floats(2, 2, 4, seed=1), transB=1, alpha=0.3, **OWN)
    check("DequantizeLinear", np.arange(12, dtype=np.int8).reshape(3, 4), floats(4), axis=1)
