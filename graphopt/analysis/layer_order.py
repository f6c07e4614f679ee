"""In which order layers are worked on when later ones are to see what was done to the earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from graphopt.analysis.weights import Weight
from graphopt.ir import Graph, Node, Tensor

T = TypeVar("T")


def staged(graph: Graph, layers: Sequence[T], weight: Callable[[T], Weight], most: int) -> list[list[T]]:
    """The layers in at most `most` groups (0: as many as there are levels), shallow ones first.

    The level of a layer is how many layers lie on the longest way to it; layers of one level do not
    depend on each other. Within a group the order of the layers stays.
    """
    levels = _levels(graph, {site.node for one in layers for site in weight(one).sites})
    level = [_level(weight(one), levels) for one in layers]
    distinct = sorted(set(level))
    count = min(most or len(distinct), len(distinct))
    group = {one: index * count // len(distinct) for index, one in enumerate(distinct)}
    made: list[list[T]] = [[] for _ in range(count)]
    for layer, one in zip(layers, level, strict=True):
        made[group[one]].append(layer)
    return made


def _level(weight: Weight, levels: dict[Node, int]) -> int:
    return max((levels.get(_outermost(site.node), 0) for site in weight.sites), default=0)


def _levels(graph: Graph, layers: Collection[Node]) -> dict[Node, int]:
    """For each node of the main graph, the layers on the longest way to it, itself included; what is in
    its bodies counts as its own."""
    main = graph.root
    outer = {_outermost(node) for node in layers}
    depth: dict[Tensor, int] = {}
    levels: dict[Node, int] = {}
    for node in main.nodes:
        read = [
            *node.inputs,
            *(tensor for body in node.subgraphs(recursive=True) for one in body.nodes for tensor in one.inputs),
        ]
        level = max((depth.get(tensor, 0) for tensor in read), default=0) + (node in outer)
        levels[node] = level
        for tensor in node.outputs:
            depth[tensor] = level
    return levels


def _outermost(node: Node) -> Node:
    """The node of the main graph or of a function that `node` is, or is in a body of."""
    while node.graph is not None and isinstance(node.graph.parent, Node):
        node = node.graph.parent
    return node
