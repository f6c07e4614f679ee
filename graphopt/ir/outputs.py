"""A graph's outputs: a list that each tensor in it knows of, so liveness needs no search."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph


class Outputs(list[Any]):
    """The outputs of one graph in order; a tensor may stand in it more than once."""

    __slots__ = ("owner",)

    def __init__(self, owner: Graph, tensors: Iterable[Any] = ()) -> None:
        super().__init__()
        self.owner = owner
        self.extend(tensors)

    def _enter(self, tensor: Any) -> Any:
        if "_graph_outputs" not in tensor.__dict__:
            if "_dtype" not in tensor.__dict__ and "dtype" in tensor.__dict__:
                from graphopt.ir.adopt import adopt_tensor

                adopt_tensor(tensor)
            tensor.__dict__["_graph_outputs"] = []
        tensor.__dict__["_graph_outputs"].append(self.owner)
        return tensor

    def _leave(self, tensor: Any) -> None:
        places = tensor.__dict__["_graph_outputs"]
        places.pop(next(i for i, graph in enumerate(places) if graph is self.owner))

    def __setitem__(self, index: Any, value: Any) -> None:
        old = self[index] if isinstance(index, slice) else [self[index]]
        new = list(value) if isinstance(index, slice) else [value]
        super().__setitem__(index, new if isinstance(index, slice) else value)
        for tensor in new:
            self._enter(tensor)
        for tensor in old:
            self._leave(tensor)

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        old = self[index] if isinstance(index, slice) else [self[index]]
        super().__delitem__(index)
        for tensor in old:
            self._leave(tensor)

    def append(self, value: Any) -> None:
        super().append(self._enter(value))

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        super().insert(index, self._enter(value))

    def remove(self, value: Any) -> None:
        super().remove(value)
        self._leave(value)

    def pop(self, index: SupportsIndex = -1) -> Any:
        value = super().pop(index)
        self._leave(value)
        return value

    def clear(self) -> None:
        del self[:]

    def copy(self) -> list[Any]:
        return list(self)

    def __iadd__(self, values: Iterable[Any]) -> Outputs:
        self.extend(values)
        return self

    def __add__(self, values: Iterable[Any]) -> list[Any]:
        return [*self, *values]
