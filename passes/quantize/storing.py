"""Puts nodes in the place of a weight, that make its floats of something smaller when a model is loaded,
and takes out what is not read any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.analysis.movement import is_mover
from graphopt.analysis.weights import Weight
from graphopt.ir import Constant, Graph, Node, Tensor
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


def release(tensor: Tensor) -> None:
    """Take out a stored value that nobody reads any more, with the nodes that moved it; others are left."""
    while not tensor.is_read:
        if isinstance(tensor, Constant):
            home = tensor.__dict__.get("home")
            if home is not None and "default_of" not in tensor.__dict__:
                home.remove_initializer(tensor)
            return
        maker = tensor.inputs[0] if len(tensor.inputs) == 1 else None
        if maker is None or maker.graph is None or not (maker.is_op("Constant") or is_mover(maker)):
            return
        before = list(maker.inputs)
        maker.graph.remove(maker)
        if not before:
            return
        tensor = before[0]
