"""The ordered nodes of one graph: a list whose removals and insertions cost what they touch.

Removals, and insertions beside a node, are noted down and carried out together the next time
somebody looks at positions. Removing 50,000 nodes one by one is therefore one sweep.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, SupportsIndex

from graphopt.ir.sequence import Sequence

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node


class Nodes(Sequence):
    """The nodes of one graph in order. A node is in one list at most, and knows whose.

    A loop over the list goes over the nodes that stood in it when the loop began, without those
    that were taken out since: a script may remove and insert while it walks.
    """

    __slots__ = ("_after", "_before", "_first", "_gone", "owner")

    def __init__(self, owner: Graph, nodes: Iterable[Node] = ()) -> None:
        super().__init__()
        self.owner = owner
        self._gone: set[int] = set()
        self._before: dict[int, list[Node]] = {}
        self._after: dict[int, list[Node]] = {}  # last one first
        self._first: list[Node] = []  # last one first
        self.extend(nodes)

    def _own(self, node: Any) -> Node:
        """Make `node` one of this graph's. Raises ValueError while it is in a graph, this one included."""
        if "graph" not in getattr(node, "__dict__", {}):
            from graphopt.ir.adopt import adopt_node

            adopt_node(node)
        home = node.__dict__["graph"]
        if home is not None:
            where = "this graph" if home is self.owner else f"graph {home.name!r}; remove it there first"
            raise ValueError(f"node {node.label!r} is already in {where}")
        if id(node) in self._gone:
            self._settle()
        node.__dict__["graph"] = self.owner
        names = self.owner.root.__dict__["_names"]
        if names is not None:
            names.meet(node)
        owned: Node = node
        return owned

    def _settle(self) -> None:
        """Carry out what was noted down."""
        gone, before, after, first = self._gone, self._before, self._after, self._first
        if not (gone or before or after or first):
            return
        self._gone, self._before, self._after, self._first = set(), {}, {}, []
        if not (before or after or first):
            list.__setitem__(self, slice(None), [node for node in list.__iter__(self) if id(node) not in gone])
            return
        kept: list[Any] = []
        for anchor in (*reversed(first), *list.__iter__(self)):
            if id(anchor) not in before and id(anchor) not in after:
                if id(anchor) not in gone:
                    kept.append(anchor)
                continue
            # An inserted node can itself be an anchor; each is expanded once, in place.
            work: list[Any] = [(anchor, False)]
            while work:
                node, expanded = work.pop()
                if not expanded:
                    work.extend((one, False) for one in after.pop(id(node), ()))
                    work.append((node, True))
                    work.extend((one, False) for one in reversed(before.pop(id(node), ())))
                elif id(node) not in gone:
                    kept.append(node)
        list.__setitem__(self, slice(None), kept)

    def discard(self, node: Any) -> None:
        """Take `node` out, in constant time. Raises ValueError when it is not here."""
        self._anchored(node)
        self._gone.add(id(node))
        node.__dict__["graph"] = None

    def put_first(self, node: Any) -> None:
        """Insert `node` before all others, in constant time."""
        owned = self._own(node)
        self._first.append(owned)

    def put_before(self, anchor: Any, node: Any) -> None:
        """Insert `node` just before `anchor`, in constant time."""
        self._anchored(anchor)
        owned = self._own(node)  # this may carry out what was noted, so look up the note after it
        self._before.setdefault(id(anchor), []).append(owned)

    def put_after(self, anchor: Any, node: Any) -> None:
        """Insert `node` just after `anchor`, in constant time."""
        self._anchored(anchor)
        owned = self._own(node)
        self._after.setdefault(id(anchor), []).append(owned)

    def _anchored(self, node: Any) -> None:
        if node not in self:
            raise ValueError(f"node {_name(node)!r} is not in this graph")

    def arrange(self, nodes: list[Node]) -> None:
        """Put the nodes of this graph in another order: `nodes` are the same ones."""
        self._settle()
        list.__setitem__(self, slice(None), nodes)

    def __iter__(self) -> Iterator[Any]:
        self._settle()
        return self._walk(list.copy(self))

    def __reversed__(self) -> Iterator[Any]:
        self._settle()
        return self._walk(self[::-1])

    def _walk(self, nodes: list[Any]) -> Iterator[Any]:
        owner = self.owner
        for node in nodes:
            if node.__dict__["graph"] is owner:
                yield node

    def snapshot(self) -> list[Any]:
        """A plain list of the nodes, at the speed of one copy."""
        self._settle()
        return list.__getitem__(self, slice(None))

    def __len__(self) -> int:
        self._settle()
        return list.__len__(self)

    def __contains__(self, node: object) -> bool:
        return getattr(node, "__dict__", {}).get("graph") is self.owner

    def __getitem__(self, index: Any) -> Any:
        self._settle()
        return list.__getitem__(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        many = isinstance(index, slice)
        gone, fresh = (self[index], list(value)) if many else ([self[index]], [value])
        for node in gone:
            node.__dict__["graph"] = None
        owned: list[Any] = []
        try:
            owned.extend(self._own(node) for node in fresh)
            list.__setitem__(self, index, owned if many else owned[0])
        except (ValueError, TypeError):  # refused: leave everything as it was
            for node in owned:
                node.__dict__["graph"] = None
            for node in gone:
                node.__dict__["graph"] = self.owner
            raise

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        gone = self[index] if isinstance(index, slice) else [self[index]]
        for node in gone:
            node.__dict__["graph"] = None
        list.__delitem__(self, index)

    def append(self, value: Any) -> None:
        list.append(self, self._own(value))

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self._settle()
        list.insert(self, index, self._own(value))

    def remove(self, value: Any) -> None:
        self.discard(value)

    def pop(self, index: SupportsIndex = -1) -> Any:
        node = self[index]
        del self[index]
        return node

    def clear(self) -> None:
        del self[:]

    def index(self, value: Any, start: SupportsIndex = 0, stop: SupportsIndex = sys.maxsize) -> int:
        nodes = self.snapshot()
        for place in range(*slice(start, stop).indices(len(nodes))):
            if nodes[place] is value:
                return place
        raise ValueError(f"node {_name(value)!r} is not in this graph")

    def count(self, value: Any) -> int:
        return int(value in self)

    def reverse(self) -> None:
        self._settle()
        list.reverse(self)

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        self._settle()
        list.sort(self, key=key, reverse=reverse)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list):
            return NotImplemented
        mine, theirs = self.snapshot(), list(other)
        return len(mine) == len(theirs) and all(a is b for a, b in zip(mine, theirs, strict=True))

    __hash__ = None  # type: ignore[assignment]


def _name(node: Any) -> Any:
    return getattr(node, "label", None) or getattr(node, "name", node)
