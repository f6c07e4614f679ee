"""By which names users may mean a node: its own, and those of the values that it reads and makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from graphopt.ir import Node


def names_of(node: Node) -> Iterator[str]:
    """The names of a node, its own first."""
    yield node.label
    for tensor in (*node.outputs, *node.inputs):
        if tensor.name:
            yield tensor.name


def matching(nodes: Iterable[Node], patterns: tuple[str, ...]) -> str | None:
    """The first of the patterns that a name of one of the nodes matches."""
    names = [name for node in nodes for name in names_of(node)]
    return next((pattern for pattern in patterns if any(fnmatchcase(name, pattern) for name in names)), None)
