"""Unique names over a whole model: values, initializers and nodes of every scope."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from graphopt.ir.shadows import declared_in_bodies

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

_NUMBERED = re.compile(r"_\d+$")


class Names:
    """The names in use. Bodies may shadow outer names, so one set for all scopes is the safe one."""

    def __init__(self, root: Graph) -> None:
        self._used: set[str] = set()
        self._next: dict[str, int] = {}
        self._root = root
        self._in_bodies: set[str] | None = None
        used = self._used
        for graph in root.scopes():
            used.update(t.name for t in graph.inputs)
            used.update(t.name for t in graph.outputs)
            used.update(t.name for t in graph.initializers)
            for node in graph.nodes:
                used.add(node.name)
                used.update(t.name for t in node.inputs)
                used.update(t.name for t in node.outputs)
            if graph.origin is not None:
                used.update(graph.origin.other_names())

    def add(self, name: str) -> None:
        """Reserve a name."""
        self._used.add(name)

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
