"""Operators that only move the elements of values that are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.analysis.call import Call, NotHere
from graphopt.ir.values import Array


def _identity(call: Call) -> Array:
    return call[0]


def _concat(call: Call) -> Array:
    parts = [call[slot] for slot in range(len(call.inputs))]
    if any(one.dtype != parts[0].dtype for one in parts) or ("axis" not in call.attrs):
        raise NotHere
    return np.concatenate(parts, call.integer("axis", 0))


def _squeeze(call: Call) -> Array:
    axes = call.integers("axes", 1)
    if axes == []:
        raise NotHere
    return np.squeeze(call[0], None if axes is None else tuple(axes))


def _unsqueeze(call: Call) -> Array:
    axes = call.integers("axes", 1)
    if not axes:
        raise NotHere
    return np.expand_dims(call[0], tuple(axes))


def _reshape(call: Call) -> Array:
    x, shape = call[0], call.integers("shape", 1)
    if shape is None or call.integer("allowzero", 0) or x.size == 0 or any(one < -1 for one in shape):
        raise NotHere
    return x.reshape([x.shape[axis] if one == 0 else one for axis, one in enumerate(shape)])


def _transpose(call: Call) -> Array:
    order = call.attrs.get("perm")
    return np.transpose(call[0], order if order is None else [int(one) for one in order])


def _slice(call: Call) -> Array:
    x, starts, ends = call[0], call.integers("starts", 1), call.integers("ends", 2)
    axes, steps = call.integers("axes", 3), call.integers("steps", 4)
    if starts is None or ends is None or len(starts) != len(ends):
        raise NotHere
    places: list[slice] = [slice(None)] * x.ndim
    for index, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = steps[index] if steps is not None else 1
        if step == 0 or not -x.ndim <= axis < x.ndim:
            raise NotHere
        places[axis] = slice(starts[index], ends[index], step)
        if step < 0:
            size = x.shape[axis]
            first, last = (one + size if one < 0 else one for one in (starts[index], ends[index]))
            # Backwards, an end before the first element is written as one below -size: Python's None.
            places[axis] = slice(min(first, size - 1), None if last < 0 else min(last, size - 1), step)
            if first < 0 or size == 0:
                raise NotHere
    return x[tuple(places)]


MOVES: dict[str, Callable[[Call], Array]] = {
    "Identity": _identity,
    "Concat": _concat,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
}
"""By operator of the default domain; a kernel raises NotHere for what it leaves to onnxruntime."""
