"""Operators that look values up by index, or put them where an index says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Operators, Run, same

_REDUCTIONS = {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}


def _counted(indices: Tensor, size: int) -> Tensor:
    """Indices from the start; negative ones count from the end."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


def _gather(call: Call) -> Run:
    axis = call.integer("axis")

    def run(x: Tensor, indices: Tensor) -> Tensor:
        along = axis + x.dim() if axis < 0 else axis
        if indices.dim() == 0:
            return x.select(along, int(indices.item()))
        places = _counted(indices, x.shape[along])
        if along == 0 and x.dim() == 2 and x.is_floating_point():
            return functional.embedding(places, x)  # its gradient is found faster than that of index_select
        shape = (*x.shape[:along], *indices.shape, *x.shape[along + 1 :])
        return x.index_select(along, places.reshape(-1)).reshape(shape)

    return run


def _gather_elements(call: Call) -> Run:
    axis = call.integer("axis")
    return lambda x, indices: torch.gather(x, axis, _counted(indices, x.shape[axis]))


def _gather_points(call: Call) -> Run:
    shared = call.integer("batch_dims")

    def run(x: Tensor, indices: Tensor) -> Tensor:
        lead = 1
        for size in x.shape[:shared]:
            lead *= size
        flat, places = x.reshape(lead, *x.shape[shared:]), indices.reshape(lead, -1, indices.shape[-1])
        parts = [_counted(places[..., k], x.shape[shared + k]) for k in range(indices.shape[-1])]
        found = flat[(torch.arange(lead).unsqueeze(1), *parts)]
        return found.reshape(*indices.shape[:-1], *x.shape[shared + indices.shape[-1] :])

    return run


def _scatter_elements(call: Call) -> Run:
    axis, how = call.integer("axis"), call.text("reduction", "none")

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        places = _counted(indices, x.shape[axis])
        if how == "none":
            return x.scatter(axis, places, updates)
        return x.scatter_reduce(axis, places, updates, _REDUCTIONS[how], include_self=True)

    return run


def _scatter_points(call: Call) -> Run:
    how = call.text("reduction", "none")

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        if how in ("none", "add"):
            parts = tuple(_counted(indices[..., k], x.shape[k]) for k in range(depth))
            return x.index_put(parts, updates, accumulate=how == "add")
        rows = torch.zeros(indices.shape[:-1], dtype=torch.int64)
        for k in range(depth):
            rows = rows * x.shape[k] + _counted(indices[..., k], x.shape[k])
        inner = x.shape[depth:].numel()
        flat, values = x.reshape(-1, inner), updates.reshape(-1, inner)
        target = rows.reshape(-1, 1).expand(values.shape)
        return flat.scatter_reduce(0, target, values, _REDUCTIONS[how], include_self=True).reshape(x.shape)

    return run


def _one_hot(call: Call) -> Run:
    axis = call.integer("axis", -1)

    def run(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        size = int(depth.reshape(-1)[0].item())
        along = axis + indices.dim() + 1 if axis < 0 else axis
        places = _counted(indices, size).unsqueeze(along)
        classes = torch.arange(size).reshape([size if k == along else 1 for k in range(places.dim())])
        return torch.where(places == classes, values[1], values[0])

    return run


def _largest(call: Call) -> Run:
    axis, largest = call.integer("axis", -1), bool(call.integer("largest", 1))
    fixed = call.attrs.get("k")

    def run(x: Tensor, count: Tensor | None = None) -> Any:
        number = int(fixed or 0) if count is None else int(count.item())
        values, places = torch.sort(x, dim=axis, descending=largest, stable=True)  # of equals the first is first
        return values.narrow(axis, 0, number), places.narrow(axis, 0, number)

    return run


def _non_zero(x: Tensor) -> Tensor:
    return torch.nonzero(x.detach()).t()


def _compress(call: Call) -> Run:
    axis = call.attrs.get("axis")

    def run(x: Tensor, condition: Tensor) -> Tensor:
        x, along = (x.reshape(-1), 0) if axis is None else (x, int(axis))
        places = torch.nonzero(condition).reshape(-1)
        return x.index_select(along, places[places < x.shape[along]])

    return run


OPERATORS: Operators = {
    "Gather": [(1, _gather)],
    "GatherElements": [(11, _gather_elements)],
    "GatherND": [(11, _gather_points)],
    "Scatter": [(9, _scatter_elements)],
    "ScatterElements": [(11, _scatter_elements)],
    "ScatterND": [(11, _scatter_points)],
    "OneHot": [(9, _one_hot)],
    "TopK": [(1, _largest)],
    "NonZero": [(9, same(_non_zero))],
    "Compress": [(9, _compress)],
}
