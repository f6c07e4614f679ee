"""Turns entry points into passes, or into the reasons why they give none.

Plug-ins are other people's code: whatever one of them does when it is imported (raise, exit, hand
over something else) is recorded as its reason, in one line, and stops nothing.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.pipeline.declaration import fault, one_line, page_fault
from graphopt.pipeline.protocol import Pass

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["Broken", "Entry", "discover", "discover_named", "family_of"]


@dataclass(frozen=True)
class Entry:
    """A pass that can be used, and where it comes from; an unknown distribution or version is ""."""

    name: str
    pass_class: type[Pass]
    family: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """The class and its distribution, for an error message."""
        where = _installed_as(self.distribution, self.version)
        return f"{self.pass_class.__module__}.{self.pass_class.__qualname__} of {where}"


@dataclass(frozen=True)
class Broken:
    """An entry point, or one class of it, that cannot be used, and why, in one line.

    `target` is what the entry point names (`package.module:PASSES`).
    """

    family: str
    target: str
    distribution: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"{self.family} of {_installed_as(self.distribution, self.version)} ({self.reason})"


def discover(points: Iterable[EntryPoint]) -> tuple[list[Entry], list[Broken]]:
    """The passes of these entry points and what is broken, by distribution, family and place in it."""
    entries: list[Entry] = []
    broken: list[Broken] = []
    found = [(*_distribution(point), point) for point in points]
    found.sort(key=lambda item: (item[0].lower(), item[2].name, item[2].value))
    for distribution, version, point in found:
        usable, reasons = _load(point)
        entries += (Entry(one.name, one, point.name, distribution, version) for one in usable)
        broken += (Broken(point.name, point.value, distribution, version, reason) for reason in reasons)
    return entries, broken


def family_of(pass_class: type[Pass]) -> str:
    """The family of a pass that no entry point gave: the folder that its module lies in."""
    parts = pass_class.__module__.split(".")
    return parts[-2] if len(parts) > 1 else ""


def _load(point: EntryPoint) -> tuple[list[type[Pass]], list[str]]:
    """The passes that an entry point stands for, and a reason for everything in it that is none."""
    try:
        loaded = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in's import may raise anything
        return [], [f"importing it failed with {one_line(error)}"]
    if isinstance(loaded, dict) and loaded:
        return _load_table(loaded, loaded)
    if not isinstance(loaded, (tuple, list, type)):
        return [], [f"it is a {type(loaded).__name__}, not a pass, a tuple of passes or a table of them"]
    usable: list[type[Pass]] = []
    reasons: list[str] = []
    for candidate in [loaded] if isinstance(loaded, type) else loaded:
        reason = fault(candidate) or page_fault(candidate)
        if reason is None:
            usable.append(candidate)
        else:
            reasons.append(f"{_called(candidate)} {reason}")
    return usable, reasons


def discover_named(point: EntryPoint, name: str) -> tuple[list[Entry], list[Broken]] | None:
    """The one pass of an entry point that is called `name`, without importing the others; None where the
    entry point stands for no table of names, or for one without this name."""
    try:
        table = point.load()
    except (Exception, SystemExit):  # noqa: BLE001 - the reason is told by `discover`
        return None
    if not isinstance(table, dict) or name not in table:
        return None
    distribution, version = _distribution(point)
    usable, reasons = _load_table(table, (name,))
    return (
        [Entry(one.name, one, point.name, distribution, version) for one in usable],
        [Broken(point.name, point.value, distribution, version, reason) for reason in reasons],
    )


def _load_table(table: dict[object, object], names: Iterable[object]) -> tuple[list[type[Pass]], list[str]]:
    """The passes of a table from names to `module:Class`, and a reason for each that is none."""
    usable: list[type[Pass]] = []
    reasons: list[str] = []
    for name in names:
        try:
            module, _, attribute = str(table[name]).partition(":")
            candidate = getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in's import may raise anything
            reasons.append(f"importing {name} failed with {one_line(error)}")
            continue
        reason = fault(candidate) or page_fault(candidate)
        if reason is None and candidate.name != name:
            reason = f"is called {candidate.name}, not {name}"
        if reason is None:
            usable.append(candidate)
        else:
            reasons.append(f"{_called(candidate)} {reason}")
    return usable, reasons


def _called(candidate: object) -> str:
    return candidate.__name__ if isinstance(candidate, type) else "an item of it"


def _distribution(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that declares an entry point, as far as they are known."""
    return ("", "") if point.dist is None else _named(point.dist)


@functools.lru_cache(maxsize=64)
def _named(distribution: Distribution) -> tuple[str, str]:
    try:
        return str(distribution.name or ""), str(distribution.version or "")
    except Exception:  # noqa: BLE001 - without its METADATA file an installation has no name to read
        return "", ""


def _installed_as(distribution: str, version: str) -> str:
    return f"{distribution} {version}".strip() or "an unknown distribution"
