"""Operators of wild models that move elements about: views, slices, gathers, pads and the like."""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx import helper

from graphopt.testing.wild.elementwise import Family
from graphopt.testing.wild.growing import Growing, Known


def squeezed(g: Growing, x: Known | None) -> Known | None:
    """Unsqueeze, or Squeeze with or without axes."""
    if x is None:
        return None
    if g.chance(0.5):
        rank = x.rank + g.rng.randint(1, 2)
        axes = sorted(g.rng.sample(range(rank), rank - x.rank), reverse=g.chance(0.2))
        axes = [axis - rank * (g.opset >= 11 and g.chance(0.3)) for axis in axes]
        return g.one("Unsqueeze", x, axes=axes) if g.opset < 13 else g.one("Unsqueeze", x, g.ints(*axes))
    ones = [axis for axis in range(x.rank) if all(run.shape[axis] == 1 for run in x.runs)]
    if not ones or g.chance(0.2):
        return g.one("Squeeze", x)
    ones = [
        axis - x.rank * (g.opset >= 11 and g.chance(0.3)) for axis in g.rng.sample(ones, g.rng.randint(1, len(ones)))
    ]
    return g.one("Squeeze", x, axes=ones) if g.opset < 13 else g.one("Squeeze", x, g.ints(*ones))


