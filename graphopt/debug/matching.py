"""Which value of one model stands for which value of another: by record, by name, and by value.

The record is the provenance of a run (`origins`: which old names each new one stands for). Names
are believed unless the values say otherwise: two exporters that both number their values share
names that mean nothing. What is left is matched by value: the same kind and shape on every feed,
and elements that agree.
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
_DOUBT: Final = 0.1  # share of shared names that are known to be wrong, from which none is believed


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
    if origins is not None:
        finder.by_record(origins)
    finder.by_name(believed=origins is not None)
    finder.by_value()
    places = {name: number for number, name in enumerate(old)}
    return sorted(finder.found, key=lambda one: places[one.reference])


class _Finder:
    def __init__(self, old: Mapping[str, Sketch], new: Mapping[str, Sketch], close_db: float) -> None:
        self._old, self._new, self._close = old, new, close_db
        self._taken: tuple[set[str], set[str]] = (set(), set())
        self._buckets: dict[object, tuple[list[str], np.ndarray]] = {}
        self.found: list[Match] = []

    def pair(self, one: str, other: str, why: str) -> bool:
        taken_old, taken_new = self._taken
        if one not in self._old or other not in self._new or one in taken_old or other in taken_new:
            return False
        taken_old.add(one)
        taken_new.add(other)
        self.found.append(Match(one, other, why))
        return True

    def by_record(self, origins: Mapping[str, Sequence[str]]) -> None:
        places = {name: number for number, name in enumerate(self._old)}
        for name, olds in origins.items():
            if name not in self._new or name in self._old:
                continue
            like = self._new[name]
            fitting = [one for one in olds if one in self._old and self._old[one].shapes == like.shapes]
            for one in sorted(fitting, key=places.__getitem__, reverse=True):
                if self.pair(one, name, "record"):
                    break

    def by_name(self, *, believed: bool) -> None:
        shared = [name for name in self._old if name in self._new]
        good = [name for name in shared if closeness(self._old[name], self._new[name]) >= _WORD]
        right = set(good)
        bad = [name for name in shared if name not in right]
        if not believed:
            wrong = sum(1 for name in bad if self._elsewhere(name))
            if wrong > _DOUBT * (len(good) + wrong):
                bad = []
        for name in (*good, *bad):
            self.pair(name, name, "name")

    def by_value(self) -> None:
        for name, sketch in self._old.items():
            if name in self._taken[0] or not sketch.telling:
                continue
            for other in self._alike(sketch):
                if other not in self._taken[1] and self.pair(name, other, "value"):
                    break

    def _elsewhere(self, name: str) -> bool:
        """Whether a value that the name does not lead to agrees with this one."""
        sketch = self._old[name]
        return sketch.telling and any(other != name for other in self._alike(sketch))

    def _alike(self, sketch: Sketch) -> list[str]:
        """The candidate's values that agree: the best, and those as good, in graph order."""
        names, rows = self._bucket(sketch)
        if not names:
            return []
        decided = decibels(sketch.elements, rows)
        best = float(decided.max())
        if best < self._close:
            return []
        as_good = min(best, 120.0) - 12.0  # beyond that it is rounding that decides
        return [name for name, one in zip(names, decided, strict=True) if one >= max(as_good, self._close)]

    def _bucket(self, sketch: Sketch) -> tuple[list[str], np.ndarray]:
        if not self._buckets:
            several: dict[object, list[str]] = {}
            for name, one in self._new.items():
                several.setdefault(one.bucket, []).append(name)
            for bucket, names in several.items():
                self._buckets[bucket] = (names, np.stack([self._new[name].elements for name in names]))
        return self._buckets.get(sketch.bucket, ([], np.zeros((0, 0))))


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
