"""A stable topological order, iterative and linear (Kahn's algorithm with a heap for stability)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphopt.errors import BadModel

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node
    from graphopt.ir.values import Tensor


def reads(node: Node) -> Iterator[Tensor]:
    """What a node reads: its inputs, and what its bodies capture or give out."""
    yield from node.inputs
    for body in node.bodies:
        for graph in body.graphs():
            for inner in graph.nodes:
                yield from inner.inputs
            yield from graph.outputs


def sorted_nodes(graph: Graph) -> list[Node]:
    """The nodes of `graph` (bodies keep their own order) so that makers precede readers.

    Among nodes that are free to go, the one that stood first goes first.
    Raises BadModel, naming a node on it, when there is a cycle.
    """
    nodes: list[Node] = list(graph.nodes)
    place = {node: index for index, node in enumerate(nodes)}
    waits = [0] * len(nodes)
    followers: list[list[int]] = [[] for _ in nodes]
    in_order = True
    for index, node in enumerate(nodes):
        makers = set()
        for tensor in node.inputs if not node.bodies else reads(node):
            for maker in tensor.inputs:
                other = place.get(maker)
                if other is not None:  # a node that reads itself waits for ever: a cycle
                    makers.add(other)
        for other in makers:
            followers[other].append(index)
            in_order = in_order and other < index
        waits[index] = len(makers)
    if in_order:
        return nodes
    ready = [index for index, count in enumerate(waits) if count == 0]
    done: list[Node] = []
    while ready:
        index = heapq.heappop(ready)
        done.append(nodes[index])
        for follower in followers[index]:
            waits[follower] -= 1
            if not waits[follower]:
                heapq.heappush(ready, follower)
    if len(done) != len(nodes):
        stuck = next(node for node, count in zip(nodes, waits, strict=True) if count)
        raise BadModel(f"the graph has a cycle through node {stuck.label!r}")
    return done
