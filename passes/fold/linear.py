"""Linear operators whose weights the model owns: what a scale or a shift on either side does to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.matching import maker, only_reader, operand
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Constant, Node, Tensor
from graphopt.ir.tensors import SparseStored
from graphopt.ir.values import Array

Vector = np.ndarray[Any, np.dtype[np.float64]]

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FIRST_OPSET = 7  # before it Gemm, Add and Mul have broadcast rules of their own
_WIDE = (1, 11)  # float32 and float64: rounding a weight of fewer bits anew would show


@dataclass(frozen=True, eq=False)
class Linear:
    """A Conv, ConvTranspose, Gemm or MatMul with a constant weight.

    `data` is the slot of its other operand, `result` what it gives. A MatMul that only an Add of a
    constant reads is taken together with it: the Add is where its bias is (`biased`, at
    `bias_slot`). `axis` is the axis of channels in operand and result, counted from the end; `rank`
    theirs, None where unknown.
    """

    node: Node
    data: int
    weight: Constant
    biased: Node
    bias_slot: int | None
    axis: int
    rank: int | None

    @property
    def slot(self) -> int:
        """The slot of the weight."""
        return 1 - self.data

    @property
    def weight_name(self) -> str:
        """What the graph calls the weight."""
        return str(self.node.inputs[self.slot].name)

    @property
    def result(self) -> Tensor:
        """What comes out, bias included."""
        found: Tensor = self.biased.outputs[0]
        return found

    @property
    def weight_is_out_first(self) -> bool:
        """Whether the first axis of the weight is of channels that come out."""
        return self._weight_axis(True) == 0

    @property
    def groups(self) -> int:
        """The blocks that a convolution is made of; 1 for the others."""
        return int(self.node.attrs.get("group", 1)) if self.node.op.startswith("Conv") else 1

    @property
    def outputs(self) -> int:
        """How many channels come out."""
        return self._channels(True)

    @property
    def inputs(self) -> int:
        """How many channels go in."""
        return self._channels(False)

    def _channels(self, out: bool) -> int:
        axis = self._weight_axis(out)
        many = int(self.weight.shape[axis])
        return many * self.groups if axis == 1 else many

    def _weight_axis(self, out: bool) -> int:
        """The axis of the weight that channels out of (or into) the operator are along."""
        if self.node.op == "Conv":
            return 0 if out else 1
        if self.data == 1 or (self.node.op == "Gemm" and self.node.attrs.get("transB", 0)):
            return 0 if out else 1
        return 1 if out else 0

    def spread(self, factors: Vector, out: bool) -> Vector:
        """One factor a channel, out or in, laid out so that it broadcasts against the weight."""
        axis, rank = self._weight_axis(out), len(self.weight.shape)
        if factors.ndim == 0:
            return factors
        if axis == 1 and self.groups > 1:  # each block of the first axis has channels of its own
            rows = int(self.weight.shape[0]) // self.groups
            table = np.repeat(factors.reshape(self.groups, -1), rows, axis=0)
            return table.reshape(*table.shape, *[1] * (rank - 2))
        return factors.reshape([-1 if one == axis else 1 for one in range(rank)])

    def response(self, shift: Vector) -> Vector:
        """What comes out, without the bias, where every element that goes in is its channel's `shift`."""
        values = self.weight.values.astype(np.float64) * self.spread(shift, out=False)
        if self.node.op == "Gemm":
            values = values * float(self.node.attrs.get("alpha", 1.0))
        axis = self._weight_axis(True)  # never a ConvTranspose: its channels out are not along one axis
        return np.asarray(values.sum(axis=tuple(one for one in range(values.ndim) if one != axis)))

    def bias(self) -> Vector | None:
        """What is added to the channels that come out: a scalar or one number each; None when unknown."""
        held = None if self.bias_slot is None else operand(self.biased, self.bias_slot)
        if held is None:
            return np.zeros(())
        constant = constant_of(held)
        if constant is None or isinstance(constant.stored, SparseStored):
            return None
        axis = -1 if self.node.op.startswith("Conv") else self.axis
        return None if (own := along(constant, axis, self.outputs)) is None else own * self.beta

    @property
    def beta(self) -> float:
        """The factor that the operator gives its bias."""
        return float(self.node.attrs.get("beta", 1.0)) if self.node.op == "Gemm" else 1.0

    def why_no_bias(self) -> str | None:
        """Why the bias cannot be given other values, in a clause; None when it can."""
        if self.bias_slot is None:
            return f"{self.node.op} {self.node.label!r} has no place for a bias"
        if self.beta == 0 or self.bias() is None:
            return f"the bias of {self.biased.op} {self.biased.label!r} is not one constant number a channel"
        return None

    def why_not_own(self) -> str | None:
        """Why the weight cannot be given other values, in a clause; None when it can."""
        held = operand(self.node, self.slot)
        assert held is not None, "a linear operator has a weight"
        if only_reader(held) is not self.node:
            return f"the weight {held.name!r} is read elsewhere too"
        if self.weight.onnx_dtype not in _WIDE:
            return f"the weight {held.name!r} is {self.weight.dtype}, and rounding it anew would show"
        return None


