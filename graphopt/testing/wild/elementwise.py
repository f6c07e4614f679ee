"""Elementwise operators, casts, bounds and reductions of wild models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper

from graphopt.testing.wild.growing import Array, Growing, Known

Family = Callable[[Growing], object]

_TYPES = (1, 6, 7, 9, 10, 11, 2, 3)


def unary(g: Growing) -> object:
    op = g.rng.choice(
        ("Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Floor", "Ceil", "Sign", "Softplus", "Erf", "Exp", "Sqrt",
         "Reciprocal", "Identity", "Round", "Elu", "LeakyRelu", "Selu", "HardSigmoid", "HardSwish", "Softsign", "Gelu",
         "Mish", "ThresholdedRelu")
    )  # fmt: skip
    return g.one(op, g.pick("f"))


def twice(g: Growing) -> object:
    """The same or a like operator over and over."""
    ops = g.rng.choice(
        (
            ("Relu", "Abs"),
            ("Neg",),
            ("Floor", "Ceil", "Round", "Sign"),
            ("Not",),
            ("Identity", "Relu"),
            ("Reciprocal", "Neg"),
        )
    )
    x = g.pick("b" if ops == ("Not",) else "f")
    for _ in range(g.rng.randint(2, 3)):
        x = g.one(g.rng.choice(ops), x)
    return x


def binary(g: Growing) -> object:
    x = g.pick("fi")
    if x is None:
        return None
    y = g.pick("fi", lambda one: one.dtype == x.dtype)
    op = g.rng.choice(
        ("Add", "Mul", "Sub", "Max", "Min", "Add", "Mul")
        if x.dtype.kind != "f"
        else ("Add", "Mul", "Sub", "Div", "Max", "Min")
    )
    return y and g.one(op, x, y)


def side(g: Growing, x: Known) -> Known:
    """A constant that broadcasts with `x` in one of many ways."""
    dims = [size if settled else 1 for size, settled in zip(x.shape, x.settled, strict=True)]
    kind = g.rng.randrange(7)
    if kind == 0:
        shape: list[int] = []
    elif kind == 1:
        shape = [1] * (x.rank + g.rng.randrange(2))
    elif kind == 2:
        shape = dims[-1:]
    elif kind == 3:
        shape = [dims[1], *[1] * (x.rank - 2)] if x.rank > 1 else dims
    elif kind == 4:
        shape = [1, *dims]
    elif kind == 5:
        shape = [size if g.chance(0.5) else 1 for size in dims]
    else:
        shape = [1]
    return g.numbers(*shape, like=x)


def with_constant(g: Growing) -> object:
    """Up to three operators with a constant in a row."""
    x = g.pick("fi")
    for _ in range(g.rng.choice((1, 1, 2, 3))):
        if x is None:
            return None
        y = side(g, x)
        ops = (
            ("Add", "Mul", "Sub", "Max", "Min")
            if x.dtype.kind != "f"
            else ("Add", "Mul", "Sub", "Div", "Max", "Min", "Pow")
        )
        op = g.rng.choice(ops)
        x = g.one(op, x, y) if g.chance(0.7) or op in ("Div", "Pow") else g.one(op, y, x)
    return x


def divided(g: Growing) -> object:
    x = g.pick("i", lambda one: one.dtype.itemsize >= 4)
    if x is None:
        return None
    by = g.constant(np.array(g.rng.choice((1, 2, 3, -1)), x.dtype))
    x = g.one(g.rng.choice(("Div", "Mul")), x, by)
    return g.one(g.rng.choice(("Div", "Mul", "Mod")), x, g.constant(np.array(g.rng.choice((1, 2, 4)), by.dtype)))


def cast(g: Growing) -> object:
    x = g.pick("")
    for _ in range(g.rng.randint(1, 3)):
        if x is None:
            return None
        to = g.rng.choice(_TYPES)
        if x.dtype.kind == "f" and to not in (1, 9, 10, 11) and not all(_small(run) for run in x.runs):
            to = g.rng.choice((1, 10, 11, 9))
        x = g.one("Cast", x, to=to)
    return x


def _small(run: Array) -> bool:
    """What casts from floats to integers are defined for."""
    return bool(np.all(np.isfinite(run)) and np.all(np.abs(run) < 100) and np.all(run > -1))


def bounds(g: Growing) -> object:
    """Chains of Clip, Relu, Min and Max, the bounds in any order, missing or odd."""
    x = g.pick("fi", lambda one: one.dtype.kind == "f" or one.dtype.itemsize >= 4)
    for _ in range(g.rng.randint(1, 3)):
        if x is None:
            return None
        low, high = (g.rng.choice((None, 0.0, -0.0, 1.0, 6.0, -1.0, 3.0, np.inf, -np.inf, 0.5)) for _ in range(2))
        if x.dtype.kind == "i":
            low, high = (one if one is None or np.isfinite(one) else 2.0 for one in (low, high))
        op = g.rng.choice(("Clip", "Clip", "Relu", "Max", "Min"))
        if op == "Relu":
            x = g.one(op, x)
        elif op in ("Max", "Min"):
            x = g.one(op, x, g.constant(np.array(low or 0.0).astype(x.dtype)))
        elif g.opset < 11:
            x = g.one(op, x, min=low, max=high)
        else:
            slots = [None if one is None else g.constant(np.array(one).astype(x.dtype)) for one in (low, high)]
            while slots and slots[-1] is None and g.chance(0.7):
                slots.pop()
            x = g.one(op, x, *slots)
    return x


def reduction(g: Growing) -> object:
    x = g.pick("f" if g.chance(0.8) else "i")
    if x is None:
        return None
    op = g.rng.choice(
        ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "ReduceSumSquare", "ReduceL1")
    )
    keep = g.rng.choice((0, 1, None))
    axes = [axis - x.rank * g.rng.randrange(2) for axis in range(x.rank) if g.chance(0.5)]
    if g.opset >= 18 or (g.opset >= 13 and op == "ReduceSum"):
        noop = g.rng.choice((0, 1, None, None))
        kind = g.rng.randrange(4) if not axes else 3
        slots = [x, *([] if kind == 0 else [None] if kind == 1 else [g.ints(*axes)])]
        return g.one(op, *slots, keepdims=keep, noop_with_empty_axes=noop)
    return g.one(op, x, axes=axes or None, keepdims=keep)


def compare(g: Growing) -> object:
    x = g.pick("f")
    if x is None:
        return None
    flags = g.one(g.rng.choice(("Greater", "Less", "Equal")), x, side(g, x))
    if g.chance(0.3):
        flags = g.one("Not", flags)
    if flags is None or g.chance(0.3):
        return flags
    return g.one("Where", flags, x, side(g, x)) if g.chance(0.7) else g.one("Where", flags, side(g, x), x)


def logic(g: Growing) -> object:
    x = g.pick("b")
    if x is None:
        return None
    y = g.constant(np.array(g.chance(0.5))) if g.chance(0.5) else g.pick("b")
    return y and g.one(g.rng.choice(("And", "Or", "Xor")), x, y)


def where_constant(g: Growing) -> object:
    x = g.pick("fi")
    if x is None:
        return None
    flags = g.constant(np.full([1] * g.rng.randrange(3), g.chance(0.5)))
    return g.one("Where", flags, x, side(g, x))


def dropout(g: Growing) -> object:
    return g.add("Dropout", [g.pick("f")], g.rng.randint(1, 2)) if g.pick("f") else None


def variadic(g: Growing) -> object:
    x = g.pick("f")
    if x is None:
        return None
    more = [g.pick("f", lambda one: one.dtype == x.dtype) for _ in range(g.rng.randint(0, 2))]
    return g.one(g.rng.choice(("Sum", "Max", "Min", "Mean")), x, *(one for one in more if one is not None))


def cumulated(g: Growing) -> object:
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None:
        return None
    if g.chance(0.5):
        return g.one(
            "CumSum", x, g.number(g.rng.randrange(x.rank)), exclusive=g.rng.randrange(2), reverse=g.rng.randrange(2)
        )
    axis = g.rng.randrange(-x.rank, x.rank)
    return g.one(g.rng.choice(("Softmax", "LogSoftmax", "Hardmax")), x, axis=axis if g.chance(0.8) else None)


def extremal(g: Growing) -> object:
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None:
        return None
    axis = g.rng.randrange(-x.rank, x.rank)
    if g.chance(0.5):
        return g.one(g.rng.choice(("ArgMax", "ArgMin")), x, axis=axis, keepdims=g.rng.randrange(2))
    if g.opset < 10:
        return g.add("TopK", [x], 2, axis=axis, k=1)
    return g.add("TopK", [x, g.ints(1)], 2, axis=axis)


def noted(g: Growing) -> object:
    """A constant in one of the other forms of Constant, and ConstantOfShape."""
    form = g.rng.randrange(3)
    value = helper.make_tensor("", TensorProto.FLOAT, [1], [g.rng.choice((0.0, 1.0, -0.0, 2.0))])
    if form == 0:
        return g.one("ConstantOfShape", g.ints(*(g.rng.choice((1, 4)) for _ in range(g.rng.randrange(3)))), value=value)
    if g.opset < 12:
        return None
    if form == 1:
        return g.add("Constant", [], value_floats=[1.0, 0.0, -0.0, 2.0])
    return g.add("Constant", [], value_float=g.rng.choice((0.0, 1.0)))


ELEMENTWISE: tuple[Family, ...] = (
    unary, unary, twice, binary, binary, with_constant, with_constant, with_constant, divided, cast, cast, bounds,
    bounds, reduction, reduction, compare, logic, where_constant, dropout, variadic, cumulated, extremal, noted,
)  # fmt: skip
