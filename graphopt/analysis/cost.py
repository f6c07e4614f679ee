"""What a model costs: nodes, parameters, bytes of weights, and multiply-accumulates.

Multiply-accumulates (MACs) are counted for the linear operators (Conv, ConvTranspose, Gemm,
MatMul and their integer forms, LSTM, GRU, RNN), which is where the field counts them. Symbolic
and unknown dims count as 1, so the figure is "for one of each"; the nodes of a Loop or Scan body
are counted once, an If counts its dearer branch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.analysis.shapes import Shapes
from graphopt.ir import Constant, Graph, Node
from graphopt.ir.values import Dim

_MATMULS = ("MatMul", "MatMulInteger", "QLinearMatMul")
_CONVS = ("Conv", "ConvInteger", "QLinearConv")
_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Facts:
    """The size of a model at one moment.

    `nodes` counts every node of main graph, bodies and functions; `operators` the same by name.
    `parameters` are elements and `weight_bytes` stored bytes of initializers and Constant nodes.
    """

    nodes: int
    operators: Counter[str]
    initializers: int
    parameters: int
    weight_bytes: int


def facts(graph: Graph) -> Facts:
    """Count nodes, initializers, parameters and weight bytes of the whole model."""
    operators: Counter[str] = Counter()
    held: dict[Constant, None] = {}
    initializers = 0
    for scope in graph.scopes():
        for node in scope.nodes:
            operators[node.op if node.is_standard else f"{node.domain}.{node.op}"] += 1
            if node.op == "Constant" and node.is_standard:
                held.update((v, None) for v in node.attrs.values() if isinstance(v, Constant))
        declared = list(scope.initializers.declared())
        initializers += len(declared)
        held.update(dict.fromkeys(declared))
    return Facts(
        sum(operators.values()),
        operators,
        initializers,
        sum(math.prod(c.shape) for c in held),
        sum(c.nbytes for c in held),
    )


def macs(graph: Graph, shapes: Shapes) -> int:
    """Multiply-accumulates of one run of the main graph (see the module's conventions)."""
    return sum(_node_macs(node, shapes) for node in graph.nodes)


def _node_macs(node: Node, shapes: Shapes) -> int:
    if node.bodies:
        costs = [macs(body, shapes) for body in node.bodies]
        return max(costs) if node.is_op("If") else sum(costs)
    if not node.is_standard:
        return 0
    if node.op in _MATMULS:
        return _matmul(node, shapes)
    if node.op in _CONVS:
        weight = shapes.shape(node.inputs[3 if node.op == "QLinearConv" else 1])
        return _size(_out(node, shapes)) * _size(weight[1:]) if weight else 0
    if node.op == "ConvTranspose":
        weight, data = shapes.shape(node.inputs[1]), shapes.shape(node.inputs[0])
        return _size(data) * _size(weight[1:]) if weight and data else 0
    if node.op == "Gemm":
        left = shapes.shape(node.inputs[0])
        return _size(_out(node, shapes)) * _one(left[0 if node.attrs.get("transA") else 1]) if left else 0
    if node.op in _RECURRENT:
        return _recurrent(node, shapes)
    return 0


def _matmul(node: Node, shapes: Shapes) -> int:
    left = shapes.shape(node.inputs[0])
    out = _out(node, shapes)
    if not left:
        return 0
    return _size(out) * _one(left[-1])


def _recurrent(node: Node, shapes: Shapes) -> int:
    data, weight, again = (shapes.shape(node.inputs[i]) for i in range(3))
    if not (data and weight and again):
        return 0
    per_step = _size(weight) + _size(again)
    return _one(data[0]) * _one(data[1]) * per_step


def _out(node: Node, shapes: Shapes) -> Sequence[Dim] | None:
    return shapes.shape(node.outputs[0])


def _one(dim: Any) -> int:
    return dim if isinstance(dim, int) and dim > 0 else 1


def _size(shape: Sequence[Dim] | None) -> int:
    return math.prod(_one(dim) for dim in shape) if shape is not None else 0
