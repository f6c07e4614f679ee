"""A stable topological order, iterative and linear (Kahn's algorithm with a heap for stability)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import TYPE_CHECKING

from graphopt.errors import BadModel

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node
    from graphopt.ir.values import Tensor


def reads(node: Node) -> Iterable[Tensor]:
    """What a node reads: its inputs, and what its bodies capture or give out."""
    bodies = node.bodies
    if not bodies:
        found: Iterable[Tensor] = node.__dict__["inputs"]
        return found
    inside = list(node.inputs)
    for body in bodies:
        for graph in body.graphs():
            for inner in graph.nodes.snapshot():
                inside.extend(inner.__dict__["inputs"])
            inside.extend(graph.outputs)
    return inside


def sorted_nodes(graph: Graph) -> list[Node] | None:
    """The nodes of `graph` (bodies keep their own order) so that makers precede readers.

    Among nodes that are free to go, the one that stood first goes first. None when the nodes
    are in order as they are.
    Raises BadModel, naming a node on it, when there is a cycle.
    """
    nodes: list[Node] = graph.nodes.snapshot()
    place = {id(node): index for index, node in enumerate(nodes)}
    if _in_order(nodes, place):
        return None
    waits = [0] * len(nodes)
    followers: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        makers = _makers(node, place)
        for other in makers:
            followers[other].append(index)
        waits[index] = len(makers)
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
        raise BadModel(f"the graph has a cycle through node {_on_a_cycle(nodes, place, waits).label!r}")
    return done


def circle(graph: Graph) -> str | None:
    """Why the nodes of `graph` cannot be sorted, in a clause; None when they can."""
    try:
        sorted_nodes(graph)
    except BadModel as error:
        return str(error).rstrip(". ")
    return None


def _in_order(nodes: list[Node], place: dict[int, int]) -> bool:
    """Whether every maker that is among `nodes` stands before its readers."""
    for index, node in enumerate(nodes):
        for tensor in reads(node):
            for maker in tensor.__dict__["inputs"]:
                if place.get(id(maker), -1) >= index:  # a node that reads itself waits for ever: a cycle
                    return False
    return True


def _makers(node: Node, place: dict[int, int]) -> set[int]:
    return {place[id(maker)] for tensor in reads(node) for maker in tensor.inputs if id(maker) in place}


def _on_a_cycle(nodes: list[Node], place: dict[int, int], waits: list[int]) -> Node:
    """A node on a cycle: nodes that still wait wait for such nodes only, so walk back until one returns."""
    index = next(i for i, count in enumerate(waits) if count)
    seen: set[int] = set()
    while index not in seen:
        seen.add(index)
        index = min(other for other in _makers(nodes[index], place) if waits[other])
    return nodes[index]
