"""Lists of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphopt.training.call import Call, Operators, Run, same


def _made(*parts: Tensor) -> list[Tensor]:
    return list(parts)


def _at(parts: list[Tensor], place: Tensor) -> Tensor:
    return parts[int(place.item())]


def _inserted(parts: list[Tensor], one: Tensor, place: Tensor | None = None) -> list[Tensor]:
    where = len(parts) if place is None else int(place.item())
    where = where + len(parts) if where < 0 else where
    return [*parts[:where], one, *parts[where:]]


def _erased(parts: list[Tensor], place: Tensor | None = None) -> list[Tensor]:
    where = len(parts) - 1 if place is None else int(place.item()) % len(parts)
    return [*parts[:where], *parts[where + 1 :]]


def _length(parts: list[Tensor]) -> Tensor:
    return torch.tensor(len(parts))


def _joined(call: Call) -> Run:
    axis, new = call.integer("axis"), bool(call.integer("new_axis"))
    return lambda parts: torch.stack(parts, axis) if new else torch.cat(parts, axis)


def _split(call: Call) -> Run:
    axis, keep = call.integer("axis"), bool(call.integer("keepdims", 1))

    def run(x: Tensor, sizes: Any = None) -> list[Tensor]:
        if sizes is None:
            parts = list(torch.split(x, 1, axis))
            return parts if keep else [part.squeeze(axis) for part in parts]
        return list(torch.split(x, int(sizes.item()) if sizes.dim() == 0 else sizes.tolist(), axis))

    return run


OPERATORS: Operators = {
    "SequenceEmpty": [(11, lambda call: list)],
    "SequenceConstruct": [(11, same(_made))],
    "SequenceAt": [(11, same(_at))],
    "SequenceInsert": [(11, same(_inserted))],
    "SequenceErase": [(11, same(_erased))],
    "SequenceLength": [(11, same(_length))],
    "ConcatFromSequence": [(11, _joined)],
    "SplitToSequence": [(11, _split)],
}
