"""Removal of what no output depends on: the one walk behind graphsurgeon's `cleanup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.order import reads

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node


def live_nodes(graph: Graph) -> set[Node]:
    """The nodes of `graph` that an output of it, or a reader in another graph, depends on."""
    live: set[Node] = set()
    pending = list(graph.outputs)
    while pending:
        tensor = pending.pop()
        for node in tensor.inputs:
            if node.graph is graph and node not in live:
                live.add(node)
                pending.extend(reads(node))
    return live


def sweep(graph: Graph, bodies: bool = True) -> int:
    """Remove dead nodes and unread initializers of `graph` (and of its bodies); how many nodes."""
    live = live_nodes(graph)
    dead = [node for node in graph.nodes if node not in live]
    for node in reversed(dead):
        node.inputs.clear()
    for node in dead:
        graph.remove(node)
    removed = len(dead)
    if bodies:
        for node in graph.nodes:
            for body in node.bodies:
                removed += sweep(body)
    for constant in graph.initializers:
        if not constant.is_read:
            graph.remove_initializer(constant)
    return removed
