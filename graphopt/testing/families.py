"""Operator families of random graphs. Each function adds a node or a few to a draft, if it finds values that fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper

from graphopt.testing.draft import BOOL, FLOAT, INT64, Draft, Type, Value

Family = Callable[[Draft], object]

_FALSE, _RATIO = np.array(False), np.array(0.25, np.float32)


def floats(value: Value) -> bool:
    return value.dtype == FLOAT


def of_rank(rank: int) -> Callable[[Value], bool]:
    return lambda value: value.dtype == FLOAT and len(value.shape) == rank


def ends_known(value: Value) -> bool:
    """Float, and its last dim a known size."""
    return value.dtype == FLOAT and bool(value.shape) and isinstance(value.shape[-1], int)


def unary(draft: Draft) -> object:
    x = draft.pick(floats)
    op = draft.rng.choice(("Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Floor", "Erf", "Softplus"))
    return x and draft.add(op, [x], [(FLOAT, x.shape)])


def binary(draft: Draft) -> object:
    x = draft.pick(floats)
    y = draft.pick(lambda value: x is not None and value.dtype == FLOAT and value.shape == x.shape)
    op = draft.rng.choice(("Add", "Mul", "Sub", "Div", "Max"))
    return x and y and draft.add(op, [x, y], [(FLOAT, x.shape)])


def with_constant(draft: Draft) -> object:
    """A binary operator with a scalar or a vector, where some are no-ops: x + 0, x * 1, x / 1."""
    x = draft.pick(ends_known)
    if x is None:
        return None
    wide = draft.rng.random() < 0.5
    size = x.shape[-1]
    other = draft.floats(size) if wide and isinstance(size, int) else draft.floats()
    pair = [x, other] if draft.rng.random() < 0.7 else [other, x]
    return draft.add(draft.rng.choice(("Add", "Mul", "Sub", "Div", "Pow")), pair, [(FLOAT, x.shape)])


def clip(draft: Draft) -> object:
    """Optional slots: the lower bound left out, or the upper, or both."""
    x = draft.pick(floats)
    if x is None:
        return None
    slots: list[Value | None] = [x]
    kind = draft.rng.randrange(3)
    if kind:
        slots += [None if kind == 1 else draft.floats(), draft.floats()]
    return draft.add("Clip", slots, [(FLOAT, x.shape)])


def copies(draft: Draft) -> object:
    """Identity and the forms of Dropout, the mask read, unread or not there."""
    every = draft.shared.opset >= 16  # before, Identity copies tensors only
    x = draft.pick(lambda value: every or isinstance(value.dtype, int)) if draft.rng.random() < 0.6 else None
    if x is not None:
        return draft.add("Identity", [x], [(x.dtype, x.shape)])
    x = draft.pick(floats)
    if x is None:
        return None
    both: list[Type] = [(FLOAT, x.shape), (BOOL, x.shape)]
    outputs = both[: draft.rng.randint(1, 2)]
    slots: list[Value | None] = [x]
    if draft.rng.random() < 0.5:
        slots += [draft.weight(_RATIO, "r") if draft.rng.random() < 0.3 else None, draft.weight(_FALSE, "t")]
    return draft.add("Dropout", slots, outputs)


def matmul(draft: Draft) -> object:
    x = draft.pick(lambda value: ends_known(value) and len(value.shape) >= 2)
    if x is None or not isinstance(inner := x.shape[-1], int):
        return None
    outer = draft.rng.randint(1, 4)
    return draft.add("MatMul", [x, draft.floats(inner, outer)], [(FLOAT, (*x.shape[:-1], outer))])


def gemm(draft: Draft) -> object:
    x = draft.pick(lambda value: of_rank(2)(value) and isinstance(value.shape[-1], int))
    if x is None or not isinstance(inner := x.shape[-1], int):
        return None
    outer, flip = draft.rng.randint(1, 4), draft.rng.randrange(2)
    slots = [x, draft.floats(outer, inner) if flip else draft.floats(inner, outer)]
    if draft.rng.random() < 0.6:
        slots.append(draft.floats(outer))
    return draft.add("Gemm", slots, [(FLOAT, (x.shape[0], outer))], transB=flip, alpha=draft.rng.choice((1.0, 0.5)))


def conv(draft: Draft) -> object:
    x = draft.pick(of_rank(4))
    if x is None or not isinstance(channels := x.shape[1], int):
        return None
    outer = draft.rng.randint(1, 3)
    slots: list[Value | None] = [x, draft.floats(outer, channels, 3, 3)]
    kind = draft.rng.randrange(3)
    if kind:
        slots.append(None if kind == 1 else draft.floats(outer))
    return draft.add("Conv", slots, [(FLOAT, (x.shape[0], outer, *x.shape[2:]))], pads=[1, 1, 1, 1])


def reduction(draft: Draft) -> object:
    x = draft.pick(lambda value: floats(value) and len(value.shape) >= 2)
    if x is None:
        return None
    keep = draft.rng.randrange(2)
    shape = (*x.shape[:-1], 1) if keep else x.shape[:-1]
    op = draft.rng.choice(("ReduceSum", "ReduceMean", "ReduceMax"))
    if op == "ReduceSum" or draft.shared.opset >= 18:
        return draft.add(op, [x, draft.ints(-1)], [(FLOAT, shape)], keepdims=keep)
    return draft.add(op, [x], [(FLOAT, shape)], keepdims=keep, axes=[-1])


def softmax(draft: Draft) -> object:
    x = draft.pick(lambda value: floats(value) and len(value.shape) >= 1)
    return x and draft.add("Softmax", [x], [(FLOAT, x.shape)], axis=-1)


def transpose(draft: Draft) -> object:
    x = draft.pick(lambda value: floats(value) and len(value.shape) >= 2)
    if x is None:
        return None
    order = list(range(len(x.shape)))
    draft.rng.shuffle(order)
    return draft.add("Transpose", [x], [(FLOAT, tuple(x.shape[axis] for axis in order))], perm=order)


def reshape(draft: Draft) -> object:
    """Flatten all but the first dim, or put a dim of 1 in front and take it away again."""
    x = draft.pick(lambda value: floats(value) and len(value.shape) >= 2)
    if x is None:
        return None
    rest = x.shape[1:]
    if draft.rng.random() < 0.5 and all(isinstance(dim, int) for dim in rest):
        size = 1
        for dim in rest:
            size *= dim if isinstance(dim, int) else 1
        return draft.add("Reshape", [x, draft.ints(0, -1)], [(FLOAT, (x.shape[0], size))])
    (wide,) = draft.add("Unsqueeze", [x, draft.ints(0)], [(FLOAT, (1, *x.shape))])
    return draft.add("Squeeze", [wide, draft.ints(0)], [(FLOAT, x.shape)])


def shape_of(draft: Draft) -> object:
    """A shape computed at run time and used: zeros of the first dim's length are added up."""
    x = draft.pick(lambda value: floats(value) and len(value.shape) >= 1)
    if x is None:
        return None
    (shape,) = draft.add("Shape", [x], [(INT64, (len(x.shape),))])
    if draft.rng.random() < 0.5:
        return draft.add("Cast", [shape], [(FLOAT, shape.shape)], to=FLOAT)
    return draft.add("Gather", [shape, draft.ints(0)], [(INT64, (1,))])


