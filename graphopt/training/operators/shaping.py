"""Operators that change or ask for shapes and types, and make tensors of given shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphopt.training.call import Call, Operators, Run, same
from graphopt.training.tensors import to_torch, torch_type


def _identity(x: Any) -> Any:
    return x


def _shape(call: Call) -> Run:
    start, end = call.integer("start"), call.attrs.get("end")
    if start == 0 and end is None:
        return lambda x: torch.tensor(x.shape, dtype=torch.int64)
    stop = None if end is None else int(end)
    return lambda x: torch.tensor(tuple(x.shape)[start:stop], dtype=torch.int64)


def _size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


def _reshape(call: Call) -> Run:
    literal = bool(call.integer("allowzero"))

    def run(x: Tensor, shape: Tensor) -> Tensor:
        wanted = shape.tolist()
        if 0 in wanted and not literal:
            wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
        if -1 in wanted and x.numel() == 0:  # torch will not guess a size of nothing
            rest = 1
            for size in wanted:
                rest *= size if size > 0 else 1
            wanted = [(0 if 0 not in wanted else 1) if size == -1 else size for size in wanted]
        return x.reshape(wanted)

    return run


def _flatten(call: Call) -> Run:
    axis = call.integer("axis", 1)

    def run(x: Tensor) -> Tensor:
        first = axis + x.dim() if axis < 0 else axis
        rows = 1
        for size in x.shape[:first]:
            rows *= size
        columns = 1
        for size in x.shape[first:]:
            columns *= size
        return x.reshape(rows, columns)

    return run


def _axes(x: Tensor, axes: Any, rank: int) -> list[int]:
    found = axes.tolist() if isinstance(axes, Tensor) else list(axes)
    found = found if isinstance(found, list) else [found]
    return sorted(axis + rank if axis < 0 else axis for axis in found)


def _unsqueeze(x: Tensor, axes: Any) -> Tensor:
    count = axes.numel() if isinstance(axes, Tensor) else len(axes)
    for axis in _axes(x, axes, x.dim() + count):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, axes: Any = None) -> Tensor:
    if axes is None:
        return x.squeeze()
    for axis in reversed(_axes(x, axes, x.dim())):
        x = x.squeeze(axis)
    return x


def _by_attribute(call: Call) -> Run:
    axes = call.integers("axes")
    if call.op == "Unsqueeze":
        return lambda x: _unsqueeze(x, axes)
    return lambda x: _squeeze(x, axes)


def _transpose(call: Call) -> Run:
    order = call.integers("perm")
    if order is None:
        return lambda x: x.permute(*reversed(range(x.dim())))
    return lambda x: x.permute(order)


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    wanted = shape.tolist()
    have = (1,) * (len(wanted) - x.dim()) + tuple(x.shape)
    wanted = [1] * (len(have) - len(wanted)) + wanted
    return x.expand([size if other == 1 else other for size, other in zip(wanted, have, strict=True)])


def _cast(call: Call) -> Run:
    number = call.integer("to")
    target, integral = torch_type(number, call.compute), number not in (1, 10, 11, 16)
    wrap = {4: 1 << 16, 12: 1 << 32}.get(number)  # unsigned types that a wider one carries
    if call.op == "CastLike":
        return lambda x, like: x.to(like.dtype)

    def run(x: Tensor) -> Tensor:
        if integral and target == torch.uint8 and x.is_floating_point():
            return x.to(torch.int64).to(target)
        y = x.to(target)
        return torch.remainder(y, wrap) if wrap else y

    return run


def _constant_of_shape(call: Call) -> Run:
    value = call.attrs.get("value")
    made = torch.zeros(1) if value is None else to_torch(value.values, call.compute)
    if value is None and call.compute is not None:
        made = made.to(call.compute)
    number, kind = made.reshape(-1)[0].item(), made.dtype
    return lambda shape: torch.full(shape.tolist(), number, dtype=kind)


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = start.item(), limit.item(), delta.item()
    count = max(-int(-(last - first) // step), 0)
    return torch.arange(count, dtype=start.dtype) * delta + start


def _eye(call: Call) -> Run:
    offset, number = call.integer("k"), call.attrs.get("dtype")

    def run(x: Tensor) -> Tensor:
        kind = x.dtype if number is None else torch_type(int(number), call.compute)
        return torch.diagonal_scatter(
            torch.zeros(x.shape, dtype=kind), torch.ones((), dtype=kind).expand(_length(x, offset)), offset
        )

    return run


def _length(x: Tensor, offset: int) -> int:
    rows, columns = int(x.shape[0]), int(x.shape[1])
    return max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)


def _dropout(call: Call) -> Run:
    def run(x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> Any:
        if training is not None and bool(training.item()) and (ratio is None or ratio.item() != 0):
            raise call.refuse("it is in training mode, where it is random")
        return x, torch.ones(x.shape, dtype=torch.bool)

    return run


OPERATORS: Operators = {
    "Identity": [(1, same(_identity))],
    "Shape": [(1, _shape)],
    "Size": [(1, same(_size))],
    "Reshape": [(5, _reshape)],
    "Flatten": [(1, _flatten)],
    "Unsqueeze": [(1, _by_attribute), (13, same(_unsqueeze))],
    "Squeeze": [(1, _by_attribute), (13, same(_squeeze))],
    "Transpose": [(1, _transpose)],
    "Expand": [(8, same(_expand))],
    "Cast": [(6, _cast)],
    "CastLike": [(15, lambda call: lambda x, like: x.to(like.dtype))],
    "ConstantOfShape": [(9, _constant_of_shape)],
    "Range": [(11, same(_range))],
    "Dropout": [(7, _dropout)],
    "EyeLike": [(9, _eye)],
}
