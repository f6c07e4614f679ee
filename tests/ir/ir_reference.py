"""A plain model of a graph, to compare graph objects with: who reads what, in which scope.

A value is a token: `("input", i)` of the main graph, `("weight", number)` an initializer that holds
the number, `("node", name, i)` a result. A scope is "" or `name/i`, body i of the node `name`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, numpy_helper

from graphopt.ir import Constant, Graph, Node, Tensor

Token = tuple[Any, ...]


@dataclass
class Plain:
    """One node: its reads may only be of values of a smaller rank, so there is never a cycle."""

    op: str
    scope: str
    rank: int
    reads: list[Token]
    bodies: int = 0


@dataclass
class Reference:
    nodes: dict[str, Plain] = field(default_factory=dict)
    outputs: dict[str, list[Token]] = field(default_factory=dict)
    weights: dict[Token, str] = field(default_factory=dict)  # token -> scope

    def parent(self, scope: str) -> tuple[str, int]:
        """The scope around a body, and the rank of the node that has it."""
        holder = self.nodes[scope.partition("/")[0]]
        return holder.scope, holder.rank

    def visible(self, scope: str, rank: int) -> list[Token]:
        """What a node of `rank` in `scope` may read."""
        found: list[Token] = [("input", 0), ("input", 1)]
        while True:
            found += [("node", n, 0) for n, one in self.nodes.items() if one.scope == scope and one.rank < rank]
            found += [token for token, home in self.weights.items() if home == scope]
            if not scope:
                return found
            scope, rank = self.parent(scope)

    def is_read(self, token: Token) -> bool:
        if any(token in one.reads for one in self.nodes.values()):
            return True
        return any(token in tokens for tokens in self.outputs.values())

    def replace(self, old: Token, new: Token) -> None:
        lists = [*(one.reads for one in self.nodes.values()), *self.outputs.values()]
        for tokens in lists:
            tokens[:] = [new if token == old else token for token in tokens]

    def remove(self, name: str) -> None:
        one = self.nodes.pop(name)
        for index in range(one.bodies):
            scope = f"{name}/{index}"
            for inner in [n for n, p in self.nodes.items() if p.scope == scope]:
                self.remove(inner)
            del self.outputs[scope]
            for token in [t for t, home in self.weights.items() if home == scope]:
                del self.weights[token]

    def facts(self) -> Any:
        nodes = {name: (one.op, one.scope, tuple(one.reads)) for name, one in self.nodes.items()}
        return nodes, {s: tuple(tokens) for s, tokens in self.outputs.items()}, self.weights


def facts_of(proto: ModelProto) -> Any:
    """The same facts, read off a model: names resolved scope by scope."""
    nodes: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    weights: dict[Token, str] = {}

    def walk(graph: GraphProto, scope: str, around: dict[str, Token]) -> None:
        names = dict(around)
        for tensor in graph.initializer:
            token = ("weight", float(numpy_helper.to_array(tensor)[0]))
            assert token not in weights
            weights[token] = scope
            names[tensor.name] = token
        for one in graph.node:
            names.update((name, ("node", one.name, index)) for index, name in enumerate(one.output))
        for one in graph.node:
            assert one.name not in nodes
            nodes[one.name] = (one.op_type, scope, tuple(names[name] for name in one.input))
            for index, attribute in enumerate(one.attribute):
                walk(attribute.g, f"{one.name}/{index}", names)
        outputs[scope] = tuple(names[one.name] for one in graph.output)

    walk(proto.graph, "", {one.name: ("input", index) for index, one in enumerate(proto.graph.input)})
    return nodes, outputs, weights


def graph_of(root: Graph, scope: str) -> Graph:
    name, _, index = scope.partition("/")
    return node_of(root, name).bodies[int(index)] if name else root


def node_of(root: Graph, name: str) -> Node:
    return next(node for graph in root.graphs() for node in graph.nodes if node.name == name)


def tensor_of(root: Graph, token: Token) -> Tensor:
    if token[0] == "input":
        return root.inputs[token[1]]
    if token[0] == "node":
        made: Tensor = node_of(root, token[1]).outputs[token[2]]
        return made
    return next(one for graph in root.graphs() for one in graph.initializers if one.values[0] == token[1])


def weight(number: float) -> Any:
    return np.full(2, number, np.float32)


def is_constant(tensor: Tensor) -> bool:
    return isinstance(tensor, Constant)
