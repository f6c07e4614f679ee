"""The two-way links between nodes and tensors, in time proportional to what an edit touches.

`Slots` are a node's ordered inputs (or outputs); `Uses` are the nodes that read (or make) a
tensor, once for each slot. Editing either side keeps the other in step, as graphsurgeon's users
expect. A `Uses` that has grown long gives up its order when a slot is rewired, which is what makes
a hub with many readers cheap: the last entry moves into the hole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex

from graphopt.ir.sequence import Sequence

_SHORT = 12  # up to here a scan beats keeping an index, and order is kept


def uses_of(tensor: Any, field: str) -> Uses:
    """One side of a tensor's links; a stock graphsurgeon tensor becomes ours on first contact."""
    uses = getattr(tensor, "__dict__", {}).get(field)
    if type(uses) is not Uses:
        from graphopt.ir.adopt import adopt_tensor

        adopt_tensor(tensor)
        uses = tensor.__dict__[field]
    found: Uses = uses
    return found


def slots_of(node: Any, field: str) -> Slots:
    """One side of a node's links; a stock graphsurgeon node becomes ours on first contact."""
    slots = getattr(node, "__dict__", {}).get(field)
    if type(slots) is not Slots:
        from graphopt.ir.adopt import adopt_node

        adopt_node(node)
        slots = node.__dict__[field]
    found: Slots = slots
    return found


class Slots(Sequence):
    """The tensors in the input (or output) slots of one node."""

    __slots__ = ("field", "owner")

    def __init__(self, owner: Any, field: str, tensors: Iterable[Any] = ()) -> None:
        self.owner = owner
        self.field = field  # the tensors' side of the link: "outputs" for a node's inputs
        if tensors:
            self.extend(tensors)

    def _forget(self, tensor: Any) -> None:
        """Take the first slot that holds `tensor` away, called from the tensor's side."""
        list.pop(self, self.index(tensor))

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(index, slice):
            old = self[index]
            uses = uses_of(value, self.field)
            list.__setitem__(self, index, value)
            old.__dict__[self.field]._drop(self.owner)
            uses._add(self.owner)
            return
        gone, fresh = self[index], list(value)
        entered = [uses_of(tensor, self.field) for tensor in fresh]  # refuses before anything changes
        list.__setitem__(self, index, fresh)
        for tensor in gone:
            tensor.__dict__[self.field]._drop(self.owner)
        for uses in entered:
            uses._add(self.owner)

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        gone = self[index] if isinstance(index, slice) else [self[index]]
        list.__delitem__(self, index)
        for tensor in gone:
            tensor.__dict__[self.field]._drop(self.owner)

    def append(self, value: Any) -> None:
        uses_of(value, self.field)._add(self.owner)
        list.append(self, value)

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        uses_of(value, self.field)._add(self.owner)
        list.insert(self, index, value)

    def remove(self, value: Any) -> None:
        del self[self.index(value)]

    def pop(self, index: SupportsIndex = -1) -> Any:
        value = self[index]
        del self[index]
        return value

    def clear(self) -> None:
        gone = list(self)
        list.clear(self)
        for tensor in gone:
            tensor.__dict__[self.field]._drop(self.owner)


class Uses(Sequence):
    """The nodes that read (or make) one tensor, one entry for each slot."""

    __slots__ = ("_places", "field", "owner")

    def __init__(self, owner: Any, field: str) -> None:
        self.owner = owner
        self.field = field  # the nodes' side of the link: "inputs" for a tensor's outputs
        self._places: dict[int, set[int]] | None = None  # id(node) -> positions, once long

    def _add(self, node: Any) -> None:
        if self._places is not None:
            self._places.setdefault(id(node), set()).add(len(self))
        list.append(self, node)

    def _drop(self, node: Any) -> None:
        """Take one entry of `node` away, called from the node's side."""
        if self._places is None and len(self) <= _SHORT:
            for place, one in enumerate(self):
                if one is node:
                    list.pop(self, place)
                    return
            return
        hole = self._place_of(node)
        if hole is None:
            return
        last = list.pop(self)
        if hole == len(self):
            return
        list.__setitem__(self, hole, last)
        moved = self._places.get(id(last)) if self._places is not None else None
        if moved is None or len(self) not in moved:
            self._places = None  # the list was changed behind our back; index it again when needed
        else:
            moved.remove(len(self))
            moved.add(hole)

    def _place_of(self, node: Any) -> int | None:
        """Take one position of `node` out of the index and return it.

        Stock graphsurgeon nodes append to and remove from this list behind our back, so the
        index is only trusted where it agrees with the list, and made again where it does not.
        """
        if self._places is not None and (hole := self._take(node)) is not None:
            return hole
        self._places = {}
        for place, one in enumerate(self):
            self._places.setdefault(id(one), set()).add(place)
        return self._take(node)

    def _take(self, node: Any) -> int | None:
        assert self._places is not None
        places = self._places.get(id(node))
        if not places:
            return None
        hole = places.pop()
        if not places:
            del self._places[id(node)]
        return hole if hole < len(self) and self[hole] is node else None

    def append(self, value: Any) -> None:
        list.append(slots_of(value, self.field), self.owner)
        self._add(value)

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        list.append(slots_of(value, self.field), self.owner)
        self._places = None
        list.insert(self, index, value)

    def remove(self, value: Any) -> None:
        del self[self.index(value)]

    def pop(self, index: SupportsIndex = -1) -> Any:
        value = self[index]
        del self[index]
        return value

    def clear(self) -> None:
        del self[:]

    def __setitem__(self, index: Any, value: Any) -> None:
        many = isinstance(index, slice)
        gone, fresh = (self[index], list(value)) if many else ([self[index]], [value])
        entered = [slots_of(node, self.field) for node in fresh]  # refuses before anything changes
        self._places = None
        list.__setitem__(self, index, fresh if many else value)
        for node in gone:
            slots_of(node, self.field)._forget(self.owner)
        for slots in entered:
            list.append(slots, self.owner)

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        if isinstance(index, slice):
            gone = self[index]
            self._places = None
            list.__delitem__(self, index)
            for node in gone:
                slots_of(node, self.field)._forget(self.owner)
            return
        node = self[index]
        slots_of(node, self.field)._forget(self.owner)
        if len(self) > _SHORT:
            self._drop(node)
        else:
            self._places = None
            list.__delitem__(self, index)

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        self._places = None
        list.sort(self, key=key, reverse=reverse)

    def reverse(self) -> None:
        self._places = None
        list.reverse(self)
