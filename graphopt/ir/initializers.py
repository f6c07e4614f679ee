"""The initializers of one graph, in order, each once, found by identity or by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from graphopt.ir.links import uses_of

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.values import Constant, Variable


class Initializers:
    """An ordered set of the constants that a graph declares, read or not.

    Default values of overridable inputs are not in it: see `Graph.defaults`.
    """

    __slots__ = ("_defaults", "_kept", "owner")

    def __init__(self, owner: Graph) -> None:
        self.owner = owner
        self._kept: dict[Any, None] = {}
        self._defaults = 0

    def add(self, constant: Constant) -> None:
        """Declare a constant. Raises ValueError when another graph does, or in a function, which
        has no initializers (use `Graph.constant` there)."""
        uses_of(constant, "outputs")  # a stock constant becomes ours
        home = constant.__dict__.get("home")
        if self.owner.is_function:
            raise ValueError(f"{constant.name!r} cannot be an initializer of a function; functions have none")
        if home is not None and home is not self.owner:
            raise ValueError(f"{constant.name!r} is an initializer of graph {home.name!r}; discard it there first")
        self._kept[constant] = None
        constant.__dict__["home"] = self.owner
        names = self.owner.root.__dict__["_names"]
        if names is not None:
            names.add(constant.name, self.owner.is_body)

    def discard(self, constant: Constant) -> None:
        """Take a constant out, if it is in; a default value stops being one."""
        if constant not in self._kept:
            return
        del self._kept[constant]
        constant.__dict__["home"] = None
        variable = constant.__dict__.pop("default_of", None)
        if variable is not None:
            self._defaults -= 1
            self.owner.defaults.pop(variable, None)

    def get(self, name: str) -> Constant | None:
        """The initializer of that name, by a scan: names are not kept in step."""
        return next((one for one in self if one.name == name), None)

    def __contains__(self, constant: object) -> bool:
        return constant in self._kept

    def __iter__(self) -> Iterator[Constant]:
        return iter([one for one in self._kept if "default_of" not in one.__dict__])

    def __len__(self) -> int:
        return len(self._kept) - self._defaults

    def add_default(self, constant: Constant, variable: Variable) -> None:
        """Declare the default value of an overridable input."""
        self.add(constant)
        constant.__dict__["default_of"] = variable
        self._defaults += 1
        self.owner.defaults[variable] = constant

    def declared(self) -> Iterator[Constant]:
        """Initializers and defaults together, in the order of the file."""
        return iter(list(self._kept))
