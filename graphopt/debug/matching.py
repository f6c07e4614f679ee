"""Which value of one model stands for which value of another: by record, by name, and by value.

The record is the provenance of a run (`origins`: which old names each new one stands for). Names and
record are followed where the values agree; what is left is matched by value: the same kind and shape
on every feed, and elements that agree. Only then are names taken at their word, since a rewrite may
keep a name for something else, and not at all where they are seen to say nothing: two exporters
that both number their values share names by chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphopt.debug.sketches import Sketch, closeness, decibels

CLOSE_DB: Final = 50.0  # values that agree this well are taken for the same
_WORD: Final = 40.0  # a shared name whose values agree this well is borne out


@dataclass(frozen=True)
class Match:
    """A value of the reference, the candidate's value for it, and why: `record`, `name`, `value` or `output`."""

    reference: str
    candidate: str
    why: str


def match(
    old: Mapping[str, Sketch], new: Mapping[str, Sketch], *, outputs: tuple[Sequence[str], Sequence[str]],
    origins: Mapping[str, Sequence[str]] | None = None, close_db: float = CLOSE_DB,
) -> list[Match]:  # fmt: skip
    """Pairs of values, in the reference's graph order; every value is in one pair at most.

    `old` and `new` hold the sketches in graph order, `outputs` the names that both models' outputs
    have; with `origins` names are what the record says, and are believed.
    """
    finder = _Finder(old, new, close_db)
    for one, other in _outputs(*outputs):
        finder.pair(one, other, "output")
    claims = finder.claims(origins)
    finder.borne_out(claims)
    finder.by_value()
    finder.believed(claims, recorded=origins is not None)
    places = {name: number for number, name in enumerate(old)}
    return sorted(finder.found, key=lambda one: places[one.reference])


class _Finder:
    def __init__(self, old: Mapping[str, Sketch], new: Mapping[str, Sketch], close_db: float) -> None:
        self._old, self._new, self._close = old, new, close_db
        self._taken: tuple[set[str], set[str]] = (set(), set())
        self._old_index, self._new_index = _Index(old), _Index(new)
        self.found: list[Match] = []

    def pair(self, one: str, other: str, why: str) -> bool:
        taken_old, taken_new = self._taken
        if one not in self._old or other not in self._new or one in taken_old or other in taken_new:
            return False
        taken_old.add(one)
        taken_new.add(other)
        self.found.append(Match(one, other, why))
        return True

    def claims(self, origins: Mapping[str, Sequence[str]] | None) -> list[Match]:
        """What the names and the record say: of several old names for a new one the nearest in value."""
        found = [Match(name, name, "name") for name in self._old if name in self._new]
        for name, olds in (origins or {}).items():
            if name not in self._new or name in self._old:
                continue
            fitting = [one for one in olds if one in self._old and self._old[one].shapes == self._new[name].shapes]
            if fitting:
                nearest = max(fitting, key=lambda one: self._near(one, name))
                found.append(Match(nearest, name, "record"))
        return found

    def borne_out(self, claims: Sequence[Match]) -> None:
        """Pair what is said to belong together and does agree."""
        for one in claims:
            if self._near(one.reference, one.candidate) >= _WORD:
                self.pair(one.reference, one.candidate, one.why)

    def believed(self, claims: Sequence[Match], *, recorded: bool) -> None:
        """Pair what is said to belong together and does not agree, unless names are known to say nothing."""
        right = sum(1 for one in self.found if one.reference == one.candidate)
        wrong = sum(1 for one in self.found if one.why == "value" and one.reference in self._new)
        if not recorded and wrong > right:
            return
        for one in claims:
            self.pair(one.reference, one.candidate, one.why)

    def by_value(self) -> None:
        """Pair what agrees whatever it is called: values that are the nearest to each other."""
        for name, sketch in self._old.items():
            if name in self._taken[0] or not sketch.telling:
                continue
            for other in self._new_index.alike(sketch, self._close):
                mutual = name in self._old_index.alike(self._new[other], self._close)
                if other not in self._taken[1] and mutual and self.pair(name, other, "value"):
                    break

    def _near(self, one: str, other: str) -> float:
        return closeness(self._old[one], self._new[other])


class _Index:
    """The values of a model by kind and shapes, to be looked up by what they are."""

    def __init__(self, sketches: Mapping[str, Sketch]) -> None:
        several: dict[object, list[str]] = {}
        for name, one in sketches.items():
            several.setdefault(one.bucket, []).append(name)
        self._buckets = {
            bucket: (names, np.stack([sketches[name].elements for name in names])) for bucket, names in several.items()
        }

    def alike(self, sketch: Sketch, close_db: float) -> list[str]:
        """The values that agree with one: the nearest, and those as near, in graph order."""
        names, rows = self._buckets.get(sketch.bucket, ([], None))
        if rows is None:
            return []
        decided = decibels(sketch.elements, rows)
        as_good = max(close_db, min(float(decided.max()), 120.0) - 12.0)  # beyond that it is rounding that decides
        return [name for name, one in zip(names, decided, strict=True) if one >= as_good]


def _outputs(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, str]]:
    """The outputs by name, and by position where no name is shared."""
    shared = [name for name in old if name in new]
    if shared or len(old) != len(new):
        return [(name, name) for name in shared]
    return list(zip(old, new, strict=True))


def described(decided: float) -> str:
    """Decibels in words."""
    if math.isnan(decided):
        return "not a number"
    return "equal" if decided == math.inf else "nothing in common" if decided == -math.inf else f"{decided:.1f} dB"
