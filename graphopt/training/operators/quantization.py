"""Quantization that gradients pass straight through.

Codes stay floats between the operators here, so that a gradient can flow: rounding counts as the
identity, and beyond the range of the codes the gradient is nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from graphopt.training.call import Call, Operators, Run
from graphopt.training.operators.convolution import convolved

_RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
}
_EXACT = 1 << 24
"""Up to here a float32 holds every integer."""


def rounded(values: Tensor, low: float, high: float) -> Tensor:
    """Values rounded (halves to even) into a range; the gradient of the clipping only."""
    inside = torch.clamp(values, low, high)
    if not inside.requires_grad:
        return torch.round(inside)
    return inside + (torch.round(inside) - inside).detach()


def spread(one: Tensor, x: Tensor, axis: int, block: int = 0) -> Tensor:
    """A scale or zero point in a shape that goes with `x`: of everything, of an axis, or of blocks along it."""
    if one.dim() == 0 or (one.numel() == 1 and not block):
        return one.reshape(())
    along = axis % x.dim()
    if block:
        return one.repeat_interleave(block, along).narrow(along, 0, x.shape[along])
    return one.reshape([-1 if k == along else 1 for k in range(x.dim())]) if one.dim() == 1 else one


def code_range(call: Call) -> tuple[int, int]:
    """The smallest and largest code that the zero point's type (or `output_dtype`) holds."""
    kind = made_codes(call)
    if kind not in _RANGES:
        raise call.refuse("the type of its codes is not an integer type that is known here")
    return _RANGES[kind]


def made_codes(call: Call) -> int:
    """ONNX's number of the type that the first output of a quantizing operator has."""
    if call.op in ("MatMulInteger", "ConvInteger"):
        return int(TensorProto.INT32)
    if call.op.startswith("QLinear"):
        return call.kind(7) or int(TensorProto.UINT8)
    return call.integer("output_dtype") or (call.kind(2) if call.has(2) else 0) or int(TensorProto.UINT8)


def _quantize(call: Call) -> Run:
    axis, block = call.integer("axis", 1), call.integer("block_size")
    low, high = code_range(call)

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        values = x / spread(scale, x, axis, block).to(x.dtype)
        if zero is None:
            return rounded(values, low, high)
        offset = spread(zero, x, axis, block).to(x.dtype)
        # the rounding comes before the zero point is added, which a tie can tell
        inside = torch.clamp(values, low - offset, high - offset)
        if not inside.requires_grad:
            return torch.round(inside) + offset
        return inside + (torch.round(inside) - inside).detach() + offset

    return run


def _dequantize(call: Call) -> Run:
    axis, block = call.integer("axis", 1), call.integer("block_size")

    def run(codes: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        step = spread(scale, codes, axis, block)
        values = codes.to(step.dtype)
        return values * step if zero is None else (values - spread(zero, codes, axis, block).to(step.dtype)) * step

    return run


def dynamic_codes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of a byte for the range that `x` has, with their scale and zero point, which get no gradient."""
    seen = x.detach() if x.numel() else x.new_zeros(1)
    high, low = torch.clamp(seen.amax(), min=0), torch.clamp(seen.amin(), max=0)
    scale = torch.where(high == low, torch.ones((), dtype=x.dtype), (high - low) / 255)
    zero = torch.round(torch.clamp(-low / scale, 0, 255))
    values = x / scale
    codes = torch.clamp(torch.round(values.detach()), -zero, 255 - zero)
    # the range is that of the values themselves, so the gradient of all of them passes
    return (values + (codes - values).detach() if values.requires_grad else codes) + zero, scale, zero


def _dynamic(call: Call) -> Run:
    return dynamic_codes


def centred(codes: Tensor, zero: Tensor | None, along: int, like: Tensor) -> Tensor:
    """Codes less their zero point (one, or one for each index of an axis), in a float type."""
    values = codes.to(like.dtype)
    if zero is None:
        return values
    offset = zero.to(like.dtype)
    if offset.dim() == 1 and offset.numel() > 1:
        offset = offset.reshape([-1 if k == along % values.dim() else 1 for k in range(values.dim())])
    return values - (offset.reshape(()) if offset.numel() == 1 else offset)


def _carrier(call: Call, depth: int) -> Tensor:
    """An empty tensor of the float type that holds sums of `depth` products of codes exactly."""
    kind = torch.float64 if depth * 255 * 255 > _EXACT else torch.float32
    return torch.zeros((), dtype=call.compute or kind)


def _product(call: Call) -> Run:
    def run(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
        like = _carrier(call, a.shape[-1])
        return torch.matmul(centred(a, a_zero, -2, like), centred(b, b_zero, -1, like))

    return run


def _convolution(call: Call) -> Run:
    convolve = convolved(call)

    def run(x: Tensor, weight: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None) -> Tensor:
        like = _carrier(call, weight[0].numel())
        found: Tensor = convolve(centred(x, x_zero, 0, like), centred(weight, w_zero, 0, like), None)
        return found

    return run


def _quantized_product(call: Call) -> Run:
    low, high = _RANGES.get(call.kind(7), (0, 255))

    def run(*given: Any) -> Tensor:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = given
        like = _carrier(call, a.shape[-1])
        total = torch.matmul(centred(a, a_zero, -2, like), centred(b, b_zero, -1, like))
        return _requantized(total, a_scale * b_scale / y_scale, y_zero, low, high)

    return run


def _quantized_convolution(call: Call) -> Run:
    convolve = convolved(call)
    low, high = _RANGES.get(call.kind(7), (0, 255))

    def run(*given: Any) -> Tensor:
        x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = given
        like = _carrier(call, w[0].numel())
        added = bias[0].to(like.dtype) if bias and bias[0] is not None else None
        total = convolve(centred(x, x_zero, 0, like), centred(w, w_zero, 0, like), added)
        factor = x_scale * w_scale / y_scale
        if factor.numel() > 1:
            factor = factor.reshape(-1, *[1] * (w.dim() - 2))
        return _requantized(total, factor, y_zero, low, high)

    return run


def _requantized(total: Tensor, factor: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    offset = zero.to(total.dtype).reshape(())
    factor = factor.reshape(()) if factor.numel() == 1 else factor
    return rounded(total * factor.to(total.dtype), low - float(offset), high - float(offset)) + offset


OPERATORS: Operators = {
    "QuantizeLinear": [(10, _quantize)],
    "DequantizeLinear": [(10, _dequantize)],
    "DynamicQuantizeLinear": [(11, _dynamic)],
    "MatMulInteger": [(10, _product)],
    "ConvInteger": [(10, _convolution)],
    "QLinearMatMul": [(10, _quantized_product)],
    "QLinearConv": [(10, _quantized_convolution)],
}

MAKES_CODES = frozenset(
    {"QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}
)
"""Operators whose first output is integers that are carried as floats."""

TAKES_CODES = MAKES_CODES | {"DequantizeLinear", "Cast", "Shape", "Size"}
"""Operators that know codes in floats."""

MOVES_CODES = frozenset(
    {
        *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Concat", "Slice", "Split"),
        *("Tile", "Gather", "GatherElements", "GatherND", "DepthToSpace", "SpaceToDepth", "MaxPool", "GlobalMaxPool"),
        *("Pad", "Relu", "Max", "Min"),
    }
)
"""Operators that only move codes or choose among them."""
