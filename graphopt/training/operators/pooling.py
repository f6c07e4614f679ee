"""Pools over windows and over everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Operators, Run, same
from graphopt.training.operators.windows import Pads, padded, pads_of, per_axis

_MAX: dict[int, Any] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE: dict[int, Any] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _reach(call: Call, x: Tensor, kernel: Sequence[int]) -> tuple[Pads, Pads, Sequence[int], Sequence[int]]:
    """Pads as given, pads with what `ceil_mode` adds after them, strides and dilations."""
    rank = len(kernel)
    strides, dilations = per_axis(call, "strides", rank), per_axis(call, "dilations", rank)
    pads = pads_of(call, x.shape[2:], kernel, strides, dilations)
    if not call.integer("ceil_mode"):
        return pads, pads, strides, dilations
    grown: Pads = []
    for (before, after), size, width, stride, dilation in zip(
        pads, x.shape[2:], kernel, strides, dilations, strict=True
    ):
        span = (width - 1) * dilation + 1
        steps = -(-(size + before + after - span) // stride)
        if steps * stride >= size + before:  # a window may not start behind the input
            steps -= 1
        grown.append((before, max(steps * stride + span - size - before, after)))
    return pads, grown, strides, dilations


def _max_pool(call: Call) -> Run:
    kernel = call.integers("kernel_shape") or ()
    rank, places = len(kernel), call.wants(1)

    def run(x: Tensor) -> Any:
        _, pads, strides, dilations = _reach(call, x, kernel)
        even = all(before == after and 2 * before <= width for (before, after), width in zip(pads, kernel, strict=True))
        kind = x.dtype
        x = x if x.is_floating_point() else x.float()  # only bytes come here, which a float holds
        if even and not places:
            return _MAX[rank](x, kernel, strides, [before for before, _ in pads], dilations).to(kind)
        wide = padded(x, pads, float("-inf"))
        if not places:
            return _MAX[rank](wide, kernel, strides, 0, dilations).to(kind)
        y, flat = _MAX[rank](wide, kernel, strides, 0, dilations, return_indices=True)
        return y.to(kind), _offsets(flat, wide.shape, x.shape, pads, call.integer("storage_order"))

    return run


def _offsets(flat: Tensor, wide: torch.Size, shape: torch.Size, pads: Pads, columns_first: int) -> Tensor:
    """Places in the padded planes as places in the whole input."""
    where = []
    for size, (before, _) in zip(reversed(wide[2:]), reversed(pads), strict=True):
        where.append(flat % size - before)
        flat = torch.div(flat, size, rounding_mode="floor")
    spatial = list(zip(where, reversed(shape[2:]), strict=True))
    found, scale = torch.zeros_like(flat), 1
    for place, size in reversed(spatial) if columns_first else spatial:
        found, scale = found + place * scale, scale * size
    planes = torch.arange(shape[0] * shape[1]).reshape(shape[0], shape[1], *[1] * len(where))
    return found + planes * scale


def _average_pool(call: Call) -> Run:
    kernel = call.integers("kernel_shape") or ()
    rank, counts_pads = len(kernel), bool(call.integer("count_include_pad"))

    def run(x: Tensor) -> Tensor:
        given, pads, strides, dilations = _reach(call, x, kernel)
        if any(dilation != 1 for dilation in dilations):
            return _spread_average(x, kernel, strides, dilations, given, pads, counts_pads)
        if all(pair == (0, 0) for pair in pads):
            plain: Tensor = _AVERAGE[rank](x, kernel, strides)
            return plain
        inside = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
        inside = padded(padded(inside, given, 1.0 if counts_pads else 0.0), _beyond(pads, given))
        total: Tensor = _AVERAGE[rank](padded(x, pads), kernel, strides)
        share: Tensor = _AVERAGE[rank](inside, kernel, strides)
        return total / share

    return run


def _beyond(pads: Pads, given: Pads) -> Pads:
    return [(0, after - old) for (_, after), (_, old) in zip(pads, given, strict=True)]


def _spread_average(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    given: Pads,
    pads: Pads,
    counts_pads: bool,
) -> Tensor:
    inside = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    inside = padded(padded(inside, given, 1.0 if counts_pads else 0.0), _beyond(pads, given))
    return _window_sum(padded(x, pads), kernel, strides, dilations) / _window_sum(inside, kernel, strides, dilations)


def _window_sum(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    for axis, (width, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True), start=2):
        x = x.unfold(axis, (width - 1) * dilation + 1, stride)[..., ::dilation].sum(-1)
    return x


def _lp_pool(call: Call) -> Run:
    kernel, power = call.integers("kernel_shape") or (), call.integer("p", 2)

    def run(x: Tensor) -> Tensor:
        _, pads, strides, dilations = _reach(call, x, kernel)
        total = _window_sum(padded(x.abs() ** power, pads), kernel, strides, dilations)
        return total ** (1 / power)

    return run


def _everywhere(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def _global_average(x: Tensor) -> Tensor:
    return x.mean(_everywhere(x), keepdim=True)


def _global_max(x: Tensor) -> Tensor:
    return x.amax(_everywhere(x), keepdim=True)


def _global_lp(call: Call) -> Run:
    power = call.integer("p", 2)
    return lambda x: (x.abs() ** power).sum(_everywhere(x), keepdim=True) ** (1 / power)


OPERATORS: Operators = {
    "MaxPool": [(1, _max_pool)],
    "AveragePool": [(7, _average_pool)],
    "LpPool": [(2, _lp_pool)],
    "GlobalAveragePool": [(1, same(_global_average))],
    "GlobalMaxPool": [(1, same(_global_max))],
    "GlobalLpPool": [(2, _global_lp)],
}
