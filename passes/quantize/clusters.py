"""A few values that stand for many: k-means in one dimension.

Over sorted numbers a cluster is an interval that ends half way to the next centre, so with running
sums a round of Lloyd's algorithm costs k searches, however many numbers there are. No round raises
the squared error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir.values import Array

_ROUNDS = 200
_SETTLED = 1e-7  # of the range: centres that move by less than this have settled
_BINS = 4096
_BUCKETS = 1 << 14  # among which numbers are sorted roughly before they are searched


@dataclass(frozen=True)
class Points:
    """Numbers in ascending order and the running sums of their weights, of weight x number, and of
    weight x square; each sum begins with 0."""

    numbers: Array
    weight: Array
    first: Array
    second: Array

    @classmethod
    def of(cls, numbers: Array, weights: Array | None = None) -> Points:
        """Points of a flat array (finite, not empty), weighted equally or as given."""
        if weights is None:
            ordered = np.sort(numbers).astype(np.float64)
            weighed = np.ones_like(ordered)
        else:
            order = np.argsort(numbers, kind="stable")
            ordered, weighed = numbers[order].astype(np.float64), weights[order].astype(np.float64)
        moment = weighed * ordered
        return cls(ordered, _running(weighed), _running(moment), _running(moment * ordered))

    def lloyd(self, start: Array, pinned: Array | None = None) -> Array:
        """Centres, ascending, that Lloyd's algorithm reaches from `start`; those where `pinned` is true
        stay. A cluster without points keeps its centre."""
        order = np.argsort(start, kind="stable")
        centres = start[order].astype(np.float64)
        free = np.ones(len(centres), bool) if pinned is None else ~pinned[order]
        least = _SETTLED * (float(self.numbers[-1] - self.numbers[0]) or 1.0)
        for _ in range(_ROUNDS):
            ends = self._ends(centres)
            weight, moment = np.diff(self.weight[ends]), np.diff(self.first[ends])
            means = np.divide(moment, weight, out=centres.copy(), where=free & (weight > 0))
            step = float(np.abs(means - centres).max())
            centres = means
            if step <= least:
                break
        return centres

    def error(self, centres: Array) -> float:
        """The weighted squared error of the nearest of `centres` (ascending)."""
        centres = centres.astype(np.float64)
        ends = self._ends(centres)
        sums = (np.diff(one[ends]) for one in (self.weight, self.first, self.second))
        weight, moment, square = sums
        return float(np.sum(square - 2 * centres * moment + centres * centres * weight))

    def spread_out(self, count: int) -> Array:
        """A start for `count` centres: as dense as the cube root of the density of the points, which is
        the best there is for many centres (Panter and Dite 1951)."""
        low, high = float(self.numbers[0]), float(self.numbers[-1])
        edges = np.linspace(low, high, _BINS + 1)
        inside = np.interp(edges, self.numbers, self.weight[1:])
        mass = np.cbrt(np.maximum(np.diff(inside), 0.0) + 1e-300)
        share = _running(mass) / mass.sum()
        return np.interp((np.arange(count) + 0.5) / count, share, edges)

    def _ends(self, centres: Array) -> Array:
        """Where the clusters of ascending centres begin and end among the points."""
        inner = np.searchsorted(self.numbers, (centres[1:] + centres[:-1]) / 2, side="right")
        return np.concatenate([[0], inner, [len(self.numbers)]])


def best(points: Points, starts: Sequence[Array], pinned: Sequence[Array | None]) -> Array:
    """Of what Lloyd's algorithm makes of each start, the centres with the least error."""
    found = [points.lloyd(start, pin) for start, pin in zip(starts, pinned, strict=True)]
    return min(found, key=points.error)


def nearest(numbers: Array, centres: Array) -> Array:
    """The index of the nearest of `centres` (ascending) to each number, the lower of two; uint8."""
    middles = centres.astype(np.float64)
    middles = (middles[1:] + middles[:-1]) / 2
    numbers = numbers.astype(np.float64, copy=False)
    width = _BUCKETS / float(middles[-1] - middles[0]) if len(middles) > 1 and middles[-1] > middles[0] else np.inf
    if numbers.size < _BUCKETS or not np.isfinite(width):
        return np.searchsorted(middles, numbers, side="left").astype(np.uint8)
    return _bucketed(numbers, middles, width)


def _bucketed(numbers: Array, middles: Array, width: float) -> Array:
    """What a search among `middles` finds, by looking up a bucket of each number first: a place in it, or
    before it, that is then moved up."""
    first = float(middles[0])
    edges = first + (np.arange(_BUCKETS + 1) - 1) / width  # one bucket below, whatever is rounded
    table = np.searchsorted(middles, edges, side="left").astype(np.int32)
    found = table[np.clip((numbers - first) * width, 0, _BUCKETS).astype(np.int32)]
    ends = np.append(middles, np.inf)
    while (short := ends[found] < numbers).any():
        found += short
    return found.astype(np.uint8)


def _running(values: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
