"""A table of what was met before and can be seen from where a walk stands."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from graphopt.ir import Graph, Node

T = TypeVar("T")


class Sight(Generic[T]):
    """Walks a graph and the bodies in it; what was noted in a body is forgotten where the body ends.

    So what is found under a key was met in this graph or in one around it, and before this place. The
    main graph and each function are walked alone, since neither sees into the other.
    """

    def __init__(self) -> None:
        self._seen: dict[Hashable, T] = {}
        self._notes: list[list[Hashable]] = []

    def walk(self, top: Graph) -> Iterator[Graph | Node]:
        """Each graph as it is entered, then its nodes in order, each followed by its bodies."""
        frames: list[tuple[Iterator[Graph | Node], bool]] = [(iter([top]), False)]
        while frames:
            rest, is_graph = frames[-1]
            item = next(rest, None)
            if item is None:
                frames.pop()
                for key in self._notes.pop() if is_graph else ():
                    del self._seen[key]
            elif isinstance(item, Graph):
                self._notes.append([])
                yield item
                frames.append((iter(item.nodes), True))
            else:
                yield item
                frames.append((iter(item.bodies), False))

    def find(self, key: Hashable) -> T | None:
        """What was noted under `key`."""
        return self._seen.get(key)

    def note(self, key: Hashable, value: T) -> None:
        """Note `value`, for as long as the walk is in this graph; `key` is not in use yet."""
        self._seen[key] = value
        self._notes[-1].append(key)
