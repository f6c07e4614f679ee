"""Linear operators of wild models, with what passes fold into them around: scales, biases, pads, normalizations."""

from __future__ import annotations

import numpy as np

from graphopt.testing.wild.elementwise import Family
from graphopt.testing.wild.growing import Growing, Known
from graphopt.testing.wild.views import padded


def channelled(one: Known) -> bool:
    """Of rank 3 to 5, with a settled channel dim."""
    return 3 <= one.rank <= 5 and one.settled[1]


def scaled(g: Growing, x: Known | None, axis: int) -> Known | None:
    """A scale or a bias per channel, as one number, or per something else."""
    for _ in range(g.rng.randint(1, 2)):
        if x is None:
            return None
        size = x.shape[axis] if x.settled[axis] else 1
        after = x.rank - 1 - axis % x.rank
        kind = g.rng.randrange(6)
        if kind < 3:
            shape = [size, *[1] * after]
        elif kind == 3:
            shape = []
        elif kind == 4:
            shape = [1, size, *[1] * after]
        else:
            shape = [*[1] * g.rng.randrange(3), x.shape[-1] if x.settled[-1] else 1]
        y = g.numbers(*shape, like=x, plain=g.chance(0.5))
        op = g.rng.choice(("Mul", "Add", "Sub", "Div"))
        x = g.one(op, x, y) if g.chance(0.6) or op == "Div" else g.one(op, y, x)
    return x


def normalized(g: Growing, x: Known | None) -> Known | None:
    """BatchNormalization by constants."""
    if x is None or x.rank < 2 or not x.settled[1]:
        return None
    count = x.shape[1]
    slots = [g.numbers(count, like=x, plain=g.chance(0.7)) for _ in range(3)]
    variance = g.constant(np.array([g.rng.choice((0.5, 1.0, 2.0)) for _ in range(count)], x.dtype))
    return g.one("BatchNormalization", x, *slots, variance, epsilon=g.rng.choice((None, 1e-3)))


