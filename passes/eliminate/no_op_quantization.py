"""Quantizing what comes from the same grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import maker, operand
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import Array, onnx_dtype
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Near, Same, bypass, number

_BOUNDS = {2: (0, 255), 3: (-128, 127), 4: (0, 65535), 5: (-32768, 32767)}
_FLOAT = 1


@dataclass(frozen=True)
class NoOpQuantization(Pass):
    """Remove a QuantizeLinear of what was dequantized with the same scale and zero point.

    What it does
        Precondition: the input of a QuantizeLinear comes from a DequantizeLinear; both have the same
        constant scale and zero point for the whole tensor, in float32, and the same integer type of 8 or
        16 bits; and it was computed that each number of that type comes back as it was. Rewrite: whoever
        read the quantized value reads the one that was dequantized, and the node goes, with the
        DequantizeLinear where nobody else reads it. Main graph, bodies and functions.

    Example
        before: a = DequantizeLinear(q, s, z)    b = QuantizeLinear(a, s, z)    y = DequantizeLinear(b, s, z)
        after:  y = DequantizeLinear(q, s, z)

    When not
        Scales for each channel or block are not looked at, nor those of other floating-point types, nor
        float8 and integers of fewer bits. A DequantizeLinear of what was quantized stays: it rounds.

    Contract
        EXACT. For every integer of the type, the quotient that is rounded was computed in float32, as
        the operators are defined.

    Source
        ONNX operators: QuantizeLinear, DequantizeLinear (10, 13, 19, 21, 23 ...).
    """

    name = "no-op-quantization"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, ("QuantizeLinear",), _find)


@dataclass(frozen=True)
class Grid:
    """The numbers that a DequantizeLinear can make: (q - zero) * scale, in float32."""

    dtype: int
    scale: np.float32
    zero: int

    def values(self) -> Array:
        """The number for each integer of the type, in order."""
        least, greatest = _BOUNDS[self.dtype]
        return (np.arange(least, greatest + 1) - self.zero).astype(np.float32) * self.scale

    def comes_back(self) -> bool:
        """Whether each number is quantized to the integer that it was."""
        least, greatest = _BOUNDS[self.dtype]
        with np.errstate(all="ignore"):
            again = np.rint(self.values() / self.scale) + self.zero
        return np.array_equal(np.clip(again, least, greatest), np.arange(least, greatest + 1))


def _find(node: Node, facts: Facts) -> Finding:
    value = operand(node, 0)
    before = None if value is None else maker(value, "DequantizeLinear")
    source = None if before is None else operand(before, 0)
    if before is None or source is None:
        return None
    one, other = grid_of(before, facts), grid_of(node, facts)
    if one is None or one != other:
        return None
    if not one.comes_back():
        return Near("requantize", "not every integer comes back as it was")
    return Same("requantize", source, (before,))


def grid_of(node: Node, facts: Facts) -> Grid | None:
    """The grid of a QuantizeLinear or DequantizeLinear with one constant scale; None for others."""
    scale, zero = _single(operand(node, 1)), operand(node, 2)
    if scale is None or scale.dtype != np.float32 or not 0 < float(scale[0]) < np.inf:
        return None
    if number(node, "precision", 0) != 0 or number(node, "output_dtype", 0) != 0 or number(node, "block_size", 0) != 0:
        return None
    dtype, offset = facts.dtype(node.inputs[0]) if node.op == "DequantizeLinear" else 2, 0
    if zero is not None:
        held = _single(zero)
        if held is None or held.dtype.kind not in "iu":
            return None
        dtype, offset = onnx_dtype(held.dtype), int(held[0])
    return Grid(dtype, np.float32(scale[0]), offset) if dtype in _BOUNDS else None


def _single(tensor: Tensor | None) -> Array | None:
    """The value of a constant of one element, as an array of one axis."""
    values = None if tensor is None else constant_values(tensor)
    return None if values is None or values.size != 1 or values.ndim > 1 else values.reshape(-1)
