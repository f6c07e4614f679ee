"""Convolutions and transposed convolutions, in one to three spatial axes."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Operators, Run
from graphopt.training.operators.windows import padded, pads_of, per_axis

_CONV: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def convolved(call: Call) -> Run:
    """The convolution that a call's attributes describe."""
    groups = call.integer("group", 1)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.dim() - 2
        strides, dilations = per_axis(call, "strides", rank), per_axis(call, "dilations", rank)
        pads = pads_of(call, x.shape[2:], weight.shape[2:], strides, dilations)
        if any(before != after or before < 0 for before, after in pads):
            x, pads = padded(x, pads), [(0, 0)] * rank
        y: Tensor = _CONV[rank](x, weight, bias, strides, [before for before, _ in pads], dilations, groups)
        return y

    return run


def _conv_transpose(call: Call) -> Run:
    groups = call.integer("group", 1)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.dim() - 2
        strides, dilations = per_axis(call, "strides", rank), per_axis(call, "dilations", rank)
        extra = call.integers("output_padding") or (0,) * rank
        full = [
            (size - 1) * stride + (width - 1) * dilation + 1 + more
            for size, stride, width, dilation, more in zip(
                x.shape[2:], strides, weight.shape[2:], dilations, extra, strict=True
            )
        ]
        pads = _transposed_pads(call, full, strides, x.shape[2:])
        y: Tensor = _TRANSPOSED[rank](x, weight, None, strides, 0, 0, groups, dilations)
        y = padded(y, [(0, more) for more in extra])
        y = padded(y, [(-before, -after) for before, after in pads])
        return y if bias is None else y + bias.reshape(-1, *[1] * rank)

    return run


def _transposed_pads(call: Call, full: list[int], strides: Any, sizes: Any) -> list[tuple[int, int]]:
    rank, how, shape = len(full), call.text("auto_pad", "NOTSET"), call.integers("output_shape")
    if shape is None and how in ("NOTSET", "", "VALID"):
        given = (call.integers("pads") if how != "VALID" else None) or (0,) * (2 * rank)
        return [(given[axis], given[axis + rank]) for axis in range(rank)]
    wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)] if shape is None else shape[-rank:]
    pads = []
    for whole, want in zip(full, wanted, strict=True):
        total = whole - want
        if total < 0:  # what is missing comes after
            pads.append((0, total))
            continue
        small = total // 2
        pads.append((small, total - small) if how == "SAME_UPPER" else (total - small, small))
    return pads


OPERATORS: Operators = {
    "Conv": [(1, convolved)],
    "ConvTranspose": [(1, _conv_transpose)],
}
