"""Operators that put axes together end to end, cut pieces of them, or pick indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.analysis.channels.attributes import axis_of, gives, has, integers, text
from graphopt.analysis.channels.elementwise import joined
from graphopt.analysis.channels.flow import Axes, Flow, Labels, named
from graphopt.analysis.constants import constant_values
from graphopt.ir import Node
from graphopt.ir.values import Array

_UNKNOWN_RANK = "has data of unknown rank"
_LARGE = 1 << 31


def _concat(node: Node, flow: Flow) -> str | None:
    parts = [flow.axes(tensor) for tensor in node.inputs]
    known = [one for one in parts if one is not None]
    if len(known) < len(parts) or len({len(one) for one in known}) != 1:
        return _UNKNOWN_RANK
    axis = axis_of(node, len(known[0]), 1)
    if axis is None:
        return "has an axis that is not known"
    made = [joined(flow, [one[at] for one in known]) for at in range(len(known[0])) if at != axis]
    made.insert(axis, _end_to_end(node, flow, [one[axis] for one in known], axis))
    flow.give(node.outputs[0], made)
    return None


def _end_to_end(node: Node, flow: Flow, parts: list[Labels], axis: int) -> Labels:
    """Parts that cannot get shorter have labels of their own between those that can."""
    if all(isinstance(one, str) for one in parts):
        return parts[0]
    found = list[Array]()
    for tensor, labels in zip(node.inputs, parts, strict=True):
        if isinstance(labels, str):
            size = flow.dim(tensor, axis)
            if size is None:
                why = f"{named(node)} puts it together with {tensor.name!r}, whose size is not known"
                for one in parts:
                    flow.bar(one, why)
                return why
            found.append(_barred(flow, size, labels))
        else:
            found.append(labels)
    return np.concatenate(found)


def _barred(flow: Flow, size: int, why: str) -> Array:
    made = flow.fresh(size)
    flow.bar(made, why)
    return made


def _split(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    axis = None if data is None else axis_of(node, len(data), 0)
    if data is None or axis is None:
        return _UNKNOWN_RANK
    labels = data[axis]
    if isinstance(labels, str):
        for output in node.outputs:
            flow.give(output, data)
        return None
    sizes = integers(node, "split", 1) if gives(node, "split", 1) else _even(len(labels), len(node.outputs))
    if sizes is None or len(sizes) != len(node.outputs) or sum(sizes) != len(labels) or min(sizes) < 0:
        return "has sizes that are not known"
    start = 0
    for output, size in zip(node.outputs, sizes, strict=True):
        flow.give(output, (*data[:axis], labels[start : start + size], *data[axis + 1 :]))
        start += size
    flow.need("split", node, node.inputs[0], axis, values=np.asarray(sizes, np.int64))
    return None


def _even(length: int, pieces: int) -> list[int]:
    size = -(-length // pieces)
    return [max(min(size, length - at * size), 0) for at in range(pieces)]


def _slice(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    starts, ends = integers(node, "starts", 1), integers(node, "ends", 2)
    if data is None:
        return _UNKNOWN_RANK
    count = len(starts or ends or ())
    axes = integers(node, "axes", 3) if gives(node, "axes", 3) else list(range(count))
    steps = integers(node, "steps", 4) if has(node, 4) else [1] * count
    if axes is None or any(not -len(data) <= axis < len(data) for axis in axes):
        return "has axes that are not known"
    if any(one is not None and len(one) != len(axes) for one in (starts, ends, steps)):
        return "has bounds for other axes than it names"
    made = list(data)
    for index, one in enumerate(axes):
        axis = one % len(data)
        labels = data[axis]
        if isinstance(labels, str):
            continue
        if starts is None or ends is None or steps is None or steps[index] != 1:
            flow.bar(labels, f"{named(node)} takes a part of it that is not known")
            made[axis] = f"{named(node)} makes it"
            continue
        start, end, _ = slice(starts[index], ends[index]).indices(len(labels))
        if start == 0 and end == len(labels) and ends[index] >= _LARGE:
            continue  # all of it, however long it is
        end = max(start, end)
        made[axis] = labels[start:end]
        bounds = np.asarray([start, end], np.int64)
        flow.need("slice", node, node.inputs[0], axis, index=index, values=bounds)
    flow.give(node.outputs[0], made)
    return None


def _gather(node: Node, flow: Flow) -> str | None:
    data, where = flow.axes(node.inputs[0]), flow.axes(node.inputs[1])
    axis = None if data is None else axis_of(node, len(data), 0)
    if data is None or where is None or axis is None:
        return _UNKNOWN_RANK
    picked: Axes = where
    labels = data[axis]
    if isinstance(labels, np.ndarray):
        at = constant_values(node.inputs[1])
        if at is None or at.ndim > 1 or at.size > len(labels) or (at.size and not _within(at, len(labels))):
            flow.bar(labels, f"{named(node)} looks up indices of it")
        else:
            at = at.astype(np.int64) % len(labels)
            if at.ndim == 0:
                flow.bar(labels[at.reshape(1)], f"{named(node)} takes it out")
            else:
                picked = (labels[at],)
            flow.need("indices", node, node.inputs[0], axis, slot=1, values=at.reshape(-1))
    flow.give(node.outputs[0], (*data[:axis], *picked, *data[axis + 1 :]))
    if len(data) == 2:
        flow.maker(node, 0, 1 - axis)
    return None


def _within(at: Array, length: int) -> bool:
    return bool(at.min() >= -length and at.max() < length)


def _pad(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    if data is None:
        return _UNKNOWN_RANK
    axes = integers(node, "axes", 3) if has(node, 3) else list(range(len(data)))
    if axes is None or any(not -len(data) <= axis < len(data) for axis in axes):
        return "has axes that are not known"
    pads = _pads(node, flow)
    made = list(data)
    for index, one in enumerate(axes):
        axis = one % len(data)
        labels = data[axis]
        if isinstance(labels, str):
            continue
        around = [None] if len(pads) != 2 * len(axes) else [pads[index], pads[len(axes) + index]]
        sizes = [size for size in around if isinstance(size, int) and size >= 0]
        if sizes == [0, 0]:
            continue
        if len(sizes) < 2 or text(node, "mode", "constant") != "constant":
            made[axis] = why = f"{named(node)} changes it at its ends"
            flow.bar(labels, why)
        else:
            before, after = (_barred(flow, size, f"{named(node)} makes it") for size in sizes)
            made[axis] = np.concatenate([before, labels, after])
    flow.give(node.outputs[0], made)
    return None


def _pads(node: Node, flow: Flow) -> list[Any]:
    """The pads as far as they are known numbers; of computed ones some often are."""
    stated = integers(node, "pads", 1)
    if stated is not None or not has(node, 1):
        return list(stated or ())
    value = flow.shapes.value(node.inputs[1])
    return [] if value is None else list(value.ravel())


RULES = {"Concat": _concat, "Gather": _gather, "Pad": _pad, "Slice": _slice, "Split": _split}
