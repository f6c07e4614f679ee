"""Removal of what no output depends on: the one walk behind graphsurgeon's `cleanup`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from graphopt.ir.annotations import is_there, parameters
from graphopt.ir.edits import release
from graphopt.ir.garbage import collector_paused
from graphopt.ir.order import reads

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node
    from graphopt.ir.values import Tensor


def live_nodes(graph: Graph) -> set[Node]:
    """The nodes of `graph` that an output of it depends on, through bodies too.

    The scale and zero point that a quantization annotation gives to a live value are live.
    """
    live: set[Node] = set()
    _walk(graph, graph.outputs, live)
    notes = list(parameters(graph))
    while notes:
        alive = [named for tensor, named in notes if not tensor.inputs or any(one in live for one in tensor.inputs)]
        before = len(live)
        for named in alive:
            _walk(graph, named, live)
        if len(live) == before:
            break
    return live


def _walk(graph: Graph, tensors: Iterable[Tensor], live: set[Node]) -> None:
    pending: list[Any] = list(tensors)
    while pending:
        for node in pending.pop().__dict__["inputs"]:
            if node not in live and node.__dict__.get("graph") is graph:
                live.add(node)
                pending.extend(reads(node) if node.bodies else node.__dict__["inputs"])


def sweep(graph: Graph, bodies: bool = True) -> int:
    """Remove dead nodes and unread initializers of `graph` (and of its bodies); how many nodes.

    Bodies go first, so what only their dead nodes captured goes too.
    """
    with collector_paused():
        scopes = list(graph.graphs()) if bodies else [graph]
        return sum(_sweep(scope) for scope in reversed(scopes))


def _sweep(graph: Graph) -> int:
    live = live_nodes(graph)
    dead = [node for node in graph.nodes.snapshot() if node not in live]
    for node in dead:  # unlink all before removing any: they may read each other in any order
        for body in node.bodies:
            if body.parent is node:
                release(body)
        node.inputs.clear()
    for node in dead:
        graph.remove(node)
    while True:
        needed = {one for tensor, named in parameters(graph) if is_there(tensor, graph) for one in named}
        unread = [one for one in graph.initializers if not one.is_read and one not in needed]
        for constant in unread:
            graph.remove_initializer(constant)
        if not (unread and needed):
            return len(dead)
