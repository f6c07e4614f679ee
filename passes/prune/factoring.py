"""Writes two small layers in place of a large one."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.analysis.float_layers import FloatLayer
from graphopt.ir import Node

Array = np.ndarray[Any, Any]

_PLACING = ("kernel_shape", "strides", "dilations", "pads", "auto_pad")


def why_not(layer: FloatLayer) -> str | None:
    """Why a layer cannot be two, in a clause; None where it can."""
    if layer.node.op == "BatchNormalization":
        return "it multiplies each channel by itself"
    if layer.groups > 1:
        return f"it has {layer.groups} groups"
    if layer.node.op == "Gemm" and layer.node.attrs.get("transA", 0):
        return "its data are turned (transA)"
    return None


def factor(layer: FloatLayer, first: Array, second: Array, bias: Array) -> Node:
    """Let the node of a layer multiply by `second` [ranks, outputs] what a new node before it makes of the data with
    `first` [inputs, ranks]; returns the new node. A convolution keeps its kernel in the new node."""
    node, graph, held = layer.node, layer.node.graph, layer.held
    assert graph is not None, "it was found in a graph"
    kind, rank = held.values.dtype, first.shape[1]
    stem = node.inputs[1].name or node.label
    middle = graph.variable(f"{stem}_ranks")
    if node.op == "Conv":
        weight = graph.constant(
            np.ascontiguousarray(first.T).reshape(rank, *layer.shape[1:]).astype(kind), f"{stem}_first"
        )
        placing = {key: value for key, value in node.attrs.items() if key in _PLACING}
        before = Node("Conv", graph.fresh_name(f"{node.label}_first"), placing, [node.inputs[0], weight], [middle])
        for key in placing:
            del node.attrs[key]
        made = np.ascontiguousarray(second.T).reshape(-1, rank, *[1] * (len(layer.shape) - 2))
    else:
        weight = graph.constant(np.ascontiguousarray(first).astype(kind), f"{stem}_first")
        before = Node("MatMul", graph.fresh_name(f"{node.label}_first"), {}, [node.inputs[0], weight], [middle])
        made = np.ascontiguousarray(second.T if layer.flipped else second)
    graph.insert(before, before=node)
    graph.rewire(node, 0, middle)
    graph.set_values(node.inputs[1], made.astype(kind))
    if layer.has_bias:
        layer.write_bias(bias[None])
    return before
