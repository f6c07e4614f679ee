"""The two-way links between nodes and tensors, in time proportional to what an edit touches.

`Slots` are a node's ordered inputs (or outputs); `Uses` are the nodes that read (or make) a
tensor, once per slot. Editing either side keeps the other in step, as graphsurgeon's users
expect. `Uses` forget their order on removal, which is what makes a hub with many readers cheap
to rewire: a removal moves the last entry into the hole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex

_SHORT = 12  # up to here a scan beats keeping an index


def _uses(tensor: Any, field: str) -> Uses:
    """One side of a tensor's links; a stock graphsurgeon tensor becomes ours on first contact."""
    uses = tensor.__dict__[field]
    if type(uses) is not Uses:
        from graphopt.ir.adopt import adopt_tensor

        adopt_tensor(tensor)
        uses = tensor.__dict__[field]
    found: Uses = uses
    return found


class Slots(list[Any]):
    """The tensors in the input (or output) slots of one node."""

    __slots__ = ("field", "owner")

    def __init__(self, owner: Any, field: str, tensors: Iterable[Any] = ()) -> None:
        self.owner = owner
        self.field = field  # the tensors' side of the link: "outputs" for a node's inputs
        super().__init__(tensors)
        for tensor in self:
            _uses(tensor, field)._add(owner)

    def _forget(self, node: Any, tensor: Any) -> None:
        """Take one slot that holds `tensor` away, called from the tensor's side."""
        list.pop(self, next(i for i, one in enumerate(self) if one is tensor))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            old, new = self[index], list(value)
            super().__setitem__(index, new)
        else:
            old, new = [self[index]], [value]
            super().__setitem__(index, value)
        for tensor in old:
            _uses(tensor, self.field)._drop(self.owner)
        for tensor in new:
            _uses(tensor, self.field)._add(self.owner)

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        old = self[index] if isinstance(index, slice) else [self[index]]
        super().__delitem__(index)
        for tensor in old:
            _uses(tensor, self.field)._drop(self.owner)

    def append(self, value: Any) -> None:
        super().append(value)
        _uses(value, self.field)._add(self.owner)

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        super().insert(index, value)
        _uses(value, self.field)._add(self.owner)

    def remove(self, value: Any) -> None:
        super().remove(value)
        _uses(value, self.field)._drop(self.owner)

    def pop(self, index: SupportsIndex = -1) -> Any:
        value = super().pop(index)
        _uses(value, self.field)._drop(self.owner)
        return value

    def clear(self) -> None:
        old = list(self)
        super().clear()
        for tensor in old:
            _uses(tensor, self.field)._drop(self.owner)

    def __iadd__(self, values: Iterable[Any]) -> Slots:
        self.extend(values)
        return self

    def __add__(self, values: Iterable[Any]) -> list[Any]:
        return [*self, *values]

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: Any) -> list[Any]:
        return list(self)

    def __reduce__(self) -> Any:
        raise TypeError("a node's slots cannot be pickled; write the model instead")


class Uses(list[Any]):
    """The nodes that read (or make) one tensor, one entry for each slot; in no kept order."""

    __slots__ = ("_indexed", "_places", "field", "owner")

    def __init__(self, owner: Any, field: str) -> None:
        super().__init__()
        self.owner = owner
        self.field = field  # the nodes' side of the link: "inputs" for a tensor's outputs
        self._places: dict[int, list[int]] | None = None  # id(node) -> positions, once long
        self._indexed = 0  # the length that the index describes

    def _add(self, node: Any) -> None:
        if self._places is not None:
            self._places.setdefault(id(node), []).append(len(self))
            self._indexed += 1
        list.append(self, node)

    def _drop(self, node: Any) -> None:
        if self._places is None and len(self) <= _SHORT:
            list.pop(self, next(i for i, one in enumerate(self) if one is node))
            return
        hole = self._place_of(node)
        places = self._places
        assert places is not None
        last = list.pop(self)
        if hole < len(self):
            list.__setitem__(self, hole, last)
            moved = places[id(last)]
            moved[moved.index(len(self))] = hole
        if not self:
            self._places = None

    def _place_of(self, node: Any) -> int:
        """Take one position of `node` out of the index and return it.

        Stock graphsurgeon nodes append to and remove from this list behind our back, so the
        index is only trusted where it agrees with the list.
        """
        if self._places is not None and self._indexed == len(self) and id(node) in self._places:
            hole = self._places[id(node)][-1]
            if self[hole] is node:
                self._indexed -= 1
                return self._take(node)
        self._places = {}
        for position, one in enumerate(self):
            self._places.setdefault(id(one), []).append(position)
        self._indexed = len(self) - 1
        return self._take(node)

    def _take(self, node: Any) -> int:
        assert self._places is not None
        positions = self._places[id(node)]
        hole = positions.pop()
        if not positions:
            del self._places[id(node)]
        return hole

    def _slots(self, node: Any) -> Slots:
        slots: Slots = node.__dict__[self.field]
        return slots

    def append(self, value: Any) -> None:
        list.append(self._slots(value), self.owner)
        self._add(value)

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self.append(value)

    def remove(self, value: Any) -> None:
        self._slots(value)._forget(value, self.owner)
        self._drop(value)

    def pop(self, index: SupportsIndex = -1) -> Any:
        value = self[index]
        self.remove(value)
        return value

    def clear(self) -> None:
        for node in list(self):
            self._slots(node)._forget(node, self.owner)
        super().clear()
        self._places = None

    def __setitem__(self, index: Any, value: Any) -> None:
        old = self[index] if isinstance(index, slice) else [self[index]]
        for node in old:
            self.remove(node)
        self.extend(value if isinstance(index, slice) else [value])

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        for node in self[index] if isinstance(index, slice) else [self[index]]:
            self.remove(node)

    def __iadd__(self, values: Iterable[Any]) -> Uses:
        self.extend(values)
        return self

    def __add__(self, values: Iterable[Any]) -> list[Any]:
        return [*self, *values]

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: Any) -> list[Any]:
        return list(self)
