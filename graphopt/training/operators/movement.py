"""Operators that cut, join, repeat, pad and rearrange tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Operators, Run, same


def _concat(call: Call) -> Run:
    axis = call.integer("axis", 1)
    return lambda *inputs: torch.cat(inputs, axis) if len(inputs) > 1 else inputs[0]


def _cut(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    size = x.shape[axis]
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        start, end = min(max(start, 0), size), min(max(end, 0), size)
        if start == 0 and end == size and step == 1:
            return x
        part = x.narrow(axis, start, max(end - start, 0))
        return part if step == 1 else part[(slice(None),) * (axis % x.dim()) + (slice(None, None, step),)]
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


def _split(call: Call) -> Run:
    axis, parts = call.integer("axis"), call.attrs.get("num_outputs")
    given = call.integers("split")

    def run(x: Tensor, sizes: Tensor | None = None) -> Any:
        lengths = given if sizes is None else sizes.tolist()
        if not lengths:
            count = len(call.wanted) if parts is None else int(parts)
            each = -(-x.shape[axis] // count)
            lengths = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
        return tuple(torch.split(x, list(lengths), axis))

    return run


def _tile(x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(repeats.tolist())


def _pad(call: Call) -> Run:
    mode, fixed, number = call.text("mode", "constant"), call.integers("pads"), call.number("value")

    def run(x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        sizes = list(fixed or ()) if pads is None else pads.tolist()
        along = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes.tolist()]
        count = len(along)
        each = {axis: (sizes[place], sizes[place + count]) for place, axis in enumerate(along)}
        if mode == "constant":
            filler: Any = number if value is None else value.item()
            filler = filler if x.is_floating_point() else int(filler)
            flat = [size for axis in reversed(range(x.dim())) for size in each.get(axis, (0, 0))]
            return functional.pad(x, flat, value=filler)
        for axis, (before, after) in each.items():
            if before or after:
                x = x.index_select(axis, _source(mode, x.shape[axis], before, after))
        return x

    return run


def _source(mode: str, size: int, before: int, after: int) -> Tensor:
    """From which index each element of a padded axis comes."""
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if size == 1:
        return torch.zeros_like(places)
    places = places % (2 * size - 2)
    return torch.minimum(places, 2 * size - 2 - places)


def _depth_to_space(call: Call) -> Run:
    block, columns_first = call.integer("blocksize"), call.text("mode", "DCR") == "DCR"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if columns_first:
            y = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(n, c // block**2, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
        return y.reshape(n, c // block**2, h * block, w * block)

    return run


def _space_to_depth(call: Call) -> Run:
    block, order = call.integer("blocksize"), (0, 3, 5, 1, 2, 4)
    if call.text("mode", "DCR") == "CRD":
        order = (0, 1, 3, 5, 2, 4)

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n, c, h // block, block, w // block, block).permute(order)
        return y.reshape(n, c * block**2, h // block, w // block)

    return run


def _triangle(call: Call) -> Run:
    upper = bool(call.integer("upper", 1))

    def run(x: Tensor, offset: Tensor | None = None) -> Tensor:
        diagonal = 0 if offset is None else int(offset.item())
        return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)

    return run


def reversed_places(lengths: Tensor, size: int) -> Tensor:
    """For each step and sequence, where it comes from when the first `length` steps are turned round."""
    steps = torch.arange(size).unsqueeze(1)
    return torch.where(steps < lengths, lengths - 1 - steps, steps)


def _reverse_sequence(call: Call) -> Run:
    time, batch = call.integer("time_axis"), call.integer("batch_axis", 1)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        moved = x.movedim((time, batch), (0, 1))
        places = reversed_places(lengths, moved.shape[0])
        turned = moved[places, torch.arange(moved.shape[1])]
        return turned.movedim((0, 1), (time, batch))

    return run


def _crop_or_pad(call: Call) -> Run:
    chosen = call.integers("axes")

    def run(x: Tensor, shape: Tensor) -> Tensor:
        for axis, want in zip(chosen or range(x.dim()), shape.tolist(), strict=True):
            have = x.shape[axis]
            if have > want:
                x = x.narrow(axis, (have - want) // 2, want)
            elif have < want:
                before = (want - have) // 2
                flat = [0, 0] * (x.dim() - 1 - axis % x.dim()) + [before, want - have - before]
                x = functional.pad(x, flat)
        return x

    return run


OPERATORS: Operators = {
    "Concat": [(4, _concat)],
    "Slice": [(1, _slice_attributes), (10, same(_slice))],
    "Split": [(2, _split)],
    "Tile": [(6, same(_tile))],
    "Pad": [(2, _pad)],
    "DepthToSpace": [(1, _depth_to_space)],
    "SpaceToDepth": [(1, _space_to_depth)],
    "Trilu": [(14, _triangle)],
    "ReverseSequence": [(10, _reverse_sequence)],
    "CenterCropPad": [(18, _crop_or_pad)],
}
