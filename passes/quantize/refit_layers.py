"""Layers whose weights are stored as integers: where weight and bias are, and how to write others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.layer_inputs import Rows, inputs_of
from graphopt.analysis.matching import only_reader
from graphopt.analysis.quantized import QuantizedWeight, quantized_weight
from graphopt.ir import Node, Tensor
from passes.quantize.quadratic import Array
from passes.quantize.regrid import codes_behind, drop_unread, graph_of, pair_of, write_bias

ROOM = 2**30
"""An integer bias is kept below, so that the sum of products fits 32 bits with it."""

_MOST_INPUTS = 8192  # the Gram matrix of more takes over half a gigabyte
_SLOTS = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (1, -1)}


@dataclass(frozen=True, eq=False)
class Fitted:
    """A layer: `weight` is multiplied by `rows` of `data`, and `result` is what comes of it with the bias.

    `bias` says how the bias is kept: int32 codes in a slot of the node, floats in a slot of the node or of the
    Add behind it, or there is none. `holder` is the node with that slot. `step` is that of the data, 0 where
    they are floats.
    """

    node: Node
    weight: QuantizedWeight
    data: Tensor
    rows: Rows
    result: Tensor
    groups: int
    flipped: bool
    bias: Literal["integer", "float", "none"]
    holder: Node
    slot: int
    step: float

    def matrices(self, stored: Array) -> Array:
        """A tensor of the shape of the weight as [groups, inputs, outputs]."""
        if self.node.op == "Conv":
            return stored.reshape(self.groups, stored.shape[0] // self.groups, -1).transpose(0, 2, 1)
        return (stored.T if self.flipped else stored)[None]

    def stored(self, matrices: Array) -> Array:
        """The inverse of `matrices`."""
        if self.node.op == "Conv":
            return np.ascontiguousarray(matrices.transpose(0, 2, 1)).reshape(self.weight.values.shape)
        return np.ascontiguousarray(matrices[0].T if self.flipped else matrices[0])

    def scales(self, scale: Array) -> Array:
        """Scales of the weight as they are stored, as [groups, 1, outputs]."""
        outputs = self.matrices(self.weight.values).shape[2]
        return np.broadcast_to(scale.reshape(-1), (self.groups * outputs,)).reshape(self.groups, 1, outputs)

    def bias_values(self) -> Array:
        """The bias as float64 [groups, outputs]; zeros where there is none."""
        outputs = self.matrices(self.weight.values).shape[2]
        values: Array = np.zeros(1)
        if self.bias != "none" and self.slot < len(self.holder.inputs):
            tensor = self.holder.inputs[self.slot]
            stored = quantized_weight(tensor)
            found = constant_values(tensor)
            if stored is not None:
                values = stored.values.astype(np.float64) * stored.scale.astype(np.float64)
            elif found is not None:
                values = found.astype(np.float64)
        return np.broadcast_to(values.reshape(-1), (self.groups * outputs,)).reshape(self.groups, outputs)


def fitted_layer(node: Node) -> Fitted | str | None:
    """The layer that `node` is, or a clause that says why it is none; None for what has no integer weights."""
    slots = _SLOTS.get(node.op) if node.is_standard else None
    if slots is None or len(node.inputs) < 2:
        return None
    weight = quantized_weight(node.inputs[1])
    if weight is None:
        return None
    values = weight.values
    why = _why_not(node, weight)
    if why is not None:
        return why
    groups = int(node.attrs.get("group", 1)) if node.op == "Conv" else 1
    flipped = node.op == "Gemm" and bool(node.attrs.get("transB", 0))
    channel = 0 if node.op == "Conv" or flipped else 1
    if weight.block or weight.axis not in (None, channel):
        return "the scales of its weight are not one for each output"
    if math.prod(values.shape) // max(values.shape[channel], 1) > _MOST_INPUTS:
        return f"it has more than {_MOST_INPUTS} inputs"
    source = inputs_of(node, 1, values.shape)
    if isinstance(source, str):
        return source
    data, rows = source
    read = codes_behind(data)
    pair = pair_of(read) if read is not None else None
    bias, holder, slot, result = _bias(node, slots[1], pair is not None, values.shape[channel])
    if bias is None:
        return "its bias is neither a constant nor codes of 32 bits"
    return Fitted(
        node, weight, data, rows, result, groups, flipped, bias, holder, slot, pair.scale if pair is not None else 0.0
    )


def _why_not(node: Node, weight: QuantizedWeight) -> str | None:
    values = weight.values
    if values.dtype not in (np.dtype(np.int8), np.dtype(np.uint8)) or weight.scale.dtype != np.float32:
        return f"its weight has codes of {values.dtype} or steps of {weight.scale.dtype}"
    if weight.zero is not None and bool(weight.zero.astype(np.int32).any()):
        return "its weight has a zero point"
    if values.size == 0 or values.ndim < 2 or (node.op != "Conv" and values.ndim != 2):
        return f"its weight has shape {values.shape}"
    if node.op == "Gemm" and (node.attrs.get("alpha", 1.0) != 1.0 or node.attrs.get("beta", 1.0) != 1.0):
        return "its alpha or beta is not 1"
    made = weight.node.outputs[0]
    if only_reader(made) is not node or only_reader(weight.codes) is not weight.node:
        return "its weight is read by something else, too"
    groups = node.attrs.get("group", 1)
    if node.op == "Conv" and (not isinstance(groups, int) or groups < 1 or values.shape[0] % groups or values.ndim < 3):
        return "its groups are not known"
    return None


def _bias(
    node: Node, slot: int, integers: bool, outputs: int
) -> tuple[Literal["integer", "float", "none"] | None, Node, int, Tensor]:
    """How the bias is kept, where, and the result that has it in it."""
    result = node.outputs[0]
    if slot < 0:  # MatMul: an Add of a constant for each output behind it
        adder = only_reader(result)
        if adder is not None and adder.is_op("Add") and adder.graph is node.graph:
            place = 1 if adder.inputs[0] is result else 0
            values = constant_values(adder.inputs[place])
            alike = values is not None and values.dtype == np.float32 and values.size == outputs
            if values is not None and alike and (values.ndim == 1 or values.shape[-1] == values.size):
                return "float", adder, place, adder.outputs[0]
        return "none", node, slot, result
    if slot >= len(node.inputs) or not _given(node.inputs[slot]):
        return ("integer" if integers and slot == len(node.inputs) else "none"), node, slot, result
    stored = quantized_weight(node.inputs[slot])
    if stored is not None:
        known = stored.values.dtype == np.int32 and stored.values.size == outputs and integers
        return ("integer" if known else None), node, slot, result
    values = constant_values(node.inputs[slot])
    known = values is not None and values.dtype == np.float32 and values.size == outputs
    return ("float" if known else None), node, slot, result


def _given(tensor: Tensor) -> bool:
    return bool(tensor.name) or constant_values(tensor) is not None


def write(layer: Fitted, codes: Array, scale: Array, bias: Array) -> None:
    """Write other codes [groups, inputs, outputs], scales and biases [groups, outputs] in place of those there are."""
    graph = graph_of(layer.node)
    kind = layer.weight.values.dtype
    graph.set_values(layer.weight.codes, layer.stored(codes).astype(kind))
    step: Array = np.asarray(scale, np.float32).reshape(-1)
    if not layer.weight.scale.ndim:
        step = step[:1].reshape(())
    old = layer.weight.node.inputs[1]
    stem = old.name or f"{layer.node.label}_scale"
    graph.rewire(layer.weight.node, 1, graph.constant(step, stem))
    drop_unread(old, graph)
    if layer.bias == "integer":
        product = integer_step(layer, step)
        whole = np.rint(bias.reshape(-1) / np.broadcast_to(product.astype(np.float64), bias.size))
        write_bias(layer.node, layer.slot, whole.astype(np.int32), product)
    elif layer.bias == "float":
        tensor = layer.holder.inputs[layer.slot]
        values = constant_values(tensor)
        assert values is not None, "checked when the layer was found"
        made = graph.constant(bias.astype(np.float32).reshape(values.shape), tensor.name or f"{layer.node.label}_bias")
        graph_of(layer.holder).rewire(layer.holder, layer.slot, made)
        drop_unread(tensor, graph)


def integer_step(layer: Fitted, step: Any) -> Array:
    """The step of an integer bias: that of the products."""
    return np.maximum(np.asarray(step, np.float64) * layer.step, float(np.finfo(np.float32).tiny)).astype(np.float32)
