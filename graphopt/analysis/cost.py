"""What a model costs: nodes, parameters, bytes of weights, and multiply-accumulates.

Multiply-accumulates (MACs) are counted for the linear operators (Conv, ConvTranspose, Gemm,
MatMul and their integer forms, LSTM, GRU, RNN, and what onnxruntime has of the kind), which is where the field
counts them. Symbolic
and unknown dims count as 1, so the figure is "for one of each"; the nodes of a Loop or Scan body
are counted once, an If counts its dearer branch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from graphopt.analysis.shapes import Shapes
from graphopt.ir import Constant, Graph, Node
from graphopt.ir.values import Dim


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


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one run; `unknown` linear nodes have shapes that could not be inferred
    and are not in `count`."""

    count: int
    unknown: int = 0

    def __add__(self, other: Macs) -> Macs:
        return Macs(self.count + other.count, self.unknown + other.unknown)


def macs(graph: Graph, shapes: Shapes) -> Macs:
    """Multiply-accumulates of one run of `graph` (see the module's conventions)."""
    return sum((node_macs(node, shapes) for node in graph.nodes), Macs(0))


def macs_of(nodes: Iterable[Node], shapes: Shapes) -> int:
    """Multiply-accumulates of some nodes, those that are known."""
    return sum(node_macs(node, shapes).count for node in nodes)


def node_macs(node: Node, shapes: Shapes) -> Macs:
    """Multiply-accumulates of one run of one node (see the module's conventions)."""
    if node.bodies:
        costs = [macs(body, shapes) for body in node.bodies]
        return max(costs, key=lambda one: one.count) if node.is_op("If") else sum(costs, Macs(0))
    counters = _COUNTERS if node.is_standard else _CONTRIBUTED if node.domain == "com.microsoft" else {}
    count = counters[node.op](node, shapes) if node.op in counters else 0
    return Macs(0, 1) if count is None else Macs(count)


def _matmul(node: Node, shapes: Shapes) -> int | None:
    return _times(shapes.shape(node.outputs[0]), (shapes.shape(node.inputs[0]) or (None,))[-1:])


def _stored_matrix(node: Node, shapes: Shapes) -> int | None:
    inner = node.attrs.get("K")
    return _times(shapes.shape(node.outputs[0]), (inner,) if isinstance(inner, int) else None)


def _conv(node: Node, shapes: Shapes) -> int | None:
    weight = shapes.shape(node.inputs[3 if node.op == "QLinearConv" else 1])
    return _times(shapes.shape(node.outputs[0]), weight[1:] if weight else None)


def _conv_transpose(node: Node, shapes: Shapes) -> int | None:
    weight = shapes.shape(node.inputs[1])
    return _times(shapes.shape(node.inputs[0]), weight[1:] if weight else None)


def _gemm(node: Node, shapes: Shapes) -> int | None:
    left = shapes.shape(node.inputs[0])
    inner = None if not left else left[:1] if node.attrs.get("transA") else left[-1:]
    return _times(shapes.shape(node.outputs[0]), inner)


def _recurrent(node: Node, shapes: Shapes) -> int | None:
    data, weight, again = (shapes.shape(node.inputs[i]) for i in range(3))
    if data is None or weight is None or again is None:
        return None
    return _size(data[:2]) * (_size(weight) + _size(again))


_COUNTERS: dict[str, Callable[[Node, Shapes], int | None]] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), _conv),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
}

_CONTRIBUTED: dict[str, Callable[[Node, Shapes], int | None]] = {
    **dict.fromkeys(("MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _matmul),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _stored_matrix),
    "FusedConv": _conv,
    **dict.fromkeys(("FusedGemm", "QGemm"), _gemm),
    "DynamicQuantizeLSTM": _recurrent,
}
"""Of onnxruntime's domain com.microsoft."""

MAC_OPERATORS = frozenset(_COUNTERS) | frozenset(_CONTRIBUTED)
"""The operators that multiply-accumulates are counted for."""


def _times(one: Sequence[Dim] | None, other: Sequence[Dim] | None) -> int | None:
    return None if one is None or other is None else _size(one) * _size(other)


def _size(shape: Sequence[Dim]) -> int:
    return math.prod(dim if isinstance(dim, int) and dim > 0 else 1 for dim in shape)
