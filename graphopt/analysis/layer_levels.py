"""In which order layers are worked on when later ones are to see what was done to the earlier ones."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.ir import Graph, Node, Tensor


def layer_depths(graph: Graph, layers: Iterable[Node]) -> dict[Tensor, int]:
    """For each value that nodes of the main graph make, how many of `layers` are on the longest way to it.

    What the bodies of a node read counts as read by it.
    """
    wanted = set(layers)
    depth: dict[Tensor, int] = {}
    for node in graph.root.nodes:
        level = _level(node, depth) + (node in wanted)
        for tensor in node.outputs:
            depth[tensor] = level
    return depth


def layer_levels(graph: Graph, layers: Iterable[Node]) -> dict[Node, int]:
    """For each of `layers`, nodes of the main graph, how many of them are on the longest way to what it reads.

    Layers of one level do not depend on each other.
    """
    wanted = dict.fromkeys(layers)
    depth = layer_depths(graph, wanted)
    return {node: _level(node, depth) for node in wanted}


def _level(node: Node, depth: dict[Tensor, int]) -> int:
    read = [
        *node.inputs,
        *(tensor for body in node.subgraphs(recursive=True) for one in body.nodes for tensor in one.inputs),
    ]
    return max((depth.get(tensor, 0) for tensor in read), default=0)