def concat(draft: Draft) -> object:
    x = draft.pick(ends_known)
    if x is None or not isinstance(size := x.shape[-1], int):
        return None
    y = draft.pick(lambda value: value.dtype == FLOAT and value.shape == x.shape) or x
    return draft.add("Concat", [x, y], [(FLOAT, (*x.shape[:-1], 2 * size))], axis=-1)


def split(draft: Draft) -> object:
    """Two outputs; what is picked later decides which of them is read."""
    x = draft.pick(lambda value: ends_known(value) and value.shape[-1] not in (0, 1))
    if x is None or not isinstance(size := x.shape[-1], int):
        return None
    shapes = [(FLOAT, (*x.shape[:-1], part)) for part in (1, size - 1)]
    return draft.add("Split", [x, draft.ints(1, size - 1)], shapes, axis=-1)


def top_k(draft: Draft) -> object:
    x = draft.pick(ends_known)
    if x is None:
        return None
    shape = (*x.shape[:-1], 1)
    return draft.add("TopK", [x, draft.ints(1)], [(FLOAT, shape), (INT64, shape)])


def comparison(draft: Draft) -> object:
    x = draft.pick(floats)
    if x is None:
        return None
    (flags,) = draft.add("Greater", [x, draft.floats()], [(BOOL, x.shape)])
    return draft.add("Where", [flags, x, draft.floats()], [(FLOAT, x.shape)])


def integers(draft: Draft) -> object:
    x = draft.pick(lambda value: value.dtype == INT64)
    if x is None:
        return None
    op = draft.rng.choice(("Add", "Mul", "Sub"))
    return draft.add(op, [x, draft.weight(np.array(draft.rng.choice((0, 1, 2)), np.int64), "n")], [(INT64, x.shape)])


def sequence(draft: Draft) -> object:
    """Into a sequence and out of it again, the sequence itself copied on the way."""
    x = draft.pick(floats)
    if x is None:
        return None
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, x.shape))
    (many,) = draft.add("SequenceConstruct", [x, x], [(kind, ())])
    if draft.rng.random() < 0.5 and draft.shared.opset >= 16:
        (many,) = draft.add("Identity", [many], [(kind, ())])
    at = draft.weight(np.array(draft.rng.randrange(2), np.int64), "at")
    return draft.add("SequenceAt", [many, at], [(FLOAT, x.shape)])


FAMILIES: tuple[Family, ...] = (
    unary, unary, binary, with_constant, clip, copies, copies, matmul, gemm, conv, reduction, softmax,
    transpose, reshape, shape_of, concat, split, top_k, comparison,
    integers, sequence,
)  # fmt: skip
