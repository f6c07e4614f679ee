"""A list of graph objects: they are found by identity, and its links never travel with a copy."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, SupportsIndex


class Sequence(list[Any]):
    """What the lists of a graph share. A copy, or a sum, is a plain list of the same objects."""

    __slots__ = ()

    def index(self, value: Any, start: SupportsIndex = 0, stop: SupportsIndex = sys.maxsize) -> int:
        for place in range(*slice(start, stop).indices(len(self))):
            if self[place] is value:
                return place
        raise ValueError(f"{getattr(value, 'name', value)!r} is not in this list")

    def count(self, value: Any) -> int:
        return sum(one is value for one in self)

    def __contains__(self, value: object) -> bool:
        return any(one is value for one in self)

    def copy(self) -> list[Any]:
        return list(self)

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: Any) -> list[Any]:
        return list(self)

    def __add__(self, values: Iterable[Any]) -> list[Any]:
        return [*self, *values]

    def __iadd__(self, values: Iterable[Any]) -> Any:
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex) -> Any:
        raise TypeError("the objects of a graph cannot be repeated; copy them")

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        raise TypeError("a graph cannot be pickled; write the model instead")
