"""The ordered nodes of one graph: a list whose removals and insertions cost what they touch.

Removals and insertions beside a node are noted down and carried out together, the next time
somebody looks at positions. Removing 50,000 nodes one by one is therefore one sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, SupportsIndex

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node


class Nodes(list[Any]):
    """The nodes of one graph in order. A node is in one list at most, and knows whose."""

    __slots__ = ("_after", "_before", "_gone", "owner")

    def __init__(self, owner: Graph, nodes: Iterable[Node] = ()) -> None:
        super().__init__()
        self.owner = owner
        self._gone: set[int] = set()
        self._before: dict[int, list[Node]] = {}
        self._after: dict[int, list[Node]] = {}
        self.extend(nodes)

    def _own(self, node: Any) -> Node:
        if "graph" not in node.__dict__:
            from graphopt.ir.adopt import adopt_node

            adopt_node(node)
        if id(node) in self._gone:
            self._settle()
        home = node.__dict__["graph"]
        if home is not None:
            where = "this graph" if home is self.owner else f"graph {home.name!r}; remove it there first"
            raise ValueError(f"node {node.name!r} is already in {where}")
        node.__dict__["graph"] = self.owner
        owned: Node = node
        return owned

    def _settle(self) -> None:
        """Carry out what was noted down."""
        gone, before, after = self._gone, self._before, self._after
        if not (gone or before or after):
            return
        self._gone, self._before, self._after = set(), {}, {}
        kept: list[Any] = []
        work: list[Any] = []
        for anchor in list.__iter__(self):
            if id(anchor) not in before and id(anchor) not in after:
                if id(anchor) not in gone:
                    kept.append(anchor)
                continue
            # An inserted node can itself be an anchor; each is expanded once, in place.
            work.append((anchor, False))
            while work:
                node, expanded = work.pop()
                if expanded:
                    if id(node) not in gone:
                        kept.append(node)
                    continue
                follow = after.pop(id(node), ())
                lead = before.pop(id(node), ())
                work.extend((one, False) for one in reversed(follow))
                work.append((node, True))
                work.extend((one, False) for one in reversed(lead))
        super().__setitem__(slice(None), kept)

    def discard(self, node: Any) -> None:
        """Take `node` out, in constant time. Raises ValueError when it is not here."""
        if node.__dict__.get("graph") is not self.owner:
            raise ValueError(f"node {node.name!r} is not in this graph")
        self._gone.add(id(node))
        node.__dict__["graph"] = None

    def put_before(self, anchor: Any, node: Any) -> None:
        """Insert `node` just before `anchor`, in constant time."""
        self._anchored(anchor)
        self._before.setdefault(id(anchor), []).append(self._own(node))

    def put_after(self, anchor: Any, node: Any) -> None:
        """Insert `node` just after `anchor`, in constant time."""
        self._anchored(anchor)
        self._after.setdefault(id(anchor), []).insert(0, self._own(node))

    def _anchored(self, anchor: Any) -> None:
        if anchor.__dict__.get("graph") is not self.owner:
            raise ValueError(f"node {anchor.name!r} is not in this graph")

    def __iter__(self) -> Iterator[Any]:
        self._settle()
        return super().__iter__()

    def __reversed__(self) -> Iterator[Any]:
        self._settle()
        return super().__reversed__()

    def __len__(self) -> int:
        self._settle()
        return super().__len__()

    def __bool__(self) -> bool:
        return len(self) > 0

    def __contains__(self, node: object) -> bool:
        return getattr(node, "graph", None) is self.owner

    def __getitem__(self, index: Any) -> Any:
        self._settle()
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._settle()
        old = super().__getitem__(index) if isinstance(index, slice) else [super().__getitem__(index)]
        new = list(value) if isinstance(index, slice) else [value]
        for node in old:
            node.__dict__["graph"] = None
        new = [self._own(node) for node in new]
        super().__setitem__(index, new if isinstance(index, slice) else new[0])

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        self._settle()
        for node in super().__getitem__(index) if isinstance(index, slice) else [super().__getitem__(index)]:
            node.__dict__["graph"] = None
        super().__delitem__(index)

    def append(self, value: Any) -> None:
        super().append(self._own(value))

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self._settle()
        super().insert(index, self._own(value))

    def remove(self, value: Any) -> None:
        self.discard(value)

    def pop(self, index: SupportsIndex = -1) -> Any:
        self._settle()
        node = super().pop(index)
        node.__dict__["graph"] = None
        return node

    def clear(self) -> None:
        del self[:]

    def index(self, value: Any, start: SupportsIndex = 0, stop: SupportsIndex = 2**62) -> int:
        self._settle()
        return super().index(value, start, stop)

    def count(self, value: Any) -> int:
        return int(value in self)

    def reverse(self) -> None:
        self._settle()
        super().reverse()

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        self._settle()
        super().sort(key=key, reverse=reverse)

    def copy(self) -> list[Any]:
        return list(self)

    def __iadd__(self, values: Iterable[Any]) -> Nodes:
        self.extend(values)
        return self

    def __add__(self, values: Iterable[Any]) -> list[Any]:
        return [*self, *values]

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, list) and list(self) == list(other))

    __hash__ = None
