"""Weights that are stored as integers: constant codes behind a DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.ir import Node, Tensor

Array = np.ndarray[Any, Any]

_AXIS = 1  # the default of DequantizeLinear


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A tensor that DequantizeLinear makes of constants: (codes - zero) * scale.

    `axis` is None for one scale in all; `block` the elements along it that share one, 0 for scales
    for each index. `node` is the DequantizeLinear, `codes` the tensor it reads; `scale` has shape (), (C,) or,
    in blocks, the shape of the codes with axis divided; `zero` likewise, None for zeros.
    """

    node: Node
    codes: Tensor
    scale: Array
    zero: Array | None
    axis: int | None
    block: int

    @property
    def values(self) -> Array:
        """The codes as an array of their own dtype."""
        found = constant_values(self.codes)
        assert found is not None, "checked when it was recognised"
        return found


def quantized_weight(tensor: Tensor) -> QuantizedWeight | None:
    """The stored form of `tensor`, if it is the output of a DequantizeLinear of constants; else None."""
    node = tensor.inputs[0] if len(tensor.inputs) == 1 else None
    if node is None or not node.is_op("DequantizeLinear") or not 2 <= len(node.inputs) <= 3:
        return None
    codes, scale = node.inputs[0], constant_values(node.inputs[1])
    values = constant_values(codes)
    zero = constant_values(node.inputs[2]) if len(node.inputs) == 3 and node.inputs[2].name else None
    if scale is None or values is None or (zero is None and _has_zero(node)):
        return None
    if zero is not None and zero.size != scale.size:
        return None
    block = int(node.attrs.get("block_size", 0))
    axis = int(node.attrs.get("axis", _AXIS))
    if scale.size == 1 and not block:
        return QuantizedWeight(node, codes, scale.reshape(()), None if zero is None else zero.reshape(()), None, 0)
    return QuantizedWeight(node, codes, scale, zero, axis % max(values.ndim, 1), block)


def _has_zero(node: Node) -> bool:
    return len(node.inputs) == 3 and bool(node.inputs[2].name)
