"""Where an operator of onnxruntime takes the place of several nodes, and what all such fusions ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import maker
from graphopt.analysis.untyped import why_not_untyped
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.ir.supersede import supersede
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context

DOMAIN = "com.microsoft"
"""The domain of onnxruntime's own operators, imported as version 1 when the model is written."""

FLOAT = 1
"""ONNX's number of float32, the one element type that all these kernels have on the CPU."""

_RANKS = {"BatchNormalization": 2, "Conv": 3, "Gemm": 2}  # what their results have at least


class Site:
    """One run of one fusion over a model."""

    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.graph, self.ctx, self.shapes = graph, ctx, ctx.shapes
        self._annotations = Annotations(graph)
        self._own = {one.name for one in graph.root.functions if one.domain == DOMAIN}

    def nodes(self) -> Iterator[Node]:
        """Every node of the model, bodies and functions included, that is still there when its turn comes."""
        for scope in self.graph.scopes():
            for node in list(scope.nodes):
                if node.graph is scope:
                    yield node

    def is_float(self, *tensors: Tensor | None) -> bool:
        """Whether one of these tensors, which all have one element type, is known to be float32."""
        return any(one is not None and self._dtype(one) == FLOAT for one in tensors)

    def _dtype(self, tensor: Tensor) -> int:
        held = constant_of(tensor)
        return self.shapes.onnx_dtype(tensor) if held is None else held.onnx_dtype

    def fuse(
        self,
        rule: str,
        root: Node,
        nodes: Sequence[Node],
        op: str,
        inputs: Iterable[Tensor | Array | None],
        attrs: dict[str, Any] | None = None,
        *,
        name: str = "",
        domain: str = DOMAIN,
    ) -> bool:
        """Let one node of `op` make what `root` makes, and take out `nodes`; whether that was done.

        The other nodes' values are read by `nodes` only. An input that is None is left out, an
        array becomes a constant. The new node is called `name`, or as `root` is.
        """
        if not self.may(rule, root, nodes, op, domain):
            return False
        scope = root.graph
        assert scope is not None, "a node that is fused is in a graph"
        slots = [
            Variable.empty() if one is None else scope.constant(one, "fused") if isinstance(one, np.ndarray) else one
            for one in inputs
        ]
        new = Node(op, name or root.name, attrs or {}, slots, domain=domain or None)
        supersede(root, nodes, [new], self.needs)
        return True

    def may(self, rule: str, root: Node, nodes: Sequence[Node], op: str, domain: str = DOMAIN) -> bool:
        """Announce that `op` takes the place of `nodes`, of which only the values of `root` stay; whether to do it."""
        why = self._why_not(root, nodes, op if domain == DOMAIN else "")
        if why is not None:
            self.ctx.missed(rule, root, why)
            return False
        return self.ctx.rewrite(rule, root, f"{domain}.{op}" if domain else op)

    def needs(self, tensor: Tensor) -> bool:
        """Whether an annotation needs the tensor, although no node reads it."""
        return self._annotations.needs(tensor) is not None

    def _why_not(self, root: Node, nodes: Sequence[Node], op: str) -> str | None:
        if op in self._own:
            return f"the model has a function of its own called {DOMAIN}.{op}"
        assert root.graph is not None, "a node that is fused is in a graph"
        untyped = why_not_untyped(root.graph) if op else None
        if untyped is not None:
            return untyped
        for node in nodes:
            for output in node.outputs:
                why = self._annotations.about(output) if node is not root and output.name else None
                if why is not None:
                    return why
        return None

    def keeps_rank(self, value: Tensor, number: Tensor) -> bool:
        """Whether `value` with a constant of one element broadcast onto it has the rank that it had."""
        held = constant_values(number)
        return held is not None and held.size == 1 and (held.ndim == 0 or held.ndim <= self._least_rank(value))

    def _least_rank(self, value: Tensor) -> int:
        """How many dims the tensor has at least, also where nothing is known of what makes it."""
        rank = self.shapes.rank(value)
        if rank is not None:
            return rank
        node = maker(value)
        if node is None:
            return 0
        if node.op in _RANKS:
            return _RANKS[node.op]
        if node.op not in ("Add", "Mul", "Sub", "Div"):
            return 0
        return max((self.shapes.rank(one) or 0 for one in node.inputs), default=0)


def single(tensor: Tensor, reader: Node, *ops: str, domain: str = "") -> Node | None:
    """The node of one of these operators that makes `tensor` for `reader` alone, in the same graph."""
    if len(tensor.inputs) != 1 or tensor.graph_outputs or len(tensor.outputs) != 1 or len(tensor.readers) != 1:
        return None
    node: Node = tensor.inputs[0]
    if node.op not in ops or (not node.is_standard if not domain else node.domain != domain):
        return None
    alone = all(one is tensor or not one.name or not one.is_read for one in node.outputs)
    return node if alone and node.graph is reader.graph else None
