"""Nodes that scale and shift their input by constants, as one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.matching import operand
from graphopt.ir import Constant, Node, Tensor
from graphopt.ir.tensors import SparseStored
from passes.fold.linear import FIRST_OPSET, Vector

_FLOATS = (1, 10, 11, 16)  # float32, float16, float64, bfloat16 (ONNX IR, TensorProto.DataType)
_IS_TRAINED = 14  # the opset from which on an attribute, not the number of outputs, tells that it is training


@dataclass(frozen=True, eq=False)
class Affine:
    """`node` computes scale * data + shift.

    Both are in float64 and broadcast against `data`; a BatchNormalization's are vectors along axis 1
    (`channelled`). A shift of None is 0 for certain, not only by value.
    """

    node: Node
    data: Tensor
    scale: Vector
    shift: Vector | None
    constants: tuple[Constant, ...]
    channelled: bool = False

    @property
    def result(self) -> Tensor:
        """What it gives."""
        found: Tensor = self.node.outputs[0]
        return found

    def rank_fits(self, rank: int | None, certain: int) -> bool:
        """Whether the constants have no more dims than a value of `rank` dims (of `certain` dims at
        least, where that is not known)."""
        return all(len(one.shape) <= (rank or certain) for one in self.constants)

    def along(self, axis: int, size: int, rank: int | None) -> tuple[Vector, Vector | None] | None:
        """Scale and shift as scalars or vectors along `axis` (from the end, of `size` channels); None
        where they differ along another one."""
        if self.channelled:
            mine = rank is not None and rank + axis == 1 and self.scale.shape == (size,)
            return (self.scale, self.shift) if mine else None
        scale = _along(self.scale, axis, size)
        shift = None if self.shift is None else _along(self.shift, axis, size)
        return None if scale is None or (shift is None and self.shift is not None) else (scale, shift)


def _along(values: Vector, axis: int, size: int) -> Vector | None:
    here = values.shape[axis] if values.ndim >= -axis else 1
    if values.size != here or here not in (1, size):
        return None
    return values.reshape(()) if here == 1 else values.reshape(-1)


def elementwise(node: Node) -> Affine | str | None:
    """A Mul, Div, Add, Sub of a constant, or a Neg; a clause where its numbers forbid it; None for others."""
    if not node.is_op("Mul", "Div", "Add", "Sub", "Neg") or not _has_plain_broadcast(node):
        return None
    one = np.ones(())
    if node.op == "Neg":
        return Affine(node, node.inputs[0], -one, None, ())
    held = [constant_of(each) for each in node.inputs]
    place = 1 if held[1] is not None else 0
    constant = held[place]
    if constant is None or held[1 - place] is not None or not _is_usable(constant):
        return None
    data, values = node.inputs[1 - place], constant.values.astype(np.float64)
    if not np.isfinite(values).all():
        return f"the constant {node.inputs[place].name!r} is not finite"
    if node.op == "Mul":
        return Affine(node, data, values, None, (constant,))
    if node.op == "Add":
        return Affine(node, data, one, values, (constant,))
    if node.op == "Sub":
        return Affine(node, data, one if place else -one, -values if place else values, (constant,))
    if not place:
        return None  # a constant divided by the data is not linear
    if not values.all():
        return f"the constant {node.inputs[1].name!r} that it divides by has a zero"
    return Affine(node, data, 1.0 / values, None, (constant,))


def normalization(node: Node) -> Affine | str | None:
    """A BatchNormalization in inference; a clause on what forbids to take it as one; None for others."""
    if not node.is_op("BatchNormalization") or not _has_plain_broadcast(node) or len(node.inputs) != 5:
        return None
    training = _why_it_trains(node)
    if training is not None:
        return training
    constants = [constant_of(one) for one in node.inputs[1:]]
    held = [one for one in constants if one is not None and _is_usable(one) and len(one.shape) == 1]
    if len(held) != 4 or len({one.shape[0] for one in held}) != 1:
        missing = next((t.name for t, c in zip(node.inputs[1:], constants, strict=True) if c is None), None)
        return "its parameters are not four constant vectors" if missing is None else f"{missing!r} is not a constant"
    gamma, beta, mean, var = (one.values.astype(np.float64) for one in held)
    epsilon = node.attrs.get("epsilon", float(np.float32(1e-5)))
    if not isinstance(epsilon, float):
        return "its epsilon is given by whoever calls the function"
    if not all(np.isfinite(one).all() for one in (gamma, beta, mean, var)) or not (var + epsilon > 0).all():
        return "variance and epsilon are not positive, or a parameter is not finite, in every channel"
    scale = gamma / np.sqrt(var + epsilon)
    return Affine(node, node.inputs[0], scale, beta - mean * scale, tuple(held), channelled=True)


def _why_it_trains(node: Node) -> str | None:
    assert node.graph is not None, "a node that is looked at is in a graph"
    if node.attrs.get("spatial", 1) != 1:
        return "it normalizes each place of its own (spatial is not 1)"
    if node.graph.opset_of() >= _IS_TRAINED:
        return None if node.attrs.get("training_mode", 0) == 0 else "it is in training mode"
    return "it has the outputs of training mode" if any(one.name for one in node.outputs[1:]) else None


def _has_plain_broadcast(node: Node) -> bool:
    outs: Sequence[Tensor] = node.outputs
    complete = bool(outs) and all(operand(node, index) is not None for index in range(len(node.inputs)))
    return node.graph is not None and node.graph.opset_of() >= FIRST_OPSET and complete


def _is_usable(constant: Constant) -> bool:
    return constant.onnx_dtype in _FLOATS and not isinstance(constant.stored, SparseStored) and 0 not in constant.shape
