"""Values of the types that few operators take: bits, unsigned integers, strings, narrow floats and integers."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from graphopt.testing.wild.elementwise import Family, side
from graphopt.testing.wild.growing import Growing, Known

_WORDS = ("", "a", "Ab", "12", "3.5", "é")
_NARROW = (
    TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.UINT4, TensorProto.INT4,
    TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2FNUZ, TensorProto.UINT16, TensorProto.INT16, TensorProto.UINT32,
    TensorProto.UINT64, TensorProto.FLOAT4E2M1, TensorProto.UINT2, TensorProto.INT2, TensorProto.FLOAT8E8M0,
)  # fmt: skip
_SINCE = {
    TensorProto.BFLOAT16: 13, TensorProto.UINT4: 21, TensorProto.INT4: 21, TensorProto.FLOAT4E2M1: 23,
    TensorProto.FLOAT8E8M0: 24, TensorProto.UINT2: 25, TensorProto.INT2: 25,
}  # fmt: skip
"""From which opset on Cast makes them."""


def bits(g: Growing) -> object:
    """Bitwise operators, with masks that change nothing and such that do."""
    x = g.pick("i")
    for _ in range(g.rng.randint(1, 3)):
        if x is None:
            return None
        op = g.rng.choice(("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift", "BitwiseAnd"))
        if op == "BitwiseNot":
            x = g.one(op, x)
        elif op == "BitShift":
            by = g.constant(np.full([1] * g.rng.randrange(2), g.rng.choice((0, 0, 1, 2)), x.dtype))
            x = g.one(op, x, by, direction=g.rng.choice(("LEFT", "RIGHT")))
        else:
            mask = g.rng.choice((0, -1, 1, 15))
            by = g.constant(np.full([1] * g.rng.randrange(2), mask).astype(x.dtype)) if g.chance(0.7) else side(g, x)
            x = g.one(op, x, by) if g.chance(0.7) else g.one(op, by, x)
    return x


def moduli(g: Growing) -> object:
    x = g.pick("fi")
    if x is None:
        return None
    by = g.constant(np.array(g.rng.choice((1, 2, 3, 7)), x.dtype))
    fmod = 1 if x.dtype.kind == "f" else g.rng.choice((0, 1, None))
    return g.one("Mod", x, by, fmod=fmod)


def tested(g: Growing) -> object:
    """What asks something of floats, and what chooses by the answer."""
    x = g.pick("f")
    if x is None:
        return None
    op = g.rng.choice(("IsNaN", "IsInf", "GreaterOrEqual", "LessOrEqual", "IsInf"))
    if op == "IsInf":
        flags = g.one(op, x, detect_negative=g.rng.choice((0, 1, None)), detect_positive=g.rng.choice((0, 1, None)))
    elif op == "IsNaN":
        flags = g.one(op, x)
    else:
        flags = g.one(op, x, side(g, x)) if g.chance(0.7) else g.one(op, side(g, x), x)
    if flags is None or g.chance(0.4):
        return flags
    if g.chance(0.3):
        return g.one("Cast", flags, to=g.rng.choice((1, 6, 7, 10)))
    return g.one("Where", flags, x, side(g, x)) if g.chance(0.5) else g.one("Where", flags, side(g, x), x)


def narrowed(g: Growing) -> object:
    """A cast to a narrow type, something that moves it, and back."""
    x = g.pick("f", lambda one: one.dtype == np.float32 and all(bool(np.all(np.abs(run) < 6)) for run in one.runs[:2]))
    if x is None:
        return None
    to = g.rng.choice([kind for kind in _NARROW if g.opset >= _SINCE.get(kind, 19 if kind >= 17 else 6)])
    y = g.one("Cast", x, to=to, saturate=g.rng.choice((None, None, 0, 1)) if g.opset >= 19 else None)
    if y is None:
        return None
    kind = g.rng.randrange(6)
    if kind == 0:
        y = g.one("Transpose", y) or y
    elif kind == 1:
        y = g.one("Identity", y) or y
    elif kind == 2:
        y = g.one("Reshape", y, g.ints(-1)) or y
    elif kind == 3:
        y = g.one(g.rng.choice(("Add", "Mul", "Relu", "Max")), *[y] * g.rng.randint(1, 2)) or y
    elif kind == 4:
        y = g.one("CastLike", x, y) or y
    return g.one("Cast", y, to=g.rng.choice((1, 1, 1, 10, 11, 6))) or y


def like(g: Growing) -> object:
    """CastLike, to the same type and others."""
    x, y = g.pick(""), g.pick("")
    return g.one("CastLike", x, y if g.chance(0.6) else x) if x is not None else None


def words(g: Growing) -> object:
    """Strings: written, compared, put together, cut, moved about."""
    x = g.pick("O")
    if x is None:
        x = g.constant(np.array([g.rng.choice(_WORDS) for _ in range(4)], dtype=object))
    kind = g.rng.randrange(6)
    other = g.constant(np.array(g.rng.choice(_WORDS), dtype=object).reshape([1] * g.rng.randrange(2)))
    if kind == 0:
        return g.one("StringConcat", x, other)
    if kind == 1:
        return g.one("Equal", x, other)
    if kind == 2:
        return g.one("StringNormalizer", x, case_change_action=g.rng.choice(("LOWER", "UPPER", "NONE")))
    if kind == 3:
        return g.one("RegexFullMatch", x, pattern=g.rng.choice(("a*", "[0-9]+", ".*")))
    if kind == 4:
        return g.one("Identity", g.one("Identity", x) or x)
    flags = g.pick("b", lambda one: one.rank == x.rank)
    return g.one("Where", flags, x, other) if flags is not None else g.one("Concat", x, x, axis=0)


def spoken(g: Growing) -> object:
    """Numbers as text and back."""
    x = g.pick("i")
    y = g.one("Cast", x, to=TensorProto.STRING)
    return (y and g.chance(0.5) and g.one("Cast", y, to=g.rng.choice((1, 7)))) or y


def rare(g: Growing) -> object:
    """Elementwise operators that are seldom seen."""
    op = g.rng.choice(
        ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Log", "Celu",
         "Shrink",
         "PRelu", "Swish", "Gelu", "ThresholdedRelu", "LpNormalization", "MeanVarianceNormalization", "LRN", "Trilu",
         "ReduceLogSum", "ReduceLogSumExp", "Det", "ReverseSequence", "Compress", "Unique", "CumProd", "EyeLike",
         "GlobalLpPool")
    )  # fmt: skip
    x = g.pick("f", (lambda one: one.rank >= 3) if op in ("LRN", "GlobalLpPool") else lambda _: True)
    if x is None:
        return None
    if op == "PRelu":
        slope = g.numbers(*([x.shape[1], *[1] * (x.rank - 2)] if x.rank > 1 and x.settled[1] else []), like=x)
        return g.one(op, x, slope)
    if op in ("Celu", "ThresholdedRelu", "Swish"):
        return g.one(op, x, alpha=g.rng.choice((None, 1.0, 0.5)))
    if op == "Gelu":
        return g.one(op, x, approximate=g.rng.choice(("tanh", "none", None)))
    if op == "Shrink":
        return g.one(op, x, lambd=g.rng.choice((0.0, 0.5, None)), bias=g.rng.choice((0.0, 0.5)))
    if op == "LRN":
        return g.one(op, x, size=g.rng.choice((1, 3)), alpha=0.01)
    if op in ("LpNormalization", "GlobalLpPool"):
        return g.one(op, x, p=g.rng.choice((None, 1, 2)))
    if op in ("ReduceLogSum", "ReduceLogSumExp"):
        return g.one(op, x, keepdims=g.rng.randrange(2))
    if op == "CumProd":
        return g.one(op, x, g.number(0), reverse=g.rng.randrange(2), exclusive=g.rng.randrange(2))
    if op == "Compress":
        return g.one(op, x, g.constant(np.array([True, False, True])), axis=g.rng.choice((0, None)))
    if op == "ReverseSequence":
        return g.one(op, x, g.ints(*[1] * x.shape[1]), time_axis=0, batch_axis=1) if x.rank > 1 else None
    if op == "Unique":
        return g.add(op, [x], g.rng.randint(1, 4), axis=g.rng.choice((0, None)), sorted=g.rng.randrange(2))
    return g.one(op, x)


def drawn(g: Growing) -> Known | None:
    """Random numbers with a seed."""
    x = g.pick("f")
    op = g.rng.choice(("RandomNormalLike", "RandomUniformLike"))
    y = g.one(op, x, seed=1.0) if x is not None else None
    return g.one("Mul", y, g.numbers(like=y)) if y is not None and g.chance(0.5) else y


ODD_TYPES: tuple[Family, ...] = (
    bits, bits, moduli, tested, tested, narrowed, narrowed, like, words, spoken, rare, rare, rare,
)  # fmt: skip
