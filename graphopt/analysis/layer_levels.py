"""In which order layers are worked on when later ones are to see what was done to the earlier ones."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.ir import Graph, Node, Tensor


def layer_levels(graph: Graph, layers: Iterable[Node]) -> dict[Node, int]:
    """For each of `layers`, nodes of the main graph, how many of them are on the longest way to it.

    Layers of one level do not depend on each other. What the bodies of a node read counts as read by it.
    """
    wanted = set(layers)
    depth: dict[Tensor, int] = {}
    found: dict[Node, int] = {}
    for node in graph.root.nodes:
        read = [
            *node.inputs,
            *(tensor for body in node.subgraphs(recursive=True) for one in body.nodes for tensor in one.inputs),
        ]
        level = max((depth.get(tensor, 0) for tensor in read), default=0)
        if node in wanted:
            found[node] = level
            level += 1
        for tensor in node.outputs:
            depth[tensor] = level
    return found
