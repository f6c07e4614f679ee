"""Weights whose input channels undo factors: with the channels of a value divided, they are multiplied.

The other half of `channel_scaling`: where every reader of a value is a linear operator with a stored
weight, a factor for each channel of the value can be moved into these weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.matching import only_reader
from graphopt.ir import Node, Tensor

Array = np.ndarray[Any, Any]

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that read their data at slot 0 and a weight at slot 1."""

_SHAPE_ONLY = ("Shape", "Size")
_WIDE = (1, 11)  # float32 and float64


@dataclass(frozen=True, eq=False)
class Reader:
    """A weight at slot 1 of `node` whose input channels are along `axis` of it, from the front.

    Of a convolution in groups, index j of the axis is channel j of the group that the output is in.
    """

    node: Node
    axis: int
    groups: int

    @property
    def weight(self) -> Tensor:
        found: Tensor = self.node.inputs[1]
        return found

    @property
    def values(self) -> Array:
        held = constant_of(self.weight)
        assert held is not None, "checked when it was found"
        return held.values

    def laid_out(self, factors: Array, shape: tuple[int, ...]) -> Array:
        """Factors, one a channel of the value, such that they broadcast against the weight of `shape`."""
        if self.groups == 1:
            return factors.reshape([-1 if i == self.axis else 1 for i in range(len(shape))])
        table = np.repeat(factors.reshape(self.groups, -1), shape[0] // self.groups, axis=0)
        return table.reshape(*table.shape, *[1] * (len(shape) - 2))

    def peaks(self, magnitudes: Array) -> Array:
        """The largest of the weight's magnitudes that meet each channel of the value."""
        if self.groups == 1:
            found: Array = magnitudes.max(axis=tuple(i for i in range(magnitudes.ndim) if i != self.axis))
            return found
        rows = magnitudes.reshape(*magnitudes.shape[:2], -1).max(axis=2)  # [outputs, channels of a group]
        grouped = rows.reshape(self.groups, -1, rows.shape[1]).max(axis=1)
        return np.asarray(grouped.reshape(-1))

    def apply(self, factors: Array) -> None:
        """Multiply the weight."""
        assert self.node.graph is not None, "it was found in a graph"
        values = self.values
        made = values.astype(np.float64) * self.laid_out(factors.astype(np.float64), values.shape)
        self.node.graph.set_values(self.weight, made.astype(values.dtype))


@dataclass(frozen=True, eq=False)
class Channels:
    """A value that only linear operators read: `axis` of its `size` channels, from the end, and its readers."""

    axis: int
    size: int
    readers: list[Reader]


def channels_of(value: Tensor) -> Channels | str:
    """The channels of a value and the weights that meet them; a clause where something else reads it."""
    if value.graph_outputs:
        return f"{value.name!r} is a graph output"
    found: list[Channels] = []
    for node in value.readers:
        if not node.is_op(*_SHAPE_ONLY):
            one = _read(node, value)
            if isinstance(one, str):
                return one
            found.append(one)
    if not found:
        return f"{value.name!r} is not read by a linear operator"
    first = found[0]
    if any((one.axis, one.size) != (first.axis, first.size) for one in found):
        return f"the readers of {value.name!r} disagree on its channels"
    return Channels(first.axis, first.size, [reader for one in found for reader in one.readers])


def _read(node: Node, value: Tensor) -> Channels | str:
    name = f"{node.op} {node.label!r}"
    if not node.is_op(*LINEAR) or len(node.inputs) < 2 or node.inputs[0] is not value or value in node.inputs[1:]:
        return f"{name} reads {value.name!r}, and does not multiply it by weights"
    held = constant_of(node.inputs[1])
    if held is None:
        return f"the weight of {name} is not a constant"
    if only_reader(node.inputs[1]) is not node:
        return f"the weight of {name} is read elsewhere too"
    if held.onnx_dtype not in _WIDE:
        return f"the weight of {name} is {held.dtype}, and rounding it anew would show"
    shape = [int(dim) for dim in held.shape]
    if 0 in shape:
        return f"the weight of {name} is empty"
    return next(_layouts(node, shape), None) or f"the channels of {name} are not one axis"


def _layouts(node: Node, shape: list[int]) -> Iterator[Channels]:
    rank, groups = len(shape), node.attrs.get("group", 1)
    if node.op == "Conv" and rank >= 3 and isinstance(groups, int):
        yield Channels(1 - rank, shape[1] * groups, [Reader(node, 1, groups)])
    elif node.op == "ConvTranspose" and rank >= 3:
        yield Channels(1 - rank, shape[0], [Reader(node, 0, 1)])
    elif node.op == "Gemm" and rank == 2 and not node.attrs.get("transA", 0):
        axis = 1 if node.attrs.get("transB", 0) else 0
        yield Channels(-1, shape[axis], [Reader(node, axis, 1)])
    elif node.op == "MatMul" and rank >= 2:
        yield Channels(-1, shape[-2], [Reader(node, rank - 2, 1)])
