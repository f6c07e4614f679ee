"""Reductions over axes, and the places of largest and smallest values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphopt.training.call import Call, Maker, Operators, Run

Reduce = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.sum(x, axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keepdim=keep)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keep, dtype=x.dtype)
    return x


def _extreme(largest: bool) -> Reduce:
    def run(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
        if x.dtype == torch.bool:
            return (torch.any if largest else torch.all)(x, axes, keepdim=keep)
        if any(x.shape[axis] == 0 for axis in axes):
            limit: Any = torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
            infinite = float("-inf") if largest else float("inf")
            edge = infinite if x.is_floating_point() else limit.min if largest else limit.max
            return torch.full_like(_sum(x, axes, keep), edge)
        return (torch.amax if largest else torch.amin)(x, axes, keepdim=keep)

    return run


def _norm1(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x.abs(), axes, keep)


def _squares(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _norm2(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if not x.is_floating_point():
        return torch.sqrt(_squares(x, axes, keep).double()).to(x.dtype)
    return torch.sqrt(_squares(x, axes, keep))


def _log_sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.log(_sum(x, axes, keep))


def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if not x.is_floating_point():
        return torch.logsumexp(x.double(), axes, keepdim=keep).to(x.dtype)
    return torch.logsumexp(x, axes, keepdim=keep)


def _by_attribute(function: Reduce) -> Maker:
    def maker(call: Call) -> Run:
        axes, keep = call.integers("axes"), bool(call.integer("keepdims", 1))
        return lambda x: _reduced(function, x, axes or (), keep)

    return maker


def _by_input(function: Reduce) -> Maker:
    def maker(call: Call) -> Run:
        keep, idle = bool(call.integer("keepdims", 1)), bool(call.integer("noop_with_empty_axes"))

        def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
            chosen = () if axes is None else tuple(axes.reshape(-1).tolist())
            if not chosen and idle:
                return function(x.unsqueeze(0), (0,), False)  # the elementwise part is still done
            return _reduced(function, x, chosen, keep)

        return run

    return maker


def _reduced(function: Reduce, x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    rank = x.dim()
    if rank == 0:
        return function(x.reshape(1), (0,), False)
    return function(x, tuple(axis % rank for axis in axes) or tuple(range(rank)), keep)


def _place(call: Call) -> Run:
    axis, keep = call.integer("axis"), bool(call.integer("keepdims", 1))
    last, largest = bool(call.integer("select_last_index")), call.op == "ArgMax"

    def run(x: Tensor) -> Tensor:
        x = x.detach()
        along = axis % max(x.dim(), 1)
        x = x.flip(along) if last else x
        extreme = x.amax(along, keepdim=True) if largest else x.amin(along, keepdim=True)
        place = (x == extreme).to(torch.int8).argmax(along, keepdim=True)  # the first of equals
        place = x.shape[along] - 1 - place if last else place
        return place if keep else place.squeeze(along)

    return run


_FUNCTIONS: dict[str, tuple[int, Reduce]] = {
    "ReduceSum": (13, _sum),
    "ReduceMean": (18, _mean),
    "ReduceProd": (18, _prod),
    "ReduceMax": (18, _extreme(True)),
    "ReduceMin": (18, _extreme(False)),
    "ReduceL1": (18, _norm1),
    "ReduceL2": (18, _norm2),
    "ReduceSumSquare": (18, _squares),
    "ReduceLogSum": (18, _log_sum),
    "ReduceLogSumExp": (18, _log_sum_exp),
}

OPERATORS: Operators = {
    **{op: [(1, _by_attribute(one)), (since, _by_input(one))] for op, (since, one) in _FUNCTIONS.items()},
    "ArgMax": [(1, _place)],
    "ArgMin": [(1, _place)],
}
