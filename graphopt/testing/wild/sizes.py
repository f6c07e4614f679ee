"""Arithmetic on shapes in wild models, and what is done with its results."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from graphopt.testing.wild.elementwise import Family
from graphopt.testing.wild.growing import Growing, Known


def shape_of(g: Growing, x: Known | None) -> Known | None:
    """The shape of a value, perhaps only a part of it."""
    if x is None:
        return None
    if g.opset >= 15 and g.chance(0.4):
        ends = [g.rng.choice((None, 0, 1, -1, 2, -2)) for _ in range(2)]
        return g.one("Shape", x, start=ends[0], end=ends[1])
    return g.one("Shape", x)


def numeric(g: Growing, size: Known | None) -> Known | None:
    """A step or two of arithmetic that keeps the kind: int64 in, int64 out."""
    for _ in range(g.rng.randrange(3)):
        if size is None:
            return None
        kind = g.rng.randrange(6)
        by = (
            g.constant(np.array(g.rng.choice((1, 1, 2, 3)), np.int64))
            if g.chance(0.6)
            else g.ints(g.rng.choice((1, 2)))
        )
        if kind < 3:
            size = g.one(("Add", "Mul", "Sub")[kind], size, by)
        elif kind == 3:
            size = g.one("Div", size, by)
        elif kind == 4:
            size = g.one("Cast", g.one("Floor", g.one("Cast", size, to=TensorProto.FLOAT)), to=TensorProto.INT64)
        else:
            size = g.one("Cast", g.one("Cast", size, to=TensorProto.INT32), to=TensorProto.INT64)
    return size


def dim_of(g: Growing, x: Known | None) -> Known | None:
    """One dim of a value as an int64 vector of one element."""
    if x is None or not x.rank:
        return None
    axis = g.rng.randrange(x.rank)
    shape = g.one("Shape", x)
    if g.chance(0.5):
        one = g.one("Gather", shape, g.number(axis - x.rank * g.chance(0.3)), axis=0)
        return g.one("Unsqueeze", one, axes=[0]) if g.opset < 13 else g.one("Unsqueeze", one, g.ints(0))
    if g.opset < 10:
        return g.one("Slice", shape, axes=[0], starts=[axis], ends=[axis + 1])
    return g.one("Slice", shape, g.ints(axis), g.ints(axis + 1), g.ints(0))


def sizes(g: Growing) -> object:
    return numeric(g, shape_of(g, g.pick("")))


def reshape_by(g: Growing) -> object:
    """Reshape to a shape put together from dims of the value, or of another one, and constants."""
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None:
        return None
    parts: list[Known | None] = []
    if g.chance(0.5):
        parts = [dim_of(g, x), g.ints(-1)]
        if g.chance(0.5):
            parts.append(g.ints(g.rng.choice((1, 2, 4))))
        g.rng.shuffle(parts)
    else:
        for axis in range(x.rank):
            shape = g.one("Shape", x)
            parts.append(
                g.ints(x.shape[axis]) if x.settled[axis] and g.chance(0.6) else g.one("Gather", shape, g.ints(axis))
            )
    if any(one is None for one in parts):
        return None
    return g.one("Reshape", x, g.one("Concat", *parts, axis=0))


def expand_by(g: Growing) -> object:
    """Expand to a computed shape, and something elementwise after it."""
    x, like = g.pick("fib"), g.pick("f")
    y = g.one("Expand", x, g.one("Shape", like)) if x is not None and like is not None else None
    if y is None or like is None:
        return None
    if y.dtype == like.dtype and g.chance(0.7):
        return g.one(g.rng.choice(("Add", "Mul", "Sub")), y, like)
    return y


def filled(g: Growing) -> object:
    """ConstantOfShape of a computed shape, and its uses."""
    x = g.pick("f")
    shape = numeric(g, g.one("Shape", x)) if x is not None and x.rank and g.chance(0.3) else g.one("Shape", x)
    if shape is None or x is None:
        return None
    kind = helper.np_dtype_to_tensor_dtype(x.dtype) if g.chance(0.7) else TensorProto.INT64
    value = helper.make_tensor("", kind, [1], [g.rng.choice((0, 1, 2))])
    y = g.one("ConstantOfShape", shape, value=value if g.chance(0.8) else None)
    if y is not None and y.dtype == x.dtype and g.chance(0.7):
        return g.one(g.rng.choice(("Add", "Mul", "Sub", "Div", "Max", "Pow")), x, y)
    if y is not None and g.chance(0.4):
        return g.one("Where", g.one("Equal", y, g.numbers(like=y)), y, g.numbers(like=y))
    return y


def ranged(g: Growing) -> object:
    """Range over a dim, and its uses: Gather, Cast, comparison."""
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None or g.opset < 11:
        return None
    axis = g.rng.randrange(x.rank)
    limit = g.one("Gather", g.one("Shape", x), g.number(axis))
    steps = (
        g.one("Range", g.number(g.rng.choice((0, 0, 1))), limit, g.number(g.rng.choice((1, 1, 2))))
        if limit is not None
        else None
    )
    if limit is not None and g.chance(0.2):
        steps = g.one("Range", limit, g.number(0), g.number(-1))
    if steps is None:
        return None
    kind = g.rng.randrange(3)
    if kind == 0:
        return g.one("Gather", x, steps, axis=axis)
    if kind == 1:
        return g.one("Cast", steps, to=TensorProto.FLOAT)
    return g.one("Less", steps, g.number(1))


def slice_by(g: Growing) -> object:
    """A slice whose ends are computed."""
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None or g.opset < 10:
        return None
    axis = g.rng.randrange(x.rank)
    end = g.one("Gather", g.one("Shape", x), g.ints(axis))
    if g.chance(0.6):
        end = g.one(g.rng.choice(("Sub", "Add", "Div")), end, g.ints(g.rng.choice((1, 2))))
    return end and g.one("Slice", x, g.ints(g.rng.choice((0, 0, 1, -1))), end, g.ints(axis))


def counted(g: Growing) -> object:
    x = g.pick("")
    y = g.one("Size", x)
    if y is not None and x is not None and g.chance(0.5):
        return g.one("Cast", y, to=TensorProto.FLOAT)
    return y or g.one("NonZero", g.pick("f"))


def repeated_by(g: Growing) -> object:
    """Tile or Expand with counts that are computed but known."""
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None:
        return None
    counts = g.one("ConstantOfShape", g.one("Shape", g.one("Shape", x)), value=helper.make_tensor("", 7, [1], [1]))
    if g.chance(0.3):
        counts = g.one("Where", g.one("Equal", counts, g.number(-1)), g.number(1), counts)
    return counts and g.one(g.rng.choice(("Tile", "Expand", "Expand")), x, counts)


def eyes(g: Growing) -> object:
    x = g.pick("f", lambda one: one.rank == 2)
    if x is None:
        return None
    if g.opset >= 14 and g.chance(0.5):
        return g.one("Trilu", x, upper=g.rng.randrange(2))
    return g.one("EyeLike", x)


SIZES: tuple[Family, ...] = (
    sizes, sizes, reshape_by, reshape_by, reshape_by, expand_by, expand_by, filled, filled, ranged, slice_by,
    counted, repeated_by, eyes,
)  # fmt: skip