def along(constant: Constant, axis: int, size: int) -> Vector | None:
    """A constant that differs along one axis (from the end) of `size` channels at most, as a scalar or a
    vector; None where it differs along another one."""
    shape = [int(one) for one in constant.shape]
    here = shape[axis] if len(shape) >= -axis else 1
    if np.prod(shape, dtype=np.int64) != here or here not in (1, size):
        return None
    values: Array = constant.values.astype(np.float64).reshape(-1)
    return values.reshape(()) if here == 1 else values


def linear(node: Node | None, shapes: Shapes) -> Linear | None:
    """`node` as a linear operator with a constant weight, None when it is none."""
    if node is None or not node.is_op(*OPERATORS) or len(node.inputs) < 2 or node.graph is None:
        return None
    if node.graph.opset_of() < FIRST_OPSET or any(not isinstance(one, _PLAIN) for one in node.attrs.values()):
        return None
    weights = [_weight(node, slot) for slot in (0, 1)]
    data = 0 if weights[1] is not None else 1
    weight = weights[1 - data]
    if weight is None or weights[data] is not None:
        return None
    rank = len(weight.shape)
    if node.op == "MatMul":
        if rank != 2:
            return None
        axis, known = (-1 if data == 0 else -2), shapes.rank(node.inputs[data])
        biased, slot = _tail(node, axis, int(weight.shape[axis]), known or -axis)
        return Linear(node, data, weight, biased, slot, axis, known)
    if data != 0 or rank < (2 if node.op == "Gemm" else 3):
        return None
    if node.op == "Gemm":
        return Linear(node, 0, weight, node, 2, -1, 2)
    return Linear(node, 0, weight, node, 2, 1 - rank, rank)


_PLAIN = (int, float, str, bytes, list)


def _weight(node: Node, slot: int) -> Constant | None:
    held = constant_of(node.inputs[slot])
    return None if held is None or isinstance(held.stored, SparseStored) or 0 in held.shape else held


def _tail(node: Node, axis: int, size: int, rank: int) -> tuple[Node, int | None]:
    """The Add that gives a MatMul its bias, and its slot; the MatMul itself when there is none."""
    reader = only_reader(node.outputs[0])
    if reader is None or not reader.is_op("Add") or reader.graph is not node.graph:
        return node, None
    slot = 1 if reader.inputs[0] is node.outputs[0] else 0
    held = constant_of(reader.inputs[slot])
    if held is None or isinstance(held.stored, SparseStored) or len(held.shape) > rank:
        return node, None
    return (reader, slot) if along(held, axis, size) is not None else (node, None)


def behind(tensor: Tensor, shapes: Shapes) -> Linear | None:
    """The linear operator, bias included, that gives `tensor`; None when there is none."""
    node = maker(tensor, *OPERATORS, "Add")
    if node is not None and node.op == "Add":
        node = next((one for each in node.inputs if (one := maker(each, "MatMul")) is not None), None)
    found = linear(node, shapes)
    return found if found is not None and found.result is tensor else None
