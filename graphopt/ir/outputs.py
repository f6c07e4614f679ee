"""A graph's outputs: a list that each tensor in it knows of, so liveness needs no search."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

from graphopt.ir.links import uses_of
from graphopt.ir.sequence import Sequence

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph


class Outputs(Sequence):
    """The outputs of one graph in order; a tensor may stand in it more than once."""

    __slots__ = ("owner",)

    def __init__(self, owner: Graph, tensors: Iterable[Any] = ()) -> None:
        super().__init__()
        self.owner = owner
        self.extend(tensors)

    def _enter(self, tensor: Any) -> None:
        tensor.__dict__.setdefault("_graph_outputs", []).append(self.owner)

    def _leave(self, tensor: Any) -> None:
        places = tensor.__dict__["_graph_outputs"]
        places.pop(next(i for i, graph in enumerate(places) if graph is self.owner))

    def __setitem__(self, index: Any, value: Any) -> None:
        many = isinstance(index, slice)
        gone, fresh = (self[index], list(value)) if many else ([self[index]], [value])
        for tensor in fresh:
            uses_of(tensor, "inputs")  # refuses before anything changes
        list.__setitem__(self, index, fresh if many else value)
        for tensor in fresh:
            self._enter(tensor)
        for tensor in gone:
            self._leave(tensor)

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        gone = self[index] if isinstance(index, slice) else [self[index]]
        list.__delitem__(self, index)
        for tensor in gone:
            self._leave(tensor)

    def append(self, value: Any) -> None:
        self.insert(len(self), value)

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        uses_of(value, "inputs")  # a stock tensor becomes ours
        list.insert(self, index, value)
        self._enter(value)

    def remove(self, value: Any) -> None:
        del self[self.index(value)]

    def pop(self, index: SupportsIndex = -1) -> Any:
        value = self[index]
        del self[index]
        return value

    def clear(self) -> None:
        del self[:]
