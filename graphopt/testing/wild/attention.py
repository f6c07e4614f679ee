"""Attention of wild models: written out in several ways, and as operators; normalizations as operators."""

from __future__ import annotations

import math

import numpy as np

from graphopt.testing.wild.blocks import number
from graphopt.testing.wild.elementwise import Family
from graphopt.testing.wild.growing import Growing, Known


def projected(g: Growing, x: Known, outer: int) -> Known | None:
    """A product with a weight, with a bias or not."""
    y = g.one("MatMul", x, g.numbers(x.shape[-1], outer, like=x, plain=True))
    if y is not None and g.chance(0.6):
        y = (
            g.one("Add", y, g.numbers(outer, like=x, plain=True))
            if g.chance(0.7)
            else g.one("Add", g.numbers(outer, like=x, plain=True), y)
        )
    return y


def in_heads(g: Growing, x: Known | None, heads: int, back: bool = False) -> Known | None:
    """Columns as heads, and the heads before the rows; `back`: for the keys, transposed at once."""
    if x is None:
        return None
    y = g.one(
        "Reshape",
        x,
        g.ints(0, 0, heads, x.shape[-1] // heads)
        if g.chance(0.7)
        else g.ints(*x.shape[:1], -1, heads, x.shape[-1] // heads),
    )
    return g.one("Transpose", y, perm=[0, 2, 3, 1] if back else [0, 2, 1, 3])


def attended(g: Growing) -> object:
    """Attention of several heads from projections to the output, with one thing or another left out or odd."""
    x = g.pick("f", lambda one: one.rank == 3 and one.settled[-1] and one.dtype == np.float32)
    if x is None:
        return None
    heads, width = g.rng.choice((1, 2, 2, 3)), g.rng.choice((1, 2, 4))
    y = x if g.chance(0.7) else g.pick("f", lambda one: one.rank == 3 and one.settled[-1] and one.dtype == x.dtype)
    if y is None:
        return None
    q, k, v = projected(g, x, heads * width), projected(g, y, heads * width), projected(g, y, heads * width)
    once = g.chance(0.5)
    q, k, v = in_heads(g, q, heads), in_heads(g, k, heads, back=once), in_heads(g, v, heads)
    if q is None or k is None or v is None:
        return None
    scale = 1 / math.sqrt(width)
    where = g.rng.randrange(4)
    if where == 0:
        q = g.one("Mul", q, number(g, q, scale))
    elif where == 1:
        q = g.one("Mul", q, number(g, q, math.sqrt(scale)))
        k = g.one("Mul", k, number(g, k, math.sqrt(scale)))
    if k is not None and not once:
        k = g.one("Transpose", k, perm=[0, 1, 3, 2] if g.chance(0.9) else [0, 1, 2, 3])
    scores = g.one("MatMul", q, k)
    if where == 2:
        scores = g.one("Div", scores, number(g, x, math.sqrt(width))) if scores is not None else None
    if scores is not None and g.chance(0.4):
        scores = masked(g, scores)
    weights = g.one("Softmax", scores, axis=-1 if g.chance(0.95) else 2)
    if weights is not None and g.chance(0.1):
        weights = g.one("Dropout", weights)
    if weights is not None and g.chance(0.1):  # rows that a mask leaves nothing of
        weights = g.one("Where", g.one("IsNaN", weights), g.number_like(weights, 0.0), weights)
    z = g.one("MatMul", weights, v)
    z = g.one("Transpose", z, perm=[0, 2, 1, 3])
    z = g.one("Reshape", z, g.ints(0, 0, heads * width) if g.chance(0.7) else g.ints(0, 0, -1))
    return projected(g, z, g.rng.choice((2, 4))) if z is not None and g.chance(0.6) else z


def masked(g: Growing, scores: Known) -> Known | None:
    """A mask added to scores, or chosen by."""
    size = [one if settled else 1 for one, settled in zip(scores.shape, scores.settled, strict=True)]
    shape = g.rng.choice((size[-2:], [1, 1, *size[-2:]], [size[-1]], [1]))
    if g.chance(0.5):
        mask = g.constant(
            np.array(
                [g.rng.choice((0.0, 0.0, -1e9, -np.inf, 1.0)) for _ in range(math.prod(shape))], scores.dtype
            ).reshape(shape)
        )
        return g.one("Add", scores, mask) if g.chance(0.8) else g.one("Add", mask, scores)
    flags = g.constant(np.array([g.chance(0.7) for _ in range(math.prod(shape))]).reshape(shape))
    low = g.number_like(scores, g.rng.choice((-1e9, -np.inf, 0.0)))
    return g.one("Where", flags, scores, low) if g.chance(0.7) else g.one("Where", flags, low, scores)


def attention_operator(g: Growing) -> object:
    """The operator of opset 23 and later, on three or four dims."""
    if g.opset < 23:
        return None
    x = g.pick("f", lambda one: one.rank in (3, 4) and one.dtype == np.float32)
    if x is None:
        return None
    heads = {} if x.rank == 4 else {"q_num_heads": g.rng.choice((1, 2)), "kv_num_heads": g.rng.choice((1, 2))}
    mask = None
    if g.chance(0.3):
        mask = g.number_like(x, 0.0) if g.chance(0.5) else g.constant(np.full((1, 1, 1, 1), g.chance(0.8)))
    return g.one(
        "Attention", x, x, x, *([mask] if mask is not None else []), **heads,
        is_causal=g.rng.choice((None, 1)), scale=g.rng.choice((None, 0.5)), softcap=g.rng.choice((None, None, 2.0)),
    )  # fmt: skip


def rotated(g: Growing) -> object:
    """A half of the last dim with another sign, as rotary embeddings do, or the operator."""
    x = g.pick("f", lambda one: one.rank >= 3 and one.settled[-1] and one.shape[-1] % 2 == 0)
    if x is None:
        return None
    half = x.shape[-1] // 2
    if g.opset >= 23 and x.rank == 4 and g.chance(0.5):
        rows = x.shape[2]
        table = g.numbers(x.shape[0], rows, half, like=x, plain=True)
        return g.one("RotaryEmbedding", x, table, table, interleaved=g.rng.choice((None, 1)))
    if g.opset < 13:
        return None
    low, high = (
        g.one("Slice", x, g.ints(start), g.ints(end), g.ints(-1)) for start, end in ((0, half), (half, 2 * half))
    )
    turned = g.one("Concat", g.one("Neg", high), low, axis=-1) if high is not None and low is not None else None
    if turned is None:
        return None
    cos, sin = (g.numbers(x.shape[-1], like=x, plain=True) for _ in range(2))
    return g.one("Add", g.one("Mul", x, cos), g.one("Mul", turned, sin))


def normalization_operator(g: Growing) -> object:
    """LayerNormalization, RMSNormalization and GroupNormalization, with optional slots left out."""
    x = g.pick("f", lambda one: one.rank > 1 and one.settled[-1])
    if x is None:
        return None
    op = g.rng.choice(("LayerNormalization", "LayerNormalization", "RMSNormalization", "GroupNormalization"))
    last = x.shape[-1]
    if op == "GroupNormalization":
        if not x.settled[1]:
            return None
        groups = g.rng.choice([one for one in (1, 2, x.shape[1]) if one and x.shape[1] % one == 0])
        count = x.shape[1] if g.opset >= 21 else groups
        slots = [g.numbers(count, like=x), g.numbers(count, like=x)]
        return g.one(op, x, *slots, num_groups=groups, epsilon=g.rng.choice((None, 1e-3)))
    slots = [g.numbers(last, like=x)]
    if op == "LayerNormalization" and g.chance(0.6):
        slots.append(g.numbers(last, like=x))
    y = x if g.chance(0.6) else g.one("Add", x, x if g.chance(0.3) else g.numbers(last, like=x))
    if y is None:
        return None
    count = g.rng.choice((1, 1, 1, 3)) if op == "LayerNormalization" else 1
    return g.add(op, [y, *slots], count, axis=-1 if g.chance(0.8) else None, epsilon=g.rng.choice((None, 1e-5, 1e-3)))


ATTENTION: tuple[Family, ...] = (
    attended, attended, attended, attention_operator, rotated, normalization_operator, normalization_operator,
)  # fmt: skip
