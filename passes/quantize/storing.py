"""Puts nodes in the place of a weight, that make its floats of something smaller when a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.analysis.weights import Weight
from graphopt.ir import Graph, Node, Tensor
from passes.quantize.dequantize import Order, first_reader


class Steps:
    """Nodes of `graph` one after the other, named after the weight `name`; they are not in the graph yet."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name
        self.nodes: list[Node] = []

    def add(self, op: str, inputs: list[Tensor], attrs: Mapping[str, Any] | None = None) -> Tensor:
        """One more node; returns what it makes."""
        made = self.graph.variable(f"{self.name}_{op}")
        self.nodes.append(Node(op, self.graph.fresh_name(f"{self.name}_{op}"), dict(attrs or {}), inputs, [made]))
        return made


def put(weight: Weight, nodes: list[Node], order: Order) -> None:
    """Let what the last of `nodes` makes be read in the weight's place, and take the weight out."""
    home, old = weight.home, weight.tensor
    before = first_reader(old, home, order)
    for node in nodes:
        home.insert(node, before=before)
    home.replace_uses(old, nodes[-1].outputs[0])
    if weight.holder is None:
        home.remove_initializer(weight.constant)
    else:
        home.remove(weight.holder)
