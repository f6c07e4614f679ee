"""Which constants take a factor for each channel of a value, so that the value comes out multiplied.

A value f * y, with one positive factor f for each index of its channel axis, can be had without another
operator where what makes y is linear in each channel: a normalization has a scale and a bias, a
product with a stored weight has columns, and what stands between (a Relu, an Add) lets factors through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import maker, only_reader, operand
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Node, Tensor

Array = np.ndarray[Any, Any]

_THROUGH = frozenset({"Relu", "LeakyRelu", "Identity", "Dropout", "Abs", "MaxPool", "AveragePool", "GlobalAveragePool"})
_NORMALIZATIONS = frozenset({"LayerNormalization", "RMSNormalization"})
_PLANES = frozenset({"BatchNormalization", "InstanceNormalization"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_WIDE = (1, 11)  # float32 and float64: rounding narrower constants anew would show
_DEPTH = 32  # operators to look back over


@dataclass(frozen=True, eq=False)
class Holder:
    """A constant that is multiplied by factors (`power` 1) or divided by them (-1), along `axis` from the end.

    A constant that has no such axis, or one of size 1, gets it.
    """

    node: Node
    slot: int
    axis: int
    power: int = 1

    def scaled(self, factors: Array) -> Array:
        """The values that it is to have, in its own dtype."""
        values = constant_values(self.node.inputs[self.slot])
        assert values is not None, "checked when it was found"
        lined_up = (factors.astype(np.float64) ** self.power).reshape([-1] + [1] * (-self.axis - 1))
        return np.asarray((values.astype(np.float64) * lined_up).astype(values.dtype))

    def apply(self, factors: Array) -> None:
        """Put the values in place."""
        assert self.node.graph is not None, "it was found in a graph"
        self.node.graph.set_values(self.node.inputs[self.slot], self.scaled(factors))


def holders(value: Tensor, axis: int, size: int, shapes: Shapes) -> list[Holder] | str:
    """The constants to multiply so that `value` comes out multiplied along `axis` (from the end, of `size`).

    A clause where there are none. Whether all readers of `value` can do with that is the caller's
    question; every value that is passed on the way back is read by the next operator only.
    """
    return _Search(axis, size, shapes).back(value, None, 0)


@dataclass(frozen=True)
class _Search:
    axis: int
    size: int
    shapes: Shapes

    def back(self, value: Tensor, reader: Node | None, depth: int) -> list[Holder] | str:
        node = maker(value)
        if node is None:
            return f"{value.name!r} is an input, or made by an operator of another domain"
        if value is not node.outputs[0] or (reader is not None and only_reader(value) is not reader):
            return f"{value.name!r} is read elsewhere too"
        if reader is not None and reader.graph is not node.graph:
            return f"{value.name!r} is made in another graph"
        if depth > _DEPTH:
            return f"no operator near {value.name!r} takes factors"
        if node.op in _THROUGH or _is_relu(node):
            return self.back(node.inputs[0], node, depth + 1)
        if node.op == "PRelu":
            # Factors are positive, so the slope stays.
            return self.back(node.inputs[0], node, depth + 1)
        if node.op in ("Add", "Sub", "Mul", "Div"):
            return self.arithmetic(node, depth)
        slots = self.slots(node)
        return slots if isinstance(slots, str) else self.owned(node, slots)

    def arithmetic(self, node: Node, depth: int) -> list[Holder] | str:
        found = [self.side(node, slot, depth) for slot in (0, 1)]
        if node.op in ("Add", "Sub"):
            why = next((one for one in found if isinstance(one, str)), None)
            return why or [holder for one in found for holder in one if isinstance(holder, Holder)]
        if node.op == "Div":
            divisor = operand(node, 1)
            if divisor is not None and constant_of(divisor) is not None:
                return self.owned(node, [(1, self.axis, -1)])
            return found[0]
        stored = [slot for slot in (0, 1) if constant_of(node.inputs[slot]) is not None]
        order = [*stored, *(slot for slot in (0, 1) if slot not in stored)]
        return next((found[slot] for slot in order if not isinstance(found[slot], str)), found[order[0]])

    def side(self, node: Node, slot: int, depth: int) -> list[Holder] | str:
        """One operand of an elementwise operator."""
        tensor: Tensor = node.inputs[slot]
        if constant_of(tensor) is not None:
            return self.owned(node, [(slot, self.axis, 1)])
        dims = self.shapes.shape(tensor)
        if dims is None or len(dims) < -self.axis or dims[self.axis] != self.size:
            return f"{tensor.name!r} is not known to have {self.size} channels"
        return self.back(tensor, node, depth + 1)

    def slots(self, node: Node) -> list[tuple[int, int, int]] | str:
        """The input slots of an operator with weights that take factors, the axis of each, and the power."""
        bias = [(2, -1, 1)] if operand(node, 2) is not None else []
        if node.op in _NORMALIZATIONS and self.axis == -1:
            scale = constant_of(node.inputs[1])
            if scale is not None and list(scale.shape) == [self.size]:
                return [(1, -1, 1), *bias]
        elif node.op in _PLANES and self.axis == 1 - (self.shapes.rank(node.inputs[0]) or 0):
            if not node.attrs.get("training_mode", 0):
                return [(1, -1, 1), *bias]
        elif node.op == "MatMul" and self.axis == -1:
            if _rank(node.inputs[1]) >= 2:
                return [(1, -1, 1)]
        elif node.op == "Gemm" and self.axis == -1:
            return [(1, -2 if node.attrs.get("transB", 0) else -1, 1), *bias]
        elif node.op in _CONVOLUTIONS:
            return self.convolution(node, bias)
        return f"{node.op} {node.label!r} does not take a factor for each channel"

    def convolution(self, node: Node, bias: list[tuple[int, int, int]]) -> list[tuple[int, int, int]] | str:
        rank = _rank(node.inputs[1])
        if rank < 3 or self.axis != 1 - rank:
            return f"the channels are not those of {node.op} {node.label!r}"
        if node.op == "ConvTranspose" and node.attrs.get("group", 1) != 1:
            return f"{node.op} {node.label!r} has groups"
        return [(1, 1 - rank if node.op == "ConvTranspose" else -rank, 1), *bias]

    def owned(self, node: Node, slots: list[tuple[int, int, int]]) -> list[Holder] | str:
        """Holders for slots of constants that nothing else reads; a clause where one is not that."""
        for slot, axis, _ in slots:
            tensor: Tensor = node.inputs[slot]
            held = constant_of(tensor)
            if held is None:
                return f"input {slot} of {node.op} {node.label!r} is not a constant"
            if only_reader(tensor) is not node:
                return f"{tensor.name!r} is read elsewhere too"
            if node.op in ("Mul", "Div") and all(int(dim) == 1 for dim in held.shape):
                return f"{node.op} {node.label!r} has one number for all channels, as parts of an activation have"
            if held.onnx_dtype not in _WIDE:
                return f"{tensor.name!r} is {held.dtype}, and rounding it anew would show"
            if len(held.shape) >= -axis and int(held.shape[axis]) not in (1, self.size):
                return f"{tensor.name!r} has another size than {self.size} along its channels"
            if len(held.shape) > (self.shapes.rank(node.outputs[0]) or 0) and node.op in ("Add", "Sub", "Mul", "Div"):
                return f"{tensor.name!r} has more dims than the result"
        return [Holder(node, slot, axis, power) for slot, axis, power in slots]


def _rank(tensor: Tensor) -> int:
    """How many dims a constant has; 0 for anything else."""
    held = constant_of(tensor)
    return 0 if held is None else len(held.shape)


def _is_relu(node: Node) -> bool:
    """Whether a Clip only has the lower bound 0, which stays 0 under factors."""
    if node.op != "Clip":
        return False
    low, high = operand(node, 1), operand(node, 2)
    if low is None or high is not None or "max" in node.attrs:
        return False
    found = constant_values(low)
    return found is not None and found.size == 1 and float(found.reshape(())) == 0
