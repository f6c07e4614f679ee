"""Operators that cut, join, repeat and pad tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from graphopt.training.call import Call, Operators, Run, same


def _concat(call: Call) -> Run:
    axis = call.integer("axis", 1)
    return lambda *inputs: torch.cat(inputs, axis) if len(inputs) > 1 else inputs[0]


def _cut(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    size = x.shape[axis]
    axis = axis + x.dim() if axis < 0 else axis
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        start, end = min(max(start, 0), size), min(max(end, 0), size)
        if step == 1:
            return x if start == 0 and end == size else x.narrow(axis, start, max(end - start, 0))
        count = max(-((start - end) // step), 0)
        return (
            x.narrow(axis, start, min(max(end - start, 0), size - start))[
                (slice(None),) * axis + (slice(None, None, step),)
            ]
            if count
            else x.narrow(axis, 0, 0)
        )
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    places = torch.arange(start, end, step) if start > end else torch.zeros(0, dtype=torch.int64)
    return x.index_select(axis, places)


def _slice_attributes(call: Call) -> Run:
    starts, ends = call.integers("starts") or (), call.integers("ends") or ()
    axes = call.integers("axes") or tuple(range(len(starts)))

    def run(x: Tensor) -> Tensor:
        for axis, start, end in zip(axes, starts, ends, strict=True):
            x = _cut(x, axis, start, end, 1)
        return x

    return run


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    first, last = starts.tolist(), ends.tolist()
    along = list(range(len(first))) if axes is None else axes.tolist()
    stride = [1] * len(first) if steps is None else steps.tolist()
    for axis, start, end, step in zip(along, first, last, stride, strict=True):
        x = _cut(x, axis, start, end, step)
    return x


OPERATORS: Operators = {
    "Concat": [(4, _concat)],
    "Slice": [(1, _slice_attributes), (10, same(_slice))],
}