def convolution(g: Growing, x: Known | None) -> Known | None:
    """Conv or ConvTranspose in many forms."""
    if x is None:
        return None
    channels, spatial = x.shape[1], x.rank - 2
    groups = g.rng.choice([one for one in (1, 1, 2, 4) if channels % one == 0])
    outer = groups * g.rng.randint(1, 2)
    kernel = [g.rng.choice((1, 2, 3)) for _ in range(spatial)]
    across = g.chance(0.25)
    shape = (channels, outer // groups, *kernel) if across else (outer, channels // groups, *kernel)
    slots: list[Known | None] = [x, g.numbers(*shape, like=x, plain=True)]
    kind = g.rng.randrange(3)
    if kind:
        slots.append(None if kind == 1 else g.numbers(outer, like=x, plain=True))
    attributes: dict[str, object] = {}
    if g.chance(0.5):
        attributes["pads"] = [g.rng.choice((0, 1, 1, 2)) for _ in range(2 * spatial)]
    elif g.chance(0.4):
        attributes["auto_pad"] = g.rng.choice(("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"))
    if g.chance(0.3):
        attributes["strides"] = [g.rng.choice((1, 2)) for _ in range(spatial)]
    if g.chance(0.2):
        attributes["dilations"] = [g.rng.choice((1, 2)) for _ in range(spatial)]
    if across and g.chance(0.2):
        attributes["output_padding"] = [0] * spatial
    return g.one("ConvTranspose" if across else "Conv", *slots, group=groups, **attributes)


def conv(g: Growing) -> object:
    """Something, a convolution, and something after it."""
    x = g.pick("f", channelled)
    if x is None:
        return None
    before = g.rng.randrange(5)
    if before == 0:
        x = padded(g, x)
    elif before == 1:
        ends = [g.rng.choice((0, 1)) for _ in range(x.rank - 2)]
        pads = [0, 0, *ends, 0, 0, *ends]
        x = g.one("Pad", x, pads=pads) if g.opset < 11 else g.one("Pad", x, g.ints(*pads))
    elif before == 2:
        x = scaled(g, x, 1)
    elif before == 3:
        x = normalized(g, x)
    if x is None or not channelled(x):
        return None
    x = convolution(g, x)
    after = g.rng.randrange(4)
    return (
        scaled(g, x, 1)
        if after == 0
        else normalized(g, x)
        if after == 1
        else convolution(g, x)
        if after == 2 and x is not None and channelled(x)
        else x
    )


def pool(g: Growing) -> object:
    x = g.pick("f", channelled)
    if x is None:
        return None
    if g.chance(0.3):
        return g.one(g.rng.choice(("GlobalAveragePool", "GlobalMaxPool")), x)
    if g.chance(0.5):
        x = padded(g, x)
    if x is None:
        return None
    op = g.rng.choice(("AveragePool", "MaxPool"))
    pads = [g.rng.choice((0, 1)) for _ in range(2 * (x.rank - 2))]
    include = g.rng.randrange(2) if op == "AveragePool" else None
    return g.one(op, x, kernel_shape=[2] * (x.rank - 2), pads=pads, count_include_pad=include)


def multiplied(g: Growing, x: Known | None, outer: int | None = None) -> Known | None:
    """MatMul with a weight, on either side."""
    if x is None or not x.rank:
        return None
    if outer is None and g.chance(0.15) and x.rank > 1 and x.settled[-2]:
        return g.one("MatMul", g.numbers(g.rng.randint(1, 3), x.shape[-2], like=x, plain=True), x)
    if not x.settled[-1]:
        return None
    outer = g.rng.randint(1, 4) if outer is None else outer
    lead = [1] if g.chance(0.1) else [x.shape[0]] if x.rank > 2 and x.settled[0] and g.chance(0.2) else []
    shape = [*lead, x.shape[-1], outer] if g.chance(0.9) else [x.shape[-1]]
    return g.one("MatMul", x, g.numbers(*shape, like=x, plain=True))


def matmul(g: Growing) -> object:
    x = g.pick("f", lambda one: one.rank > 0)
    if x is not None and g.chance(0.3):
        x = scaled(g, x, -1)
    x = multiplied(g, x)
    if x is not None and x.rank and g.chance(0.7):
        x = scaled(g, x, -1)
    return multiplied(g, x) if g.chance(0.2) else x


def gemm(g: Growing) -> object:
    """Gemm with all its attributes, and scales around."""
    x = g.pick("f", lambda one: one.rank == 2)
    if x is None:
        return None
    if g.chance(0.3):
        x = scaled(g, x, 1)
    if x is None or x.rank != 2:
        return None
    flip_a, flip_b, outer = g.chance(0.15), g.chance(0.5), g.rng.randint(1, 4)
    if not x.settled[0 if flip_a else 1]:
        return None
    inner = x.shape[0 if flip_a else 1]
    slots: list[Known | None] = [x, g.numbers(*((outer, inner) if flip_b else (inner, outer)), like=x, plain=True)]
    if g.opset < 11 or g.chance(0.6):
        slots.append(g.numbers(*g.rng.choice(((outer,), (1, outer), (1,), (), (1, 1))), like=x, plain=True))
    y = g.one(
        "Gemm", *slots, transA=int(flip_a) or None, transB=int(flip_b) or None,
        alpha=g.rng.choice((None, 0.5, 2.0)), beta=g.rng.choice((None, None, 0.5, 0.0)),
    )  # fmt: skip
    return scaled(g, y, 1) if y is not None and g.chance(0.4) else y


def parallel(g: Growing) -> object:
    """Several products of one value, with biases or not."""
    x = g.pick("f", lambda one: one.rank > 0 and one.settled[-1])
    if x is None:
        return None
    made = []
    same = g.chance(0.6)
    outer = g.rng.randint(1, 8)
    gemm = x.rank == 2 and g.chance(0.3)
    for _ in range(g.rng.randint(2, 4)):
        weight = g.numbers(x.shape[-1], outer if same else g.rng.randint(1, 8), like=x, plain=True)
        if gemm:
            y = g.one("Gemm", x, weight, g.numbers(weight.shape[-1], like=x, plain=True))
        else:
            y = g.one("MatMul", x, weight)
        if y is not None and not gemm and g.chance(0.8 if same else 0.4):
            y = g.one("Add", y, g.numbers(y.shape[-1], like=y, plain=True))
        made.append(y)
    return made


def between(g: Growing) -> object:
    """A reshape, a product, and a reshape back."""
    x = g.pick("f", lambda one: one.rank > 2 and one.settled[-1])
    if x is None:
        return None
    flat = g.one("Reshape", x, g.ints(-1, x.shape[-1]))
    y = multiplied(g, flat, g.rng.randint(1, 4))
    if y is not None and g.chance(0.5):
        y = g.one("Add", y, g.numbers(y.shape[-1], like=y))
    if y is None or not y.rank:
        return None
    return g.one(
        "Reshape",
        y,
        g.ints(*[size if settled else -1 for size, settled in zip(x.shape[:-1], x.settled, strict=False)], y.shape[-1]),
    )


def product(g: Growing) -> object:
    """MatMul of two values, transposed or not: attention without weights."""
    x = g.pick("f", lambda one: one.rank > 1)
    if x is None:
        return None
    order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    y = g.one("MatMul", x, g.one("Transpose", x, perm=order))
    if y is not None and g.chance(0.5):
        y = g.one("Softmax", g.one("Mul", y, g.numbers(like=y)), axis=-1 if g.opset >= 11 else y.rank - 1)
    return g.one("MatMul", y, x)


def einsum(g: Growing) -> object:
    x = g.pick("f", lambda one: one.rank == 2 and one.settled[-1])
    if x is None or g.opset < 12:
        return None
    return g.one("Einsum", x, g.numbers(x.shape[1], 3, like=x, plain=True), equation="ij,jk->ik")


def lone_normalization(g: Growing) -> object:
    return scaled(g, x, 1) if (x := normalized(g, g.pick("f", lambda one: one.rank > 1))) is not None else None


LINEAR: tuple[Family, ...] = (
    conv, conv, conv, pool, matmul, matmul, gemm, gemm, parallel, between, product, einsum, lone_normalization,
)  # fmt: skip
