"""What operators make of the elements of small integer tensors, which hold sizes, axes and indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphopt.analysis.dim_functions import product
from graphopt.analysis.inference import numbers
from graphopt.analysis.inference.fact import MOST_VALUES, Call, Unknown, ValueRule, Values, axis_of, concrete
from graphopt.analysis.inference.moving import reshaped
from graphopt.analysis.inference.numbers import filled


def _shape(call: Call) -> Values:
    dims = call.dims(0)
    rank = len(dims)
    start, end = call.integer("start", 0), call.integer("end", rank)
    start, end = (max(0, min(rank, one + rank if one < 0 else one)) for one in (start, end))
    part = dims[start:end]
    return filled((len(part),), part)


def _size(call: Call) -> Values:
    return filled((), [product(call.dims(0))])


def _same(call: Call) -> Values:
    return call.value(0)


def _gather(call: Call) -> Values:
    data, indices = call.value(0), call.value(1)
    axis = axis_of(call.integer("axis", 0), data.ndim)
    if not all(isinstance(one, int) for one in indices.flat):
        raise Unknown
    places = indices.astype(np.int64)
    if places.size and not (-data.shape[axis] <= places.min() and places.max() < data.shape[axis]):
        raise Unknown
    return _array(np.take(data, places, axis=axis))


def _array(made: Any) -> Values:
    if isinstance(made, np.ndarray):
        return made
    return filled((), [made])


def _slice(call: Call) -> Values:
    data = call.value(0)
    if call.opset < 10:
        starts, ends = call.listed("starts"), call.listed("ends")
        axes, steps = call.listed("axes"), None
    else:
        starts, ends, axes, steps = (call.numbers("", slot) for slot in (1, 2, 3, 4))
    if starts is None or ends is None:
        raise Unknown
    where = [slice(None)] * data.ndim
    for start, end, axis, step in zip(
        starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True
    ):
        place = axis_of(axis, data.ndim)
        size = data.shape[place]
        if step < 0 and start < -size:
            raise Unknown
        where[place] = slice(start, None if step < 0 and end < -size else end, step)
    return data[tuple(where)]


def _concat(call: Call) -> Values:
    return np.concatenate([call.value(slot) for slot in range(len(call.inputs))], axis=call.integer("axis", 0))


def _split(call: Call) -> list[Values]:
    data = call.value(0)
    axis = axis_of(call.integer("axis", 0), data.ndim)
    parts = call.listed("split") if call.opset < 13 else call.numbers("", 1)
    if parts is None:
        part = -(-data.shape[axis] // call.count)
        parts = [part] * call.count  # numpy cuts the last one short
    ends = np.cumsum(parts)
    return list(np.split(data, ends[:-1], axis))


def _reshape(call: Call) -> Values:
    data = call.value(0)
    wanted = call.listed("shape") if "shape" in call.attrs else call.numbers("", 1)
    shape = concrete(reshaped(data.shape, wanted or (), bool(call.integer("allowzero", 0)), call))
    return data.reshape(shape if shape is not None else data.shape)


def _squeeze(call: Call) -> Values:
    data, axes = call.value(0), call.numbers("axes", 1)
    return data.squeeze() if axes is None else data.squeeze(tuple(axes))


def _unsqueeze(call: Call) -> Values:
    axes = call.numbers("axes", 1)
    if axes is None:
        raise Unknown
    return np.expand_dims(call.value(0), tuple(axes))


def _transpose(call: Call) -> Values:
    return call.value(0).transpose(call.listed("perm"))


def _flatten(call: Call) -> Values:
    data, axis = call.value(0), call.integer("axis", 1)
    return data.reshape(math.prod(data.shape[:axis]), -1) if data.size else data


def _expand(call: Call) -> Values:
    data, shape = call.value(0), call.numbers("", 1)
    wanted = np.broadcast_shapes(data.shape, tuple(shape or ()))
    if math.prod(wanted) > MOST_VALUES:
        raise Unknown
    return np.broadcast_to(data, wanted)


def _tile(call: Call) -> Values:
    data, repeats = call.value(0), call.numbers("", 1)
    if repeats is None or call.opset < 6 or len(repeats) != data.ndim:
        raise Unknown
    if min(repeats, default=0) < 0 or math.prod(data.shape) * math.prod(repeats) > MOST_VALUES:
        raise Unknown
    return np.tile(data, repeats)


def _range(call: Call) -> Values:
    start, limit, delta = (call.entries(slot)[0] for slot in range(3))
    if not isinstance(delta, int) or delta == 0:
        raise Unknown
    gap = limit - start
    count = max(0, -(-gap // delta)) if isinstance(gap, int) else MOST_VALUES + 1
    if count > MOST_VALUES:
        raise Unknown
    return filled((count,), [start + place * delta for place in range(count)])


def _constant_of_shape(call: Call) -> Values:
    shape = call.numbers("", 0)
    held = call.attrs.get("value")
    number = 0
    if held is not None:
        array = held.values
        if array.dtype.kind not in "iub":
            raise Unknown
        number = int(array.reshape(-1)[0])
    if shape is None or math.prod(shape) > MOST_VALUES:
        raise Unknown
    return filled(shape, [number] * math.prod(shape))


RULES: dict[str, ValueRule] = {
    "Shape": _shape,
    "Size": _size,
    "Identity": _same,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Split": _split,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Expand": _expand,
    "Tile": _tile,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    **numbers.RULES,
}