def reshaped(g: Growing, x: Known | None) -> Known | None:
    """Reshape to known numbers, 0, and -1."""
    if x is None:
        return None
    kind = g.rng.randrange(6)
    dims: list[int] = list(x.shape)
    if kind == 0:
        target = [-1]
    elif kind == 1:
        target = [0 if g.chance(0.7) or not settled else size for size, settled in zip(dims, x.settled, strict=True)]
        if target and g.chance(0.5):
            target[g.rng.randrange(len(target))] = -1
    elif kind == 2:
        cut = g.rng.randint(0, x.rank)
        target = [*[0] * cut, -1]
    elif kind == 3:
        known = [size for size, settled in zip(dims, x.settled, strict=True) if settled]
        g.rng.shuffle(known)
        target = [-1, *known]
    elif kind == 4:
        target = [-1, g.rng.choice((1, 2, 3, 4))]
        g.rng.shuffle(target)
    else:
        last = dims[-1] if dims and x.settled[-1] else 1
        by = next((one for one in (2, 3, 1) if last % one == 0), 1)
        target = [*[0] * max(x.rank - 1, 0), by, last // by]
    zeros = 1 if g.opset >= 14 and g.chance(0.1) else None
    return g.one("Reshape", x, g.ints(*target), allowzero=zeros)


def transposed(g: Growing, x: Known | None) -> Known | None:
    """Transpose by any order, or the default one."""
    if x is None:
        return None
    order = list(range(x.rank))
    g.rng.shuffle(order)
    return g.one("Transpose", x, perm=order if g.chance(0.9) else None)


def flattened(g: Growing, x: Known | None) -> Known | None:
    """Flatten at any axis."""
    return x and g.one("Flatten", x, axis=g.rng.randint(-x.rank if g.opset >= 11 else 0, x.rank))


_VIEWS = (squeezed, reshaped, transposed, flattened)


def views(g: Growing) -> object:
    x = g.pick("")
    for _ in range(g.rng.randint(1, 4)):
        x = g.rng.choice(_VIEWS)(g, x)
    return x


def sandwich(g: Growing) -> object:
    """A view, something elementwise, and another view."""
    x = g.rng.choice(_VIEWS)(g, g.pick("f"))
    if x is None:
        return None
    last = x.shape[-1] if x.rank and x.settled[-1] else 1
    middle = g.rng.choice(("Relu", "Add", "Softmax", "ReduceMean", "Concat", "Mul"))
    if middle in ("Add", "Mul"):
        x = g.one(middle, x, g.numbers(last, like=x))
    elif middle == "Softmax" and x.rank:
        x = g.one(middle, x, axis=g.rng.randrange(x.rank))
    elif middle == "ReduceMean" and g.opset < 18 and x.rank:
        x = g.one(middle, x, axes=[g.rng.randrange(x.rank)], keepdims=g.rng.randrange(2))
    elif middle == "Concat" and x.rank:
        x = g.one(middle, x, x, axis=g.rng.randrange(x.rank))
    else:
        x = g.one("Relu", x)
    return g.rng.choice(_VIEWS)(g, x)


def sliced(g: Growing) -> object:
    """One to three slices: steps of both signs, ends beyond the end, several axes."""
    x = g.pick("", lambda one: one.rank > 0)
    for _ in range(g.rng.randint(1, 3)):
        if x is None or not x.rank:
            return None
        axes = g.rng.sample(range(x.rank), g.rng.randint(1, min(2, x.rank)))
        steps = [g.rng.choice((1, 1, 1, 2, -1, -2)) if g.opset >= 10 else 1 for _ in axes]
        starts, ends = [], []
        for step in steps:
            low, high = g.rng.choice((0, 0, 1, -2, -100)), g.rng.choice((2, 3, -1, 100, 2**31 - 1, 2**63 - 1))
            starts.append(low if step > 0 else high)
            ends.append(high if step > 0 else g.rng.choice((low, -(2**63), -(2**31))))
        named = [axis - x.rank * g.chance(0.3) for axis in axes]
        if g.opset < 10:
            x = g.one("Slice", x, axes=axes, starts=starts, ends=ends)
            continue
        slots = [x, g.ints(*starts), g.ints(*ends), g.ints(*named)]
        if any(step != 1 for step in steps) or g.chance(0.3):
            slots.append(g.ints(*steps))
        x = g.one("Slice", *slots)
    return x


def split(g: Growing) -> object:
    """Split in equal parts or given ones; sometimes put together again, in order or not."""
    x = g.pick("", lambda one: one.rank > 0 and any(one.settled))
    if x is None:
        return None
    axis = g.rng.choice([at for at, settled in enumerate(x.settled) if settled])
    size = x.shape[axis]
    parts = g.rng.randint(1, 3)
    cuts = sorted(g.rng.randint(0, size) for _ in range(parts - 1))
    sizes = [high - low for low, high in zip([0, *cuts], [*cuts, size], strict=True)]
    axis -= x.rank * (g.opset >= 11 and g.chance(0.3))
    if g.chance(0.4):
        made = g.add("Split", [x], parts, axis=axis, num_outputs=parts if g.opset >= 18 else None)
    elif g.opset < 13:
        made = g.add("Split", [x], parts, axis=axis, split=sizes)
    else:
        made = g.add("Split", [x, g.ints(*sizes)], parts, axis=axis)
    if made and g.chance(0.4):
        if g.chance(0.3):
            g.rng.shuffle(made)
        return g.one("Concat", *made, axis=axis)
    return made


def gathered(g: Growing) -> object:
    x = g.pick("", lambda one: one.rank > 0)
    if x is None:
        return None
    axis = g.rng.randrange(x.rank)
    kind = g.rng.randrange(4)
    if kind == 0:
        at = g.constant(np.array(g.rng.choice((0, -1, 1)), g.rng.choice((np.int64, np.int32))))
    elif kind == 1:
        at = g.ints(*(g.rng.choice((0, 1, -1)) for _ in range(g.rng.randint(1, 3))))
    elif kind == 2:
        at = g.ints(*range(x.shape[axis]))
    else:
        at = g.constant(np.array([[0], [-1]], np.int64))
    if g.chance(0.15):
        return g.one("GatherND", x, g.constant(np.array([[0], [0]], np.int64)))
    if g.chance(0.15):
        return g.one("GatherElements", x, g.constant(np.zeros([1] * x.rank, np.int64)), axis=axis)
    return g.one("Gather", x, at, axis=axis - x.rank * g.chance(0.3))


def scattered(g: Growing) -> object:
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None:
        return None
    if g.chance(0.5):
        at = g.constant(np.zeros([1] * x.rank, np.int64))
        return g.one("ScatterElements" if g.opset >= 11 else "Scatter", x, at, g.numbers(*[1] * x.rank, like=x), axis=0)
    row = [size if settled else 1 for size, settled in zip(x.shape[1:], x.settled[1:], strict=True)]
    return g.one("ScatterND", x, g.constant(np.array([[0]], np.int64)), g.numbers(1, *row, like=x))


def expanded(g: Growing) -> object:
    x = g.pick("")
    if x is None:
        return None
    if g.chance(0.4):
        return g.one("Tile", x, g.ints(*(g.rng.choice((1, 1, 2)) for _ in range(x.rank))))
    target = [size if settled and g.chance(0.5) else 1 for size, settled in zip(x.shape, x.settled, strict=True)]
    if g.chance(0.3):
        target = [g.rng.choice((1, 2)), *target]
    x = g.one("Expand", x, g.ints(*target))
    return g.one("Add", x, g.numbers(like=x)) if x is not None and x.dtype.kind == "f" and g.chance(0.3) else x


def _alike(x: Known, other: Known) -> bool:
    return other.dtype == x.dtype and other.rank == x.rank


def concatenated(g: Growing) -> object:
    x = g.pick("", lambda one: one.rank > 0)
    if x is None:
        return None
    axis = g.rng.randrange(x.rank)
    for _ in range(g.rng.randint(1, 2)):
        if x is None:
            return None
        others = [g.pick("", partial(_alike, x)) for _ in range(g.rng.randrange(3))]
        if x.dtype.kind == "f" and g.chance(0.6):
            others.append(g.one("Neg", x))
        every = [x, *(one for one in others if one is not None)]
        g.rng.shuffle(every)
        x = g.one("Concat", *every, axis=axis)
    return x


def padded(g: Growing, x: Known | None) -> Known | None:
    """Pad in all modes, with numbers of both signs."""
    if x is None or not x.rank:
        return None
    pads = [g.rng.choice((0, 0, 0, 1, 2, -1)) for _ in range(2 * x.rank)]
    mode = g.rng.choice(("constant", "constant", "constant", "reflect", "edge", None))
    if g.opset < 11:
        return g.one("Pad", x, pads=pads, mode=mode, value=g.rng.choice((0.0, None, 1.0)))
    slots = [x, g.ints(*pads)]
    if g.chance(0.5):
        slots.append(g.constant(np.array(g.rng.choice((0, 1)), x.dtype)))
    return g.one("Pad", *slots, mode=mode)


def pads(g: Growing) -> object:
    x = g.pick("fi")
    for _ in range(g.rng.randint(1, 2)):
        x = padded(g, x)
    return x


def resized(g: Growing) -> object:
    x = g.pick("f", lambda one: one.rank == 4)
    if x is None:
        return None
    if g.opset < 11:
        return g.one("Upsample", x, g.constant(np.array([1, 1, g.rng.choice((1, 2)), 1], np.float32)))
    if g.chance(0.3):
        return g.one("DepthToSpace" if g.chance(0.5) else "SpaceToDepth", x, blocksize=g.rng.choice((1, 2)))
    scales = g.constant(np.array([1, 1, g.rng.choice((1, 2)), 1], np.float32))
    return g.one("Resize", x, None, scales, mode=g.rng.choice(("nearest", "linear")))


def sequence(g: Growing) -> object:
    """Values that go through a sequence: put in, taken out, put together or split."""
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None or g.opset < 11:
        return None
    y = g.one("Neg", x) or x
    many, out = g.name("many"), g.name("v")
    axis = g.rng.randrange(x.rank)
    if g.chance(0.3):
        nodes = [helper.make_node("SplitToSequence", [x.name], [many], axis=axis, keepdims=g.rng.randrange(2))]
    elif g.chance(0.5):
        nodes = [helper.make_node("SequenceConstruct", [x.name, y.name, x.name][: g.rng.randint(1, 3)], [many])]
    else:
        empty = g.name("many")
        nodes = [helper.make_node("SequenceEmpty", [], [empty])]
        nodes.append(helper.make_node("SequenceInsert", [empty, x.name], [many]))
    if g.chance(0.4):
        more, at = g.name("many"), g.number(g.rng.choice((0, -1)))
        place = [at.name] if g.chance(0.5) else []
        nodes.append(helper.make_node("SequenceInsert", [many, y.name, *place], [more]))
        many = more
    if g.chance(0.2):
        more = g.name("many")
        nodes.append(helper.make_node("SequenceErase", [many, g.number(0).name], [more]))
        many = more
    kind = g.rng.randrange(3)
    if kind == 0:
        nodes.append(helper.make_node("SequenceAt", [many, g.number(g.rng.choice((0, -1, 1))).name], [out]))
    elif kind == 1:
        nodes.append(helper.make_node("ConcatFromSequence", [many], [out], axis=axis, new_axis=g.rng.randrange(2)))
    else:
        nodes.append(helper.make_node("SequenceLength", [many], [out]))
    return g.chain(nodes, [out])


def chunks(g: Growing) -> object:
    """All elements in rows of a few, and back."""
    x = g.pick("f", lambda one: all(one.settled) and one.rank > 0)
    return x and g.one("Reshape", g.one("Reshape", x, g.ints(-1, 1)), g.ints(*x.shape))


VIEWS: tuple[Family, ...] = (
    views, views, views, sandwich, sandwich, sliced, sliced, split, split, gathered, gathered, scattered, expanded,
    concatenated, concatenated, pads, resized, sequence, chunks,
)  # fmt: skip
