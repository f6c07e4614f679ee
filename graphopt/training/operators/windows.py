"""How far a window reaches over the edges of its input: padding of convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from graphopt.training.call import Call

Pads = list[tuple[int, int]]


def pads_of(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pads:
    """Elements before and after each spatial axis, as `auto_pad` or `pads` say."""
    how = call.text("auto_pad", "NOTSET")
    rank = len(sizes)
    if how in ("NOTSET", ""):
        given = call.integers("pads") or (0,) * (2 * rank)
        return [(given[axis], given[axis + rank]) for axis in range(rank)]
    if how == "VALID":
        return [(0, 0)] * rank
    pads: Pads = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        small = total // 2
        pads.append((small, total - small) if how == "SAME_UPPER" else (total - small, small))
    return pads


def padded(x: torch.Tensor, pads: Pads, value: float = 0.0) -> torch.Tensor:
    """`x` with `value` around its last axes."""
    if all(pair == (0, 0) for pair in pads):
        return x
    return functional.pad(x, [size for pair in reversed(pads) for size in pair], value=value)


def per_axis(call: Call, name: str, rank: int) -> tuple[int, ...]:
    """Strides or dilations, which are 1 where they are left out."""
    return call.integers(name) or (1,) * rank
