"""Quantized operators of wild models: QLinear ones, blocks of few bits, narrow floats, pairs around operators."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from graphopt.testing.wild.elementwise import Family
from graphopt.testing.wild.growing import Growing, Known

_NARROW = (
    np.uint8, np.int8, np.uint16, np.int16, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fnuz,
)  # fmt: skip


def scale_of(g: Growing, x: Known) -> Known:
    return g.number_like(x, g.rng.choice((0.1, 0.05, 0.5, 1.0)))


def on_grid(g: Growing, x: Known | None) -> tuple[Known, Known, Known] | None:
    """Codes of a float, with their scale and zero point."""
    if x is None:
        return None
    scale, zero = scale_of(g, x), g.constant(np.array(g.rng.choice((0, 3, 128)), np.uint8))
    codes = g.one("QuantizeLinear", x, scale, zero)
    return None if codes is None else (codes, scale, zero)


def off_grid(g: Growing, given: tuple[Known, Known, Known] | None) -> Known | None:
    return None if given is None else g.one("DequantizeLinear", *given)


def paired(g: Growing) -> object:
    """An operator between pairs, as static quantization leaves it, with the same grid twice or another one."""
    x = g.pick("f", lambda one: one.dtype == np.float32)
    first = on_grid(g, x)
    y = off_grid(g, first)
    if y is None or first is None or g.opset < 10:
        return None
    kind = g.rng.randrange(7)
    if kind == 0 and y.rank:
        y = g.one("Concat", y, y, axis=g.rng.randrange(y.rank))
    elif kind == 1:
        y = g.one("Transpose", y)
    elif kind == 2:
        y = g.one("Reshape", y, g.ints(-1))
    elif kind == 3:
        y = (
            g.one("Relu", y)
            if g.chance(0.5)
            else g.one("Clip", y, *[g.number_like(y, at) for at in (0, 6)])
            if g.opset >= 11
            else None
        )
    elif kind == 4:
        y = g.one("Add", y, y)
    elif kind == 5 and 3 <= y.rank <= 4:
        y = g.one("MaxPool", y, kernel_shape=[1] * (y.rank - 2))
    elif kind == 6 and y.rank and y.settled[-1]:
        codes = g.constant(
            np.array([g.rng.randint(-9, 9) for _ in range(y.shape[-1] * 2)], np.int8).reshape(y.shape[-1], 2)
        )
        weight = g.one("DequantizeLinear", codes, g.number_like(y, 0.1))
        y = g.one("MatMul", y, weight) if weight is not None else None
    if y is None:
        return None
    if g.chance(0.5):
        again = g.one("QuantizeLinear", y, first[1], first[2])
        return g.one("DequantizeLinear", again, first[1], first[2])
    return off_grid(g, on_grid(g, y))


def linear_codes(g: Growing) -> object:
    """QLinearMatMul and QLinearConv."""
    x = g.pick("f", lambda one: one.rank > 1 and one.settled[-1] and one.dtype == np.float32)
    given = on_grid(g, x)
    if x is None or given is None or g.opset < 10:
        return None
    images = x.rank == 4 and x.settled[1] and g.chance(0.6)
    shape = (2, x.shape[1], 2, 2) if images else (x.shape[-1], 3)
    weight = g.constant(np.array([g.rng.randint(-9, 9) for _ in range(int(np.prod(shape)))], np.int8).reshape(shape))
    zero, out = g.constant(np.array(0, np.int8)), g.constant(np.array(g.rng.choice((0, 128)), np.uint8))
    slots = [*given, weight, g.number_like(x, 0.1), zero, scale_of(g, x), out]
    if images and g.chance(0.5):
        slots.append(g.constant(np.array([1, -2], np.int32)))
    y = g.one("QLinearConv" if images else "QLinearMatMul", *slots)
    return g.one("DequantizeLinear", y, slots[6], out) if y is not None and g.chance(0.7) else y


def narrow_weight(g: Growing) -> object:
    """A weight of few bits: by blocks, by channels or as a whole; read by a product, a Gather or nobody."""
    x = g.pick("f", lambda one: one.rank > 1 and one.settled[-1] and one.shape[-1] > 0)
    if x is None or g.opset < 10:
        return None
    rows = x.shape[-1]
    kind = np.dtype(g.rng.choice(_NARROW if g.opset >= 21 else _NARROW[:2]))
    lowest = 0 if kind in (np.uint8, np.uint16, ml_dtypes.uint4) else -6
    codes = g.constant(
        np.array([g.rng.randint(lowest, 7) for _ in range(rows * 4)], np.float32).astype(kind).reshape(rows, 4)
    )
    form, given = g.rng.randrange(3), dict[str, object]()
    shape: list[int] = []
    if form == 1 and g.opset >= 13:
        shape, given = [4], {"axis": 1}
    elif form == 2 and g.opset >= 21 and rows % 2 == 0:
        shape, given = [rows // 2, 4], {"axis": 0, "block_size": 2}
    count = int(np.prod(shape))
    scale = g.constant(np.array([g.rng.choice((0.1, 0.25, 0.5)) for _ in range(count)], x.dtype).reshape(shape))
    zero = [g.constant(np.zeros(shape, np.float32).astype(kind))] if g.chance(0.5) else []
    if g.chance(0.2) and kind.kind in "iu" and not shape:  # the same as arithmetic
        weight = g.one("Mul", g.one("Cast", codes, to=1 if x.dtype == np.float32 else 11), scale)
    else:
        weight = g.one("DequantizeLinear", codes, scale, *zero, **given)
    if weight is None:
        return None
    if g.chance(0.2):
        at = g.ints(0, rows - 1, 0)
        return g.one("Gather", weight, at, axis=0)
    if g.chance(0.2):
        return g.one("Gemm", x, weight, g.numbers(4, like=x)) if x.rank == 2 else None
    y = g.one("MatMul", x, weight)
    return g.one("Add", y, g.numbers(4, like=x)) if y is not None and g.chance(0.4) else y


def fake(g: Growing) -> object:
    """A weight that goes through a grid and back, as training leaves it."""
    x = g.pick("f", lambda one: one.rank > 1 and one.settled[-1] and one.dtype == np.float32)
    if x is None or g.opset < 10:
        return None
    weight = g.numbers(x.shape[-1], 4, like=x, plain=True)
    scale = g.number_like(x, g.rng.choice((0.01, 0.1)))
    zero = g.constant(np.array(0, g.rng.choice((np.int8, np.uint8))))
    y = g.one("DequantizeLinear", g.one("QuantizeLinear", weight, scale, zero), scale, zero)
    return g.one("MatMul", x, y) if y is not None else None


def narrow_floats(g: Growing) -> object:
    """Pairs on narrow floats and unsigned integers of 16 bits."""
    x = g.pick("f", lambda one: one.dtype == np.float32)
    if x is None or g.opset < 19:
        return None
    kind = np.dtype(g.rng.choice(_NARROW[2:]))
    scale, zero = scale_of(g, x), g.constant(np.zeros((), np.float32).astype(kind))
    y = g.one("QuantizeLinear", x, scale, zero, saturate=g.rng.choice((None, 0, 1)) if kind.kind == "V" else None)
    if y is not None and g.chance(0.3):
        y = g.one("Transpose", y)
    return g.one("DequantizeLinear", y, scale, zero) if y is not None else None


GRIDS: tuple[Family, ...] = (paired, paired, paired, linear_codes, narrow_weight, narrow_weight, fake, narrow_floats)
