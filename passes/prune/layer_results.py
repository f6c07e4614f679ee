"""Where the results of a layer are, and its bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.matching import only_reader, operand
from graphopt.analysis.weights import Weight
from graphopt.ir import Node, Tensor
from graphopt.ir.values import Array

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, eq=False)
class Result:
    """What a layer makes: `tensor` is its weight times its data, and a bias where there is one.

    `holder` reads the bias in input `slot`; None where there is none.
    """

    tensor: Tensor
    holder: Node | None = None
    slot: int = 0

    def bias(self, groups: int, outputs: int) -> Array:
        """The bias as float64 [groups, outputs]; zeros where there is none."""
        if self.holder is None:
            return np.zeros((groups, outputs))
        held = constant_of(self.holder.inputs[self.slot])
        assert held is not None, "checked when it was found"
        return held.values.astype(np.float64).reshape(groups, outputs)

    def write_bias(self, values: Array) -> None:
        """Give the layer another bias; where others read it too, one of its own."""
        assert self.holder is not None and self.holder.graph is not None, "it was found in a graph"
        graph, tensor = self.holder.graph, self.holder.inputs[self.slot]
        held = constant_of(tensor)
        assert held is not None, "checked when it was found"
        made = values.reshape(held.shape).astype(held.dtype)
        if only_reader(tensor) is self.holder:
            graph.set_values(tensor, made)
        else:
            graph.rewire(self.holder, self.slot, graph.constant(made, tensor.name or "bias"))


def result_of(weight: Weight, outputs: int) -> Result | None:
    """The result of the one operator that reads the weight, whose every value is the product of a row of its data,
    and its bias, if that can be told. `outputs` are those of all groups."""
    if len(weight.sites) != 1 or weight.sites[0].slot != 1:
        return None
    node = weight.sites[0].node
    if node.is_op("MatMul") and len(weight.constant.shape) >= 2:
        return _with_add(node, outputs)
    if node.is_op("Gemm") and (node.attrs.get("alpha", 1.0) != 1.0 or node.attrs.get("beta", 1.0) != 1.0):
        return None
    if not node.is_op("Conv", "Gemm"):
        return None
    if operand(node, 2) is None:
        return Result(node.outputs[0])
    return Result(node.outputs[0], node, 2) if _is_bias(node.inputs[2], outputs) else None


def _with_add(node: Node, outputs: int) -> Result:
    """The result of a MatMul; of the Add of a bias behind it, where there is one."""
    made = node.outputs[0]
    adder = only_reader(made)
    if adder is not None and adder.is_op("Add") and adder.graph is node.graph:
        slot = 1 if adder.inputs[0] is made else 0
        if _is_bias(adder.inputs[slot], outputs):
            return Result(adder.outputs[0], adder, slot)
    return Result(made)


def _is_bias(tensor: Tensor, outputs: int) -> bool:
    """Whether it is a constant with one number for each output, along its last axis."""
    held = constant_of(tensor)
    if held is None or held.dtype not in _FLOATS or tensor.graph_outputs:
        return False
    shape = [int(dim) for dim in held.shape]
    fits = bool(shape) and shape[-1] == outputs and int(np.prod(shape)) == outputs
    return fits and bool(np.isfinite(held.values).all())
