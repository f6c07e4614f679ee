"""The passes that can be named: everybody's through one entry point group, our own too.

An entry point of the group `graphopt.passes` is called like a family of passes and stands for a
subclass of Pass, for a tuple of them, or for a table from names to `module:Class` (a family's
`PASSES`), from which a pass is imported when it is asked for. What cannot be imported, or is no pass,
is listed with its reason in `Registry.broken` and stops nothing; two passes of one name do.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from graphopt.errors import UsageError
from graphopt.pipeline.declaration import fault
from graphopt.pipeline.discovery import Broken, Entry, discover, discover_named, family_of
from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.page import PassPage, page
from graphopt.pipeline.protocol import Pass
from graphopt.pipeline.tokens import shorten

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "Broken", "Entry", "Registry"]

GROUP = "graphopt.passes"


class Registry:
    """The passes that pipelines and recipes can name, ordered by distribution, family and place in it."""

    def __init__(
        self, entries: Iterable[Entry], broken: Iterable[Broken] = (), pending: Iterable[EntryPoint] = ()
    ) -> None:
        """A registry of these entries, and of entry points that are looked into when a name is asked for that
        is not among them; UsageError when two different classes have one name."""
        self._by_name: dict[str, Entry] = {}
        self._broken: list[Broken] = []
        self._pending = tuple(pending)
        self._add(entries, broken)

    def _add(self, entries: Iterable[Entry], broken: Iterable[Broken]) -> None:
        for entry in entries:
            other = self._by_name.setdefault(entry.name, entry)
            if other.pass_class is not entry.pass_class:
                raise UsageError(
                    f"two passes are called {entry.name}: {other.origin}, and {entry.origin}; "
                    "uninstall or rename one of them"
                )
        self._broken += broken

    def _complete(self) -> Registry:
        if self._pending:
            pending, self._pending = self._pending, ()
            self._by_name, self._broken = {}, []
            self._add(*discover(pending))
        return self

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The usable passes."""
        return tuple(self._complete()._by_name.values())

    @property
    def broken(self) -> tuple[Broken, ...]:
        """What was found but cannot be used."""
        return tuple(self._complete()._broken)

    @classmethod
    def load(cls, entry_points: Iterable[EntryPoint] | None = None) -> Registry:
        """The installed passes, found once per process; or those of the given entry points.

        Plug-ins are imported at once; where there are none, each pass of ours when it is asked for.
        Raises `UsageError` when two passes have one name.
        """
        return _installed() if entry_points is None else cls(*discover(entry_points))

    @classmethod
    def of(cls, classes: Iterable[type[Pass]], *, family: str = "") -> Registry:
        """A registry of these classes only; UsageError when one of them is no pass."""
        entries: list[Entry] = []
        for one in classes:
            if (reason := fault(one)) is not None:
                raise UsageError(f"the pass {getattr(one, '__name__', repr(one))} {reason}")
            entries.append(Entry(one.name, one, family or family_of(one), "", ""))
        return cls(entries)

    def including(self, classes: Iterable[type[Pass]]) -> Registry:
        """This registry and these classes; UsageError when one is no pass, or its name is taken."""
        return Registry((*self.entries, *Registry.of(classes).entries), self.broken)

    def names(self) -> tuple[str, ...]:
        """The names of all passes, in alphabetical order."""
        return tuple(sorted(self._complete()._by_name))

    def get(self, name: str) -> type[Pass]:
        """The class of the pass called `name`; UsageError with the nearest name when there is none."""
        return self.entry(name).pass_class

    def entry(self, name: str) -> Entry:
        """The entry of the pass called `name`; UsageError with the nearest name when there is none."""
        if name not in self._by_name and self._pending:
            found = next((one for point in self._pending if (one := discover_named(point, name)) is not None), None)
            if found is None or found[1]:
                self._complete()
            else:
                self._add(*found)
        if (entry := self._by_name.get(name)) is not None:
            return entry
        message = f"no pass is called {shorten(name)!r}"
        if near := did_you_mean(name, self._by_name):
            raise UsageError(message + near)
        if self.broken:
            raise UsageError(f"{message}; perhaps it belongs to a broken plug-in: {self.broken[0]}")
        if not self._by_name:
            raise UsageError(f"{message}; no passes are installed at all, so install graphopt again")
        raise UsageError(f"{message}; `graphopt passes` lists the passes there are")

    def page(self, which: str | type[Pass]) -> PassPage:
        """The page of a pass, by name or by class; a class need not be registered."""
        if isinstance(which, str):
            entry = self.entry(which)
            return page(entry.pass_class, family=entry.family)
        families = [entry.family for entry in self.entries if entry.pass_class is which]
        return page(which, family=families[0] if families else family_of(which))


@functools.cache
def _installed() -> Registry:
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    ours = ("passes.", "graphopt.")
    if all(point.value.startswith(ours) for point in points):  # one distribution: its names are unique
        return Registry((), pending=points)
    return Registry(*discover(points))
