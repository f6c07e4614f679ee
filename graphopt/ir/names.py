"""Unique names over a whole model: values, initializers and nodes of every scope."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from graphopt.ir.shadows import declared, declared_in_bodies

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node

_NUMBERED = re.compile(r"_\d+$")


class Names:
    """The names in use. Bodies may shadow outer names, so one set for all scopes is the safe one.

    Gathered once; nodes and initializers that come in later, and objects that are renamed, are
    met one by one.
    """

    def __init__(self, root: Graph) -> None:
        self._used: set[str] = set()
        self._next: dict[str, int] = {}
        self._root = root
        self._in_bodies: set[str] | None = None
        self._gather(root.scopes())

    def _gather(self, graphs: Iterable[Graph]) -> None:
        used = self._used
        for graph in graphs:
            used.update(t.name for t in graph.inputs)
            used.update(t.name for t in graph.outputs)
            used.update(t.name for t in graph.initializers)
            for node in graph.nodes:
                self._take(node)
            if graph.origin is not None:
                used.update(graph.origin.other_names())

    def _take(self, node: Node) -> None:
        self._used.add(node.name)
        self._used.update(t.name for t in node.inputs)
        self._used.update(t.name for t in node.outputs)

    def meet(self, node: Node) -> None:
        """Hear of a node that joined the model: its names are in use, those in its bodies too."""
        self._take(node)
        inside = [graph for body in node.bodies for graph in body.graphs()]
        self._gather(inside)
        if self._in_bodies is not None:
            if node.graph is not None and node.graph.is_body:
                self._in_bodies.update(t.name for t in node.outputs)
            for graph in inside:
                self._in_bodies.update(declared(graph))

    def add(self, name: str, in_body: bool = False) -> None:
        """Reserve a name, which may be one that a body declares."""
        self._used.add(name)
        if in_body and self._in_bodies is not None:
            self._in_bodies.add(name)

    @property
    def in_bodies(self) -> set[str]:
        """The names that bodies declare, gathered at the first call; fresh ones are nobody else's."""
        if self._in_bodies is None:
            self._in_bodies = declared_in_bodies(self._root)
        return self._in_bodies

    def __contains__(self, name: str) -> bool:
        return name in self._used

    def fresh(self, stem: str) -> str:
        """`stem` itself when free, else `stem_1`, `stem_2` ...; reserved by the call."""
        stem = stem or "value"
        if stem not in self._used:
            self._used.add(stem)
            return stem
        stem = _NUMBERED.sub("", stem) or stem
        number = self._next.get(stem, 0)
        while True:
            number += 1
            name = f"{stem}_{number}"
            if name not in self._used:
                self._next[stem] = number
                self._used.add(name)
                return name


def renamed(thing: Any, name: str) -> None:
    """Hear of a node or tensor that gets a new name: where its model knows its names, one more."""
    own = thing.__dict__
    graph = own.get("graph") or own.get("home")
    for link in ("inputs", "outputs"):
        for other in own.get(link) or ():
            graph = graph or other.__dict__.get("graph")
            break
    graph = graph or next(iter(own.get("_graph_outputs") or ()), None)
    if graph is not None:
        names = graph.root.__dict__["_names"]
        if names is not None:
            names.add(name, graph.is_body)
