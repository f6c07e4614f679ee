"""Which range of values an integer grid should cover, from a histogram of them.

Every estimate lies within the range that was seen. Values outside the chosen range saturate; those
inside are rounded to the nearest of the grid's levels. A wide range rounds everything coarsely, a
narrow one cuts off the tails: the estimates weigh the two in different ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_COARSE, _FINE = 32, 8  # ends that are tried on each side: first all over, then around the best
_ROUNDS = 3  # times that the two ends are chosen in turn


@dataclass(frozen=True, eq=False)
class Counted:
    """How many values lie in each of equal bins from `low` to `high` (counts [bins], at least one)."""

    low: float
    high: float
    counts: Array

    @property
    def width(self) -> float:
        """How wide one bin is."""
        return (self.high - self.low) / self.counts.size

    @property
    def centres(self) -> Array:
        """The middle of each bin: float64 [bins]."""
        return self.low + (np.arange(self.counts.size) + 0.5) * self.width


def percentile(found: Counted, share: float) -> tuple[float, float]:
    """The range that holds `share` percent of the values, as many cut off below as above.

    An end stays where it is when the values do not go beyond zero on that side.
    """
    total = int(found.counts.sum())
    if total == 0 or found.width <= 0:
        return found.low, found.high
    seen = np.cumsum(found.counts) / total
    beyond = (100 - share) / 200
    first = int(np.searchsorted(seen, beyond, side="right"))
    last = int(np.searchsorted(seen, 1 - beyond, side="left"))
    low = found.low + first * found.width
    high = min(found.low + (last + 1) * found.width, found.high)
    return (found.low if found.low >= 0 else min(low, 0.0)), (found.high if found.high <= 0 else max(high, 0.0))


def least_square_error(found: Counted, levels: int, *, symmetric: bool = False) -> tuple[float, float]:
    """The range over which `levels` evenly spaced values, zero among them, are nearest to the values in the
    mean of squares.

    The error of each end is summed over the histogram itself, rounding and saturation together; the
    ends are chosen in turn. With `symmetric`, both ends are equally far from zero.
    """
    if int(found.counts.sum()) == 0 or found.width <= 0:
        return found.low, found.high
    used = found.counts > 0
    values, weights = found.centres[used], found.counts[used].astype(np.float64)
    if symmetric:
        peak = max(abs(found.low), abs(found.high))
        best = _best(peak, lambda end: _error(values, weights, -end, end, levels))
        return max(found.low, -best), min(found.high, best)
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    for _ in range(_ROUNDS if low < 0 < high else 1):
        before = (low, high)
        if high > 0:
            high = _best(found.high, lambda end, low=low: _error(values, weights, low, end, levels))  # type: ignore[misc]
        if low < 0:
            low = _best(found.low, lambda end, high=high: _error(values, weights, end, high, levels))  # type: ignore[misc]
        if (low, high) == before:
            break
    return low, high


def entropy(found: Counted, levels: int) -> tuple[float, float]:
    """The range that keeps most of the information: the least Kullback-Leibler divergence.

    Of the distribution of magnitudes, cut at a threshold with what lies beyond counted into the last
    bin, from the same distribution rounded to `levels` levels (half of them where values have
    both signs). Source: Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """
    peak = max(abs(found.low), abs(found.high))
    if int(found.counts.sum()) == 0 or peak <= 0:
        return found.low, found.high
    bins = found.counts.size
    size = peak / bins
    places = np.minimum((np.abs(found.centres) / size).astype(np.int64), bins - 1)
    magnitudes = np.bincount(places, weights=found.counts, minlength=bins)
    magnitudes[0] = 0  # zero is a level of every grid
    groups = levels if found.low >= 0 or found.high <= 0 else levels // 2
    if bins <= groups or not magnitudes.any():
        return found.low, found.high
    ends = range(groups, bins + 1, max(1, (bins - groups) // 256))
    best = min(ends, key=lambda end: _divergence(magnitudes, end, groups))
    end = peak if bins - best < max(1, (bins - groups) // 256) else best * size
    return max(found.low, -end), min(found.high, end)


def _best(whole: float, error: Callable[[float], float]) -> float:
    """The end with the least error between zero and `whole`, which is tried first and wins where none is better."""
    step = 1 / _COARSE
    coarse = min((1 - one * step for one in range(_COARSE)), key=lambda share: error(whole * share))
    around = (coarse + step * (one / _FINE) for one in range(-_FINE + 1, _FINE))
    return whole * min((1.0, coarse, *(one for one in around if 0 < one < 1)), key=lambda share: error(whole * share))


def _error(values: Array, weights: Array, low: float, high: float, levels: int) -> float:
    step = (high - low) / (levels - 1)
    if step <= 0:
        return float(weights @ np.square(values))
    first = np.rint(low / step)
    codes = np.clip(np.rint(values / step), first, first + levels - 1)
    return float(weights @ np.square(values - codes * step))


def _divergence(magnitudes: Array, end: int, groups: int) -> float:
    kept = magnitudes[:end].astype(np.float64)
    reference = kept.copy()
    reference[-1] += magnitudes[end:].sum()
    edges = (np.arange(groups) * end) // groups
    sums = np.add.reduceat(kept, edges)
    filled = np.add.reduceat((kept > 0).astype(np.float64), edges)
    means = np.divide(sums, filled, out=np.zeros(groups), where=filled > 0)
    lengths = np.diff(np.append(edges, end))
    rounded = np.where(kept > 0, np.repeat(means, lengths), 0.0)
    total = rounded.sum()
    if total == 0:
        return float("inf")
    p, q = reference / reference.sum(), rounded / total
    both = p > 0
    if (q[both] == 0).any():
        q = (q + 1e-9) / (q + 1e-9).sum()
    return float(np.sum(p[both] * np.log(p[both] / q[both])))
