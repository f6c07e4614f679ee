"""Operators that take parts of tensors, put them together, or look elements up."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from graphopt.analysis.dim_bounds import at_least, at_most
from graphopt.analysis.dim_functions import ceil_div, divide, floor_div, maximum
from graphopt.analysis.dim_functions import minimum as least
from graphopt.analysis.dims import Dim
from graphopt.analysis.inference.fact import Call, Fact, Rule, Unknown, axis_of
from graphopt.analysis.inference.moving import sized

_TO_THE_END = (1 << 31) - 1  # indices from here on are beyond every axis


def _concat(call: Call) -> Fact:
    dtype = next((one.dtype for one in call.inputs if one is not None and one.dtype), 0)
    shapes = [one.dims for one in call.inputs if one is not None]
    known = [one for one in shapes if one is not None]
    if not known:
        return Fact(dtype)
    rank = len(known[0])
    axis = axis_of(call.integer("axis", 1 if call.opset < 4 else 0), rank)
    dims = list(known[0])
    for place in range(rank):
        if place != axis:  # all agree, so one that is a number says what the others are
            dims[place] = next((one[place] for one in known if isinstance(one[place], int)), dims[place])
    if len(known) == len(shapes):
        length: Dim = 0
        for one in known:
            length = length + one[axis]
        dims[axis] = length
    else:
        dims[axis] = call.fresh()
    return Fact(dtype, tuple(dims))


def _split(call: Call) -> list[Fact]:
    dtype, dims = call.dtype(0), list(call.dims(0))
    axis = axis_of(call.integer("axis", 0), len(dims))
    parts: list[Dim] | None = None
    if call.opset < 13 or call.given(1) or "split" in call.attrs:
        listed = call.listed("split") if call.opset < 13 else None
        if listed is not None:
            parts = list(listed)
        elif call.given(1):
            value = call.fact(1).value
            parts = [call.fresh() for _ in range(call.count)] if value is None else list(value.reshape(-1))
            parts = [sized(one, call) for one in parts]
    if parts is None:
        size, part = dims[axis], ceil_div(dims[axis], call.count)
        if size == 0 or divide(size, call.count) is not None:
            parts = [part] * call.count
        elif not isinstance(size, int):
            parts = [call.fresh() for _ in range(call.count)]
        else:
            parts = [part] * (call.count - 1) + [size - part * (call.count - 1)]
            if call.opset < 18 or not at_least(parts[-1], 0):
                raise Unknown
    return [Fact(dtype, (*dims[:axis], part, *dims[axis + 1 :])) for part in parts]


def sliced(size: Dim, start: Dim, end: Dim, step: int, call: Call) -> Dim:
    """How many elements a Slice leaves of an axis."""
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        if step < 0 and start < -size:
            raise Unknown
        return len(range(*slice(start, None if step < 0 and end < -size else end, step).indices(size)))
    if step == -1 and start == -1 and isinstance(end, int) and end < -_TO_THE_END:
        return size
    first, last = (_bound(size, start), _bound(size, end)) if step > 0 else (None, None)
    if first is None or last is None:
        return call.fresh()
    return ceil_div(maximum(0, least(last, size) - first), step)


def _bound(size: Dim, index: Dim) -> Dim | None:
    """Where an index of a Slice with a positive step points, no further ahead than the axis begins."""
    if isinstance(index, int) and index >= _TO_THE_END:
        return size
    if at_least(index, 0):
        return index
    return maximum(0, size + index) if at_most(index, -1) else None


def _slice(call: Call) -> Fact:
    dtype, dims = call.dtype(0), list(call.dims(0))
    if call.opset < 10:
        starts: list[Dim] = list(call.listed("starts") or ())
        ends: list[Dim] = list(call.listed("ends") or ())
        axes, steps = call.listed("axes"), None
    else:
        axes, steps = (call.numbers("", slot) if call.given(slot) else None for slot in (3, 4))
        starts, ends = _bounds(call, 1, len(axes) if axes else None), _bounds(call, 2, len(axes) if axes else None)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = axis_of(axis, len(dims))
        dims[place] = sliced(dims[place], start, end, step, call)
    return Fact(dtype, tuple(dims))


def _bounds(call: Call, slot: int, count: int | None) -> list[Dim]:
    fact = call.fact(slot)
    if fact.value is not None:
        return list(fact.value.reshape(-1))
    if fact.dims is not None and len(fact.dims) == 1 and isinstance(fact.dims[0], int):
        count = fact.dims[0]
    if count is None:
        raise Unknown
    return [call.fresh(None) for _ in range(count)]  # they may be negative


def _pad(call: Call) -> Fact:
    dtype, dims = call.dtype(0), call.dims(0)
    name = "pads" if call.opset > 1 else "paddings"
    pads: Sequence[Dim] | None = call.listed(name) if call.opset < 11 else None
    axes = list(range(len(dims)))
    if call.opset >= 11:
        if call.given(3):
            axes = [axis_of(one, len(dims)) for one in call.numbers("", 3) or ()]
        if call.fact(1).value is None:
            return Fact(dtype, tuple(call.fresh() if axis in axes else one for axis, one in enumerate(dims)))
        pads = call.entries(1)
    if pads is None or len(pads) != 2 * len(axes):
        raise Unknown
    padded = list(dims)
    for place, axis in enumerate(axes):
        padded[axis] = sized(padded[axis] + pads[place] + pads[place + len(axes)], call)
    return Fact(dtype, tuple(padded))


def _gather(call: Call) -> Fact:
    dtype, data, indices = call.dtype(0), call.dims(0), call.dims(1)
    axis = axis_of(call.integer("axis", 0), len(data))
    return Fact(dtype, (*data[:axis], *indices, *data[axis + 1 :]))


def _gather_elements(call: Call) -> Fact:
    return Fact(call.dtype(0), call.fact(1).dims)


def _gather_nd(call: Call) -> Fact:
    dtype, data, indices = call.dtype(0), call.dims(0), call.dims(1)
    last = indices[-1]
    if not isinstance(last, int):
        raise Unknown
    return Fact(dtype, (*indices[:-1], *data[last + call.integer("batch_dims", 0) :]))


def _compress(call: Call) -> Fact:
    dtype = call.dtype(0)
    if "axis" not in call.attrs:
        return Fact(dtype, (call.fresh(),))
    dims = call.dims(0)
    axis = axis_of(call.integer("axis", 0), len(dims))
    return Fact(dtype, (*dims[:axis], call.fresh(), *dims[axis + 1 :]))


def _top_k(call: Call) -> list[Fact]:
    dims = list(call.dims(0))
    axis = axis_of(call.integer("axis", -1), len(dims))
    if call.opset < 10:
        dims[axis] = call.integer("k", -1)
    else:
        value = call.fact(1).value
        dims[axis] = call.fresh() if value is None else sized(value.reshape(-1)[0], call)
    return [Fact(call.dtype(0), tuple(dims)), Fact(TensorProto.INT64, tuple(dims))]


def _non_zero(call: Call) -> Fact:
    dims = call.fact(0).dims
    return Fact(TensorProto.INT64, (call.fresh() if dims is None else max(len(dims), 1), call.fresh()))


def _one_hot(call: Call) -> Fact:
    dtype, dims = call.dtype(2), list(call.dims(0))
    axis = axis_of(call.integer("axis", -1), len(dims) + 1)
    value = call.fact(1).value
    depth = call.fresh() if value is None else sized(value.reshape(-1)[0], call)
    return Fact(dtype, (*dims[:axis], depth, *dims[axis:]))


def _unique(call: Call) -> list[Fact]:
    dims, count = call.fact(0).dims, call.fresh()
    index = Fact(TensorProto.INT64, (count,))
    inverse = Fact(TensorProto.INT64, (call.fresh(),))
    if "axis" not in call.attrs:
        return [Fact(call.dtype(0), (count,)), index, inverse, index]
    if dims is None:
        return [Fact(call.dtype(0)), index, inverse, index]
    axis = axis_of(call.integer("axis", 0), len(dims))
    return [Fact(call.dtype(0), (*dims[:axis], count, *dims[axis + 1 :])), index, inverse, index]


def _range(call: Call) -> Fact:
    dtype = call.dtype(0) or call.dtype(1)
    values = [call.fact(slot).value for slot in range(3)]
    if any(one is None for one in values):
        return Fact(dtype, (call.fresh(),))
    start, limit, delta = (one.reshape(-1)[0] for one in values if one is not None)
    if not isinstance(delta, int) or delta == 0:
        return Fact(dtype, (call.fresh(),))
    gap = limit - start
    return Fact(dtype, (maximum(0, ceil_div(gap, delta) if delta > 0 else floor_div(-gap - delta - 1, -delta)),))


RULES: dict[str, Rule] = {
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Compress": _compress,
    "TopK": _top_k,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "Unique": _unique,
    "Range": _range,
}
