"""What exporters write, whole: what passes look for, and now and then with one thing or another odd."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
from onnx import TensorProto

from graphopt.testing.wild.attention import in_heads, masked, projected
from graphopt.testing.wild.blocks import number
from graphopt.testing.wild.elementwise import Family
from graphopt.testing.wild.growing import Growing, Known
from graphopt.testing.wild.linear import channelled, convolution, multiplied

_ACTIVATIONS = (
    "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "HardSigmoid", "Softplus", "Softsign", "ThresholdedRelu",
)  # fmt: skip


def activation(g: Growing, x: Known | None) -> Known | None:
    """An activation function, or Clip."""
    if x is None:
        return None
    if g.chance(0.2) and g.opset >= 11:
        return g.one("Clip", x, g.number_like(x, g.rng.choice((0, -1))), g.number_like(x, 6))
    alpha = g.rng.choice((None, 0.2))
    op = g.rng.choice(_ACTIVATIONS)
    return g.one(op, x, alpha=alpha if op in ("LeakyRelu", "Elu", "ThresholdedRelu") else None)


def layered(g: Growing) -> object:
    """One to three layers, each a product or a convolution and an activation."""
    x = g.pick("f", channelled) if g.chance(0.5) else g.pick("f", lambda one: one.rank == 2 and one.settled[-1])
    for _ in range(g.rng.randint(1, 3)):
        if x is None:
            return None
        if channelled(x) and x.rank > 2:
            x = convolution(g, x)
        elif g.chance(0.5) and x.rank == 2 and x.settled[1]:
            outer = g.rng.randint(1, 6)
            weight, bias = g.numbers(x.shape[1], outer, like=x, plain=True), g.numbers(outer, like=x, plain=True)
            x = g.one("Gemm", x, weight, bias) if g.chance(0.6) else g.one("Add", g.one("MatMul", x, weight), bias)
        else:
            x = multiplied(g, x)
        x = activation(g, x)
    return x


def prepared(g: Growing) -> object:
    """Numbers scaled and shifted before a convolution that pads."""
    x = g.pick("f", lambda one: one.rank == 4 and one.settled[1])
    if x is None:
        return None
    y = g.one("Mul", x, number(g, x, 0.5)) if g.chance(0.7) else g.one("Div", x, number(g, x, 2.0))
    y = g.one("Add", y, number(g, x, -0.5)) if g.chance(0.7) else g.one("Sub", y, number(g, x, 0.5))
    weight = g.numbers(2, x.shape[1], 3, 3, like=x, plain=True)
    slots = [weight] if g.chance(0.5) else [weight, g.numbers(2, like=x, plain=True)]
    return g.one("Conv", y, *slots, pads=[1, 1, 1, 1]) if y is not None else None


def packed(g: Growing) -> object:
    """Attention whose query, key and value come out of one product, cut in one of several ways."""
    x = g.pick("f", lambda one: one.rank == 3 and one.settled[-1] and one.shape[-1] > 0 and one.dtype == np.float32)
    if x is None or g.opset < 13:
        return None
    heads, width = g.rng.choice((1, 2)), g.rng.choice((2, 4))
    size = heads * width
    rows = g.one("MatMul", x, g.numbers(x.shape[-1], 3 * size, like=x, plain=True))
    if rows is not None and g.chance(0.7):
        rows = g.one("Add", rows, g.numbers(3 * size, like=x, plain=True))
    if rows is None:
        return None
    parts: list[Known | None]
    if g.chance(0.5):
        cuts = {"num_outputs": 3} if g.opset >= 18 and g.chance(0.5) else {}
        slots = [rows] if cuts or g.opset < 18 else [rows, g.ints(size, size, size)]
        made = g.add("Split", slots, 3, axis=-1 if g.chance(0.8) else 2, **cuts)
        parts = [in_heads(g, one, heads) for one in made]
    else:
        cut = g.one("Reshape", rows, g.ints(0, 0, 3, heads, width))
        turned = g.one("Transpose", cut, perm=[2, 0, 3, 1, 4])
        if g.chance(0.5):
            parts = [g.one("Gather", turned, g.number(at), axis=0) for at in range(3)]
        else:
            if turned is None:
                return None
            slots = [turned] if g.opset < 18 else [turned, g.ints(1, 1, 1)]
            made = g.add("Split", slots, 3, axis=0)
            parts = [g.one("Squeeze", one, g.ints(0)) for one in made]
    if len(parts) != 3:
        return None
    q, k, v = parts
    k = g.one("Transpose", k, perm=[0, 1, 3, 2])
    scores = g.one("MatMul", q, k)
    if scores is not None and g.chance(0.8):
        by = g.rng.choice((1 / math.sqrt(width), 1.0, 0.3))
        scores = g.one("Mul", scores, number(g, x, by))
    if scores is not None and g.chance(0.3):
        scores = masked(g, scores)
    y = g.one("MatMul", g.one("Softmax", scores, axis=-1), v) if scores is not None else None
    y = g.one("Reshape", g.one("Transpose", y, perm=[0, 2, 1, 3]), g.ints(0, 0, size)) if y is not None else None
    return projected(g, y, 4) if y is not None and g.chance(0.5) else y


def looked_up(g: Growing) -> object:
    """Rows of a table: of floats, of codes by rows or by blocks, of few bits."""
    ids = g.pick("i", lambda one: one.dtype in (np.int64, np.int32) and all(_small(run, 4) for run in one.runs))
    if ids is None:
        ids = g.ints(*(g.rng.choice((0, 1, 3)) for _ in range(g.rng.randint(1, 3))))
    columns = g.rng.choice((16, 32, 32))
    kind = g.rng.randrange(4)
    if kind == 0 or g.opset < 21:
        table = g.numbers(4, columns, plain=True)
        return g.one("Gather", table, ids, axis=0)
    dtype = np.dtype(g.rng.choice((ml_dtypes.int4, ml_dtypes.uint4, np.int8, np.uint8)))
    least = 0 if "uint" in dtype.name else -8
    codes = g.constant(
        np.array([g.rng.randint(least, 7) for _ in range(4 * columns)], np.float32).astype(dtype).reshape(4, columns)
    )
    blocks = kind == 1
    shape = (4, columns // 16) if blocks else (4,)
    scale = g.constant(np.array([g.rng.choice((0.1, 0.5)) for _ in range(math.prod(shape))], np.float32).reshape(shape))
    zero = [g.constant(np.ones(shape, np.float32).astype(dtype))] if g.chance(0.3) else []
    given = {"axis": 1, "block_size": 16} if blocks else {"axis": 0}
    if kind == 3:  # codes and scales looked up apart
        rows, scales = g.one("Gather", codes, ids, axis=0), g.one("Gather", scale, ids, axis=0)
        if rows is None or scales is None or ids.rank != 1:
            return None
        return g.one("DequantizeLinear", rows, scales, axis=0)
    floats = g.one("DequantizeLinear", codes, scale, *zero, **given)
    return g.one("Gather", floats, ids, axis=0) if floats is not None else None


def _small(run: np.ndarray, size: int) -> bool:
    return bool((run >= -size).all() and (run < size).all())


def classes(g: Growing) -> object:
    """One-hot numbers of indices, cast at once."""
    x = g.pick("f", lambda one: one.rank > 0)
    at = g.one("ArgMax", x, axis=0, keepdims=g.rng.randrange(2)) if x is not None else None
    if at is None:
        return None
    values = g.constant(np.array(g.rng.choice(([0, 1], [1, 0], [0, 2**60 + 1], [-1, 5])), np.int64))
    y = g.one("OneHot", at, g.number(4) if g.chance(0.8) else g.ints(4), values, axis=g.rng.choice((-1, 0)))
    return g.one("Cast", y, to=TensorProto.FLOAT) if y is not None else None


def residual(g: Growing) -> object:
    """A block of a transformer without attention: normalization, two products, and what went in added."""
    x = g.pick(
        "f", lambda one: one.rank in (2, 3) and one.settled[-1] and one.shape[-1] > 1 and one.dtype == np.float32
    )
    if x is None:
        return None
    size = x.shape[-1]
    y: Known | None = x
    if g.opset >= 17:
        y = g.one(
            "LayerNormalization", x, g.numbers(size, like=x, plain=True), g.numbers(size, like=x, plain=True), axis=-1
        )
    for outer in (2 * size, size):
        y = g.one("MatMul", y, g.numbers(y.shape[-1], outer, like=x, plain=True)) if y is not None else None
        y = g.one("Add", y, g.numbers(outer, like=x, plain=True)) if y is not None else None
        y = activation(g, y) if outer != size else y
    if y is None:
        return None
    total = g.one("Add", x, y) if g.chance(0.8) else g.one("Add", y, x)
    if total is not None and g.opset >= 17 and g.chance(0.5):
        return g.one("LayerNormalization", total, g.numbers(size, like=x), g.numbers(size, like=x), axis=-1)
    return total


PATTERNS: tuple[Family, ...] = (
    layered, layered, layered, prepared, packed, packed, looked_up, looked_up, classes, residual, residual,
)  # fmt: skip
