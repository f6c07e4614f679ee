"""The 8-bit grids of QuantizeLinear and DequantizeLinear: scale, zero point and what they can say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import operand
from graphopt.ir import Node, Tensor
from graphopt.ir.dtypes import onnx_dtype
from graphopt.ir.values import Array

_FLOAT = 1


@dataclass(frozen=True)
class Grid:
    """Constants `scale` (float32) and `zero` (int8 or uint8) of one node, and the axis if they are vectors."""

    scale: Tensor
    zero: Tensor
    scales: Array
    zeros: Array
    axis: int | None

    @property
    def single(self) -> bool:
        """Whether there is one scale for the whole tensor."""
        return self.scales.size == 1 and self.zeros.size == 1 and self.scales.ndim <= 1

    def same(self, other: Grid) -> bool:
        """Whether both say the same by every integer. Only asked of single ones."""
        return (
            self.single
            and other.single
            and self.zeros.dtype == other.zeros.dtype
            and self.zeros.item() == other.zeros.item()
            and self.scales.item() == other.scales.item()
        )

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest number on the grid, as DequantizeLinear computes them."""
        info = np.iinfo(self.zeros.dtype)
        scale, zero = np.float32(self.scales.item()), int(self.zeros.item())
        return float(np.float32(info.min - zero) * scale), float(np.float32(info.max - zero) * scale)


def grid(node: Node) -> Grid | None:
    """The grid of a QuantizeLinear or DequantizeLinear of 8 bits whose scale and zero point are constants.

    None also for scales that are not positive normal numbers, and for blocks.
    """
    scale, zero = operand(node, 1), operand(node, 2)
    if scale is None or zero is None:
        return None
    scales, zeros = constant_values(scale), constant_values(zero)
    if scales is None or zeros is None or scales.dtype != np.float32 or zeros.dtype not in (np.int8, np.uint8):
        return None
    if node.attrs.get("block_size", 0) or node.attrs.get("precision", 0):
        return None
    if node.attrs.get("output_dtype", 0) not in (0, onnx_dtype(zeros.dtype) if node.op == "QuantizeLinear" else _FLOAT):
        return None
    info = np.finfo(np.float32)
    if scales.size == 0 or scales.shape != zeros.shape or not (scales >= info.tiny).all():
        return None
    if not (scales <= info.max / 1024).all():
        return None
    axis = node.attrs.get("axis", 1) if scales.ndim else None
    if axis is not None and not isinstance(axis, int):  # what callers of a function give
        return None
    return Grid(scale, zero, scales, zeros, axis)
