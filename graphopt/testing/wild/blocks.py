"""Spelled-out operators of wild models, and look-alikes of them that are off by a little; Q/DQ pairs."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from graphopt.testing.wild.elementwise import Family
from graphopt.testing.wild.growing import Growing, Known


def number(g: Growing, like: Known, value: float, *, odd: float = 0.15) -> Known:
    """A constant scalar (or vector of one), sometimes another number than the one asked for."""
    if g.chance(odd):
        value = g.rng.choice((value + 0.01, -value, 0.5, value * 2))
    return g.constant(np.array(value, like.dtype).reshape([1] * g.rng.choice((0, 0, 0, 1, 2))))


def mean(g: Growing, x: Known | None, axes: list[int]) -> Known | None:
    """ReduceMean that keeps its dims (mostly)."""
    keep = int(not g.chance(0.05))
    if g.opset >= 18:
        return g.one("ReduceMean", x, g.ints(*axes), keepdims=keep)
    return g.one("ReduceMean", x, axes=axes, keepdims=keep)


def layer_norm(g: Growing) -> object:
    """LayerNormalization by its parts, or RMSNormalization, or InstanceNormalization."""
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None:
        return None
    count = g.rng.choice((1, 1, 1, min(2, x.rank)))
    axes = (
        [axis - count for axis in range(count)] if g.opset >= 11 and g.chance(0.5) else [*range(x.rank - count, x.rank)]
    )
    centred = x if g.chance(0.3) else g.one("Sub", x, mean(g, x, axes)) if (mean(g, x, axes)) else None
    if centred is None:
        return None
    square = g.one("Mul", centred, centred) if g.chance(0.3) else g.one("Pow", centred, number(g, x, 2.0))
    spread = mean(g, square, axes)
    root = g.one("Add", spread, number(g, x, 1e-5, odd=0.0)) if spread is not None else None
    root = g.one("Sqrt", root)
    if root is None:
        return None
    y = g.one("Div", centred, root) if g.chance(0.6) else g.one("Mul", centred, g.one("Reciprocal", root))
    for op in ("Mul", "Add"):
        if y is not None and g.chance(0.7):
            size = [one if settled else 1 for one, settled in zip(y.shape[-count:], y.settled[-count:], strict=True)]
            y = g.one(op, y, g.numbers(*size, like=y)) if g.chance(0.8) else g.one(op, y, g.numbers(like=y))
    return y


def instance(g: Growing) -> object:
    x = g.pick("f", lambda one: one.rank >= 3 and one.settled[1])
    if x is None:
        return None
    return g.one("InstanceNormalization", x, g.numbers(x.shape[1], like=x), g.numbers(x.shape[1], like=x))


def gelu(g: Growing) -> object:
    x = g.pick("f")
    if x is None:
        return None
    if g.chance(0.5):
        inner = (
            g.one("Div", x, number(g, x, math.sqrt(2)))
            if g.chance(0.7)
            else g.one("Mul", x, number(g, x, math.sqrt(0.5)))
        )
        half = g.one("Add", g.one("Erf", inner), number(g, x, 1.0))
    else:
        cube = g.one("Pow", x, number(g, x, 3.0)) if g.chance(0.5) else g.one("Mul", g.one("Mul", x, x), x)
        cubic = g.one("Mul", cube, number(g, x, 0.044715)) if cube is not None else None
        inner = (
            g.one("Mul", g.one("Add", x, cubic), number(g, x, math.sqrt(2 / math.pi))) if cubic is not None else None
        )
        half = g.one("Add", g.one("Tanh", inner), number(g, x, 1.0)) if inner is not None else None
    if half is None:
        return None
    if g.chance(0.5):
        return g.one("Mul", g.one("Mul", x, half), number(g, x, 0.5))
    return g.one("Mul", g.one("Mul", x, number(g, x, 0.5)), half)


def hard_swish(g: Growing) -> object:
    x = g.pick("f")
    y = g.one("Add", x, number(g, x, 3.0)) if x is not None else None
    if y is None or x is None:
        return None
    if g.opset < 11:
        y = g.one("Clip", y, min=0.0, max=6.0)
    elif g.chance(0.2):
        y = g.one("Min", g.one("Relu", y), number(g, x, 6.0))
    else:
        y = g.one(
            "Clip", y, g.constant(np.array(0, x.dtype)), g.constant(np.array(g.rng.choice((6, 6, 6, 5)), x.dtype))
        )
    if y is None:
        return None
    if g.chance(0.5):
        return g.one("Div", g.one("Mul", x, y), number(g, x, 6.0))
    return g.one("Mul", x, g.one("Div", y, number(g, x, 6.0)))


def sigmoid_like(g: Growing) -> object:
    """Swish, Mish, hard sigmoid and log softmax by their parts."""
    x = g.pick("f", lambda one: one.rank > 0)
    kind = g.rng.randrange(4)
    if x is None:
        return None
    if kind == 0:
        return g.one("Mul", x, g.one("Sigmoid", x))
    if kind == 1:
        return g.one("Mul", x, g.one("Tanh", g.one("Softplus", x)))
    if kind == 2:
        return g.one("Mul", x, g.one("HardSigmoid", x, alpha=g.rng.choice((1 / 6, 0.2)), beta=0.5))
    return g.one("Log", g.one("Softmax", x, axis=g.rng.choice((None, x.rank - 1, 0))))


def quantized(g: Growing) -> object:
    """QuantizeLinear and DequantizeLinear, of one tensor or by an axis, twice or not."""
    x = g.pick("f", lambda one: one.dtype == np.float32 or g.opset >= 19)
    if x is None or g.opset < 10:
        return None
    kind = g.rng.choice((np.uint8, np.int8))
    axis = None
    shape: list[int] = []
    if g.opset >= 13 and g.chance(0.4) and any(x.settled):
        axis = g.rng.choice([at for at, settled in enumerate(x.settled) if settled])
        shape = [x.shape[axis]]
        axis -= x.rank * g.chance(0.3)
    count = math.prod(shape)
    scale = g.constant(np.array([g.rng.choice((0.1, 0.05, 0.5)) for _ in range(count)], x.dtype).reshape(shape))
    zero = g.constant(np.array([g.rng.choice((0, 0, 3)) for _ in range(count)], kind).reshape(shape))
    slots = [scale] if g.chance(0.2) else [scale, zero]
    for _ in range(g.rng.choice((1, 2))):
        y = g.one("QuantizeLinear", x, *slots, axis=axis)
        if y is not None and g.chance(0.2) and y.rank > 1:
            y = g.one("Transpose", y)
        x = g.one("DequantizeLinear", y, *slots, axis=axis)
        if x is None:
            return None
        if g.chance(0.3):
            x = g.one("Relu", x)
    return x


def weight_of_bytes(g: Growing) -> object:
    """A product with a weight that is dequantized."""
    x = g.pick("f", lambda one: one.rank > 1 and one.settled[-1] and one.dtype == np.float32)
    if x is None or g.opset < 13:
        return None
    stored = g.constant(
        np.array([g.rng.randint(-9, 9) for _ in range(x.shape[-1] * 3)], np.int8).reshape(x.shape[-1], 3)
    )
    per = g.chance(0.5)
    scale = g.constant(np.array([0.1, 0.2, 0.05], np.float32) if per else np.array(0.1, np.float32))
    weight = g.one("DequantizeLinear", stored, scale, axis=1 if per else None)
    y = g.one("MatMul", x, weight) if weight is not None else None
    return g.one("Mul", y, g.numbers(3, like=x)) if y is not None and g.chance(0.5) else y


def one_hot(g: Growing) -> object:
    x = g.pick("f", lambda one: one.rank > 0)
    at = g.one("ArgMax", x, axis=0) if x is not None else None
    if at is None:
        return None
    kind = g.rng.choice((np.float32, np.int64, np.int32))
    y = g.one("OneHot", at, g.number(4), g.constant(np.array([0, 1], kind)), axis=g.rng.choice((-1, 0)))
    return g.one("Cast", y, to=g.rng.choice((TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL)))


def instance_norm(g: Growing) -> object:
    """InstanceNormalization by its parts: over the last axes, with a scale a channel."""
    x = g.pick("f", lambda one: one.rank >= 3 and one.settled[1])
    if x is None:
        return None
    axes = list(range(2, x.rank))
    centre = mean(g, x, axes)
    d = g.one("Sub", x, centre) if centre is not None else None
    spread = mean(g, g.one("Mul", d, d) if g.chance(0.5) else g.one("Pow", d, number(g, x, 2.0)), axes)
    root = g.one("Sqrt", g.one("Add", spread, number(g, x, 1e-5, odd=0.0))) if spread is not None else None
    y = g.one("Div", d, root) if root is not None else None
    for op in ("Mul", "Add"):
        y = g.one(op, y, g.numbers(x.shape[1], *[1] * len(axes), like=x)) if y is not None else None
    return y


def rearranged(g: Growing) -> object:
    """The parts of a Split, or what Gathers and Slices pick, put together in another order."""
    x = g.pick("fi", lambda one: one.rank > 0 and any(one.settled))
    if x is None:
        return None
    axis = g.rng.choice([at for at, settled in enumerate(x.settled) if settled])
    size = x.shape[axis]
    parts: list[Known | None] = []
    if g.opset >= 13 and size > 1 and g.chance(0.5):
        parts += g.add("Split", [x, g.ints(*[1] * size)], size, axis=axis)
    elif g.opset >= 10:
        cut = g.rng.randint(0, size)
        for low, high in ((0, cut), (cut, size)):
            parts.append(g.one("Slice", x, g.ints(low), g.ints(high), g.ints(axis)))
    for _ in range(g.rng.randrange(2)):
        parts.append(g.one("Gather", x, g.ints(g.rng.choice((0, -1, size - 1))), axis=axis))
    found = [one for one in parts if one is not None]
    if g.chance(0.7):
        g.rng.shuffle(found)
    return g.one("Concat", *found, axis=axis) if found else None


def recurrent(g: Growing) -> object:
    """LSTM and GRU, with and without biases and states, one or all outputs."""
    x = g.pick("f", lambda one: one.rank == 3 and one.settled[-1] and one.dtype == np.float32)
    if x is None:
        return None
    op, gates, most = g.rng.choice((("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 2)))
    hidden = g.rng.randint(1, 2)
    slots: list[Known | None] = [x, g.numbers(1, gates * hidden, x.shape[-1], plain=True)]
    slots.append(g.numbers(1, gates * hidden, hidden, plain=True))
    if g.chance(0.5):
        slots.append(g.numbers(1, 2 * gates * hidden))
    return g.add(op, slots, g.rng.randint(1, most), hidden_size=hidden)


def expanded_operand(g: Growing) -> object:
    """An operand that is expanded to what it would be broadcast to anyway."""
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None:
        return None
    last = x.shape[-1] if x.settled[-1] and g.chance(0.7) else 1
    target = g.one("Shape", x) if not all(x.settled) or g.chance(0.5) else g.ints(*x.shape)
    y = g.one("Expand", g.numbers(last, like=x), target) if target is not None else None
    return g.one(g.rng.choice(("Add", "Mul", "Sub", "Where", "Max")), x, y) if y is not None else None


def around(g: Growing) -> object:
    """Transposes around what works on channels."""
    x = g.pick("f", lambda one: one.rank in (3, 4))
    if x is None:
        return None
    there = [0, x.rank - 1, *range(1, x.rank - 1)]
    back = [0, *range(2, x.rank), 1]
    y = g.one("Transpose", x, perm=there)
    if y is None:
        return None
    size = y.shape[1] if y.settled[1] else 1
    kind = g.rng.randrange(4)
    if kind == 0:
        y = g.one("Mul", y, g.numbers(size, *[1] * (y.rank - 2), like=y))
    elif kind == 1:
        y = g.one("Relu", g.one("Add", y, g.numbers(size, *[1] * (y.rank - 2), like=y)))
    elif kind == 2:
        y = g.one("Concat", y, y, axis=1)
    else:
        y = g.one("Softmax", y, axis=1) if g.opset >= 13 else g.one("Tanh", y)
    return g.one("Transpose", y, perm=back)


BLOCKS: tuple[Family, ...] = (
    layer_norm, layer_norm, layer_norm, instance, gelu, gelu, hard_swish, hard_swish, sigmoid_like, sigmoid_like,
    quantized, quantized, weight_of_bytes, one_hot, around, around, instance_norm,
    instance_norm, rearranged, rearranged, recurrent, expanded_operand, expanded_operand,
)  # fmt: skip
