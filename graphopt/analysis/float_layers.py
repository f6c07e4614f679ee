"""Layers whose weights and bias are floats: where both are, what the weights multiply, and how to write others.

A layer is a Conv, Gemm or MatMul (with the Add of a constant behind it, if there is one), or a
BatchNormalization, which multiplies each channel by itself. Its weights are seen as [groups, inputs, outputs].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.changes import Affine, Replacement
from graphopt.analysis.constants import constant_node, constant_of, constant_values
from graphopt.analysis.layer_inputs import Points, Rows, inputs_of
from graphopt.analysis.matching import only_reader, operand
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.dtypes import np_dtype

Array = np.ndarray[Any, Any]

FITTABLE: Final = ("Conv", "Gemm", "MatMul", "BatchNormalization")
"""Operators that a layer may be."""

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_BIAS = {"Conv": 2, "Gemm": 2}


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """A linear layer: `rows` of `data` times its weights, plus a bias, are `result`.

    `axis` is that of the channels of `result`: 1, or -1. `holder` is the node whose input `slot` is the bias: the
    layer's own, or the Add behind a MatMul; a slot of -1 means that it can have none.
    """

    node: Node
    data: Tensor
    rows: Rows
    result: Tensor
    axis: int
    groups: int
    holder: Node
    slot: int

    @property
    def held(self) -> Constant:
        """What holds the weight, or the scale of a normalization."""
        found = constant_of(self.node.inputs[1])
        assert found is not None, "checked when it was found"
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight as it is stored."""
        return tuple(int(size) for size in self.held.shape)

    @property
    def flipped(self) -> bool:
        """Whether the stored weight has its outputs first."""
        return self.node.op == "Conv" or (self.node.op == "Gemm" and bool(self.node.attrs.get("transB", 0)))

    @property
    def has_bias(self) -> bool:
        """Whether it may have a bias, be there one now or not."""
        return self.slot >= 0

    @property
    def inputs(self) -> int:
        """How many inputs each group has."""
        if self.node.op == "BatchNormalization":
            return 1
        return math.prod(self.shape[1:] if self.flipped else self.shape[:-1])

    @property
    def outputs(self) -> int:
        """How many outputs each group has."""
        if self.node.op == "BatchNormalization":
            return 1
        return self.shape[0 if self.flipped else -1] // self.groups

    @property
    def sums(self) -> int:
        """Bytes that the sums of a `LayerFit` of it take."""
        size = self.inputs + 1
        return 2 * 8 * self.groups * (size * size + size * self.outputs)

    def matrices(self, stored: Array) -> Array:
        """A tensor of the shape of the weight as [groups, inputs, outputs]."""
        if self.node.op == "Conv":
            return stored.reshape(self.groups, stored.shape[0] // self.groups, -1).transpose(0, 2, 1)
        return (stored.T if self.flipped else stored)[None]

    def weights(self) -> Array:
        """The weights: float64 [groups, inputs, outputs]."""
        if self.node.op == "BatchNormalization":
            scale, _, _, variance = self._normalization()
            factor = scale / np.sqrt(variance + float(self.node.attrs.get("epsilon", 1e-5)))
            return np.asarray(factor.reshape(-1, 1, 1))
        return self.matrices(values_of(self.node.inputs[1]).astype(np.float64))

    def bias(self) -> Array:
        """The bias: float64 [groups, outputs]; zeros where there is none."""
        if self.node.op == "BatchNormalization":
            _, offset, mean, _ = self._normalization()
            return np.asarray(offset.reshape(-1, 1) - mean.reshape(-1, 1) * self.weights()[:, 0])
        given = operand(self.holder, self.slot) if self.has_bias else None
        values = np.zeros(1) if given is None else values_of(given).astype(np.float64)
        return np.broadcast_to(values.reshape(-1), (self.groups * self.outputs,)).reshape(self.groups, -1)

    def stored(self, weights: Array, bias: Array) -> tuple[Array, Array]:
        """Weights and bias with what a file keeps of them: rounded to the type of the weight, as float64."""
        kind = np_dtype(self.held.onnx_dtype)
        return weights.astype(kind).astype(np.float64), bias.astype(kind).astype(np.float64)

    def tensors(self, weights: Array, bias: Array) -> dict[int, Array]:
        """What the node would read at its slots, in the shapes that are stored there, with these weights [groups,
        inputs, outputs] and biases [groups, outputs]. The bias of a linear layer is not among them."""
        if self.node.op == "BatchNormalization":
            scale, _, mean, variance = self._normalization()
            root = np.sqrt(variance + float(self.node.attrs.get("epsilon", 1e-5)))
            moved = bias[:, 0] + mean.reshape(-1) * weights.reshape(-1)
            return {1: (weights.reshape(-1) * root).reshape(scale.shape), 2: moved.reshape(scale.shape)}
        turned = weights.transpose(0, 2, 1) if self.node.op == "Conv" else weights[0].T if self.flipped else weights[0]
        return {1: np.ascontiguousarray(turned).reshape(self.shape)}

    def replaced(self, weights: Array, bias: Array) -> tuple[tuple[Tensor, Replacement], ...]:
        """These weights and biases as a change to be tried; of empty weights the bias alone."""
        made: list[tuple[Tensor, Replacement]] = []
        if weights.size or self.node.op == "BatchNormalization":
            weights = weights if weights.size else self.weights()
            made = [(self.node.inputs[slot], values) for slot, values in self.tensors(weights, bias).items()]
        given = operand(self.holder, self.slot) if self.has_bias and self.node.op != "BatchNormalization" else None
        flat = bias.reshape(-1)
        if given is not None:
            made.append((given, _like(values_of(given), flat)))
        elif self.has_bias and self.node.op != "BatchNormalization" and flat.any():
            after = len(self.shape) - 2 if self.node.op == "Conv" else 0
            made.append((self.result, Affine(self.result, offset=flat.reshape(-1, *[1] * after))))
        return tuple(made)

    def write(self, weights: Array, bias: Array) -> None:
        """Write other weights [groups, inputs, outputs] and biases [groups, outputs] in place of those there are."""
        graph = self.node.graph
        assert graph is not None, "it was found in a graph"
        for slot, values in self.tensors(weights, bias).items():
            _set(graph, self.node, slot, values)
        if self.has_bias and self.node.op != "BatchNormalization":
            self.write_bias(bias)

    def write_bias(self, bias: Array) -> None:
        """Write other biases [groups, outputs]; a layer that had none gets one, unless it would be zero."""
        graph = self.holder.graph
        assert graph is not None, "it was found in a graph"
        flat = bias.reshape(-1)
        if self.node.op == "BatchNormalization":
            self.write(self.weights(), bias)
        elif operand(self.holder, self.slot) is None:
            if flat.any():
                kind = np_dtype(self.held.onnx_dtype)
                made = graph.constant(flat.astype(kind), f"{self.node.inputs[1].name or self.node.label}_bias")
                if len(self.holder.inputs) <= self.slot:
                    self.holder.inputs.append(made)
                graph.rewire(self.holder, self.slot, made)
        else:
            _set(graph, self.holder, self.slot, _like(values_of(self.holder.inputs[self.slot]), flat))

    def _normalization(self) -> tuple[Array, Array, Array, Array]:
        scale, offset, mean, variance = (values_of(one).astype(np.float64) for one in self.node.inputs[1:5])
        return scale, offset, mean, variance


def float_layer(node: Node) -> FloatLayer | str | None:
    """The layer that `node` is, or a clause that says why it cannot be fitted; None for other operators, and for
    products of two computed values."""
    if not node.is_op(*FITTABLE) or len(node.inputs) < 2:
        return None
    held = constant_of(node.inputs[1])
    if held is None:
        if node.graph is not None and node.inputs[1] in node.graph.root.defaults:
            return "its weight is also a graph input, whose value callers may give"
        return None if node.op == "MatMul" else "its weight is not a constant"
    if np_dtype(held.onnx_dtype) not in tuple(np.dtype(one) for one in _FLOATS):
        return f"its weight is {held.dtype}"
    shape = [int(size) for size in held.shape]
    if 0 in shape:
        return "its weight is empty"
    if node.op == "BatchNormalization":
        return _normalization(node, shape)
    if only_reader(node.inputs[1]) is None:
        return "its weight is read by something else, too"
    return _linear(node, shape)


def _normalization(node: Node, shape: list[int]) -> FloatLayer | str:
    if len(node.inputs) < 5 or node.attrs.get("training_mode", 0) or len([o for o in node.outputs if o.name]) > 1:
        return "it normalizes by its own data"
    if node.attrs.get("spatial", 1) != 1 or any(constant_of(one) is None for one in node.inputs[1:5]):
        return "its scale, bias, mean and variance are not constants of one number a channel"
    if any(only_reader(one) is None for one in node.inputs[1:3]):
        return "its scale or bias is read by something else, too"
    return FloatLayer(node, node.inputs[0], Points(shape[0]), node.outputs[0], 1, shape[0], node, 2)


def _linear(node: Node, shape: list[int]) -> FloatLayer | str:
    groups = node.attrs.get("group", 1) if node.op == "Conv" else 1
    if node.op == "Conv" and (not isinstance(groups, int) or groups < 1 or shape[0] % groups or len(shape) < 3):
        return "its groups are not known"
    if node.op != "Conv" and len(shape) != 2:
        return f"its weight has rank {len(shape)}"
    if node.op == "Gemm" and (node.attrs.get("alpha", 1.0) != 1.0 or node.attrs.get("beta", 1.0) != 1.0):
        return "its alpha or beta is not 1"
    source = inputs_of(node, 1, shape)
    if isinstance(source, str):
        return source
    flipped = node.op == "Conv" or bool(node.attrs.get("transB", 0))
    outputs = shape[0] if flipped else shape[1]
    holder, slot, result = node, _BIAS.get(node.op, -1), node.outputs[0]
    if node.op == "MatMul":
        holder, slot, result = _adder(node, outputs)
    given = operand(holder, slot) if slot >= 0 else None
    if given is not None and not _is_bias(given, outputs):
        return "its bias is not a constant of one number an output"
    if given is not None and only_reader(given) is None:
        return "its bias is read by something else, too"
    if given is None and node.op == "Gemm" and node.graph is not None and node.graph.opset < 11:
        slot = -1  # C could not be left out, so it cannot be that it is; be careful with odd files
    return FloatLayer(node, source[0], source[1], result, 1 if node.op == "Conv" else -1, int(groups), holder, slot)


def _adder(node: Node, outputs: int) -> tuple[Node, int, Tensor]:
    """The Add of a constant for each output behind a MatMul, the slot of the constant, and the sum."""
    made = node.outputs[0]
    adder = only_reader(made)
    if adder is not None and adder.is_op("Add") and adder.graph is node.graph:
        slot = 1 if adder.inputs[0] is made else 0
        values = constant_values(adder.inputs[slot])
        if values is not None and values.size == outputs and (values.ndim == 1 or values.shape[-1] == outputs):
            return adder, slot, adder.outputs[0]
    return node, -1, made


def _is_bias(tensor: Tensor, outputs: int) -> bool:
    values = constant_values(tensor)
    if values is None or values.dtype.kind not in "fV" or values.size not in (1, outputs):
        return False
    return values.ndim <= 1 or values.size == 1 or values.shape[-1] == outputs


def values_of(tensor: Tensor) -> Array:
    """The values of a tensor that is known to be constant."""
    values = constant_values(tensor)
    assert values is not None, "checked when the layer was found"
    return values


def _like(old: Array, flat: Array) -> Array:
    return flat.reshape(old.shape if old.size == flat.size else (-1,))


def _set(graph: Graph, node: Node, slot: int, values: Array) -> None:
    """Let input `slot` of `node` have other values of the same type."""
    tensor = node.inputs[slot]
    old = values_of(tensor)
    new = np.asarray(values, old.dtype)
    if only_reader(tensor) is node and constant_of(tensor) is not None:
        graph.set_values(tensor, new)
        return
    graph.rewire(node, slot, graph.constant(new, tensor.name or f"{node.label}_{slot}"))
    drop_unread(tensor, graph)


def drop_unread(tensor: Tensor, graph: Graph) -> None:
    """Take out a constant that nobody reads any more."""
    if tensor.is_read:
        return
    holder = constant_node(tensor)
    if holder is not None and holder.graph is not None:
        holder.graph.remove(holder)
    elif isinstance(tensor, Constant) and tensor in graph.initializers:
        graph.remove_initializer(tensor)
