"""The initializers of one graph, in order, each once, found by identity or by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.values import Constant, Variable


class Initializers:
    """An ordered set of the constants that a graph declares, read or not.

    Default values of overridable inputs are not in it: see `Graph.defaults`.
    """

    __slots__ = ("_kept", "owner")

    def __init__(self, owner: Graph) -> None:
        self.owner = owner
        self._kept: dict[Any, None] = {}

    def add(self, constant: Constant) -> None:
        self._kept[constant] = None
        constant.__dict__["home"] = self.owner

    def discard(self, constant: Constant) -> None:
        if constant in self._kept:
            del self._kept[constant]
            constant.__dict__["home"] = None

    def get(self, name: str) -> Constant | None:
        """The initializer of that name, by a scan: names are not kept in step."""
        return next((one for one in self._kept if one.name == name), None)

    def __contains__(self, constant: object) -> bool:
        return constant in self._kept

    def __iter__(self) -> Iterator[Constant]:
        return iter([one for one in self._kept if "default_of" not in one.__dict__])

    def __len__(self) -> int:
        return len(self._kept) - len(self.owner.defaults)

    def add_default(self, constant: Constant, variable: Variable) -> None:
        """Declare the default value of an overridable input."""
        self.add(constant)
        constant.__dict__["default_of"] = variable
        self.owner.defaults[variable] = constant

    def declared(self) -> Iterator[Constant]:
        """Initializers and defaults together, in the order of the file."""
        return iter(list(self._kept))
