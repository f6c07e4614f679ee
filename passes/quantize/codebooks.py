"""Codebooks for one weight: which values it shares, and which of them each element takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.ir.values import Array
from passes.quantize.clusters import Points, best, nearest

_SAMPLED = 1 << 20  # elements that centres are found on, evenly spaced among all
_REFITS = 2  # how often scales are fitted to the codebook and the codebook to the scales


@dataclass(frozen=True)
class Codebook:
    """`values[indices] * scale`, ascending values of dtype float32; `scale` broadcasts, None for 1.

    `exact` tells that no element was changed.
    """

    values: Array
    indices: Array
    scale: Array | None
    exact: bool = False

    def made(self) -> Array:
        """What the weight becomes, computed in float32."""
        found: Array = self.values[self.indices]
        return found if self.scale is None else found * self.scale


def shared(weight: Array, bits: int) -> Codebook:
    """At most 2^bits values for all elements of `weight` (finite, not empty).

    As it is where it has no more values than that. Else the squared error is never above that of
    the nearest of as many evenly spaced values. Where one element in 2^bits is zero, zero is a value.
    """
    flat = weight.astype(np.float32, copy=False).reshape(-1)
    count = 1 << bits
    few = _few(flat, count)
    if few is not None:
        return Codebook(few, nearest(flat.astype(np.float64), few.astype(np.float64)).reshape(weight.shape), None, True)
    sample = flat[:: -(-flat.size // _SAMPLED)]
    points = Points.of(sample)
    grids = [_symmetric(float(np.abs(flat).max()), count), _asymmetric(float(flat.min()), float(flat.max()), count)]
    starts = [*grids, points.spread_out(count)]
    sparse = int((flat == 0).sum()) * count >= flat.size
    pins = [(start == 0) if sparse else None for start in starts[:2]]
    if sparse:
        starts.pop()
    centres = best(points, starts, [*pins, *[None] * (len(starts) - len(pins))])
    books = [np.unique(one.astype(np.float32)) for one in (centres, *grids)]
    made = [Codebook(book, _nearest(flat, book).reshape(weight.shape), None) for book in books]
    return min(made, key=lambda one: _error(weight, one))


def scaled(weight: Array, bits: int, axis: int) -> Codebook:
    """At most 2^bits values for all elements, times a scale for each index of `axis`.

    The squared error is never above that of evenly spaced values with a scale for each index.
    """
    count = 1 << bits
    others = tuple(i for i in range(weight.ndim) if i != axis)
    exact = weight.astype(np.float64)
    peak = np.abs(exact).max(others, keepdims=True)
    scale = np.where(peak > 0, peak, 1.0) / (count // 2 - 1 or 1)
    grid = _integers(count)
    start = Codebook(grid.astype(np.float32), _nearest(exact / scale, grid), scale.astype(np.float32))
    found, centres = start, [grid]
    for _ in range(_REFITS):
        ratios = (exact / scale).reshape(-1)
        weights = np.broadcast_to(scale * scale, exact.shape).reshape(-1)
        step = -(-ratios.size // _SAMPLED)
        points = Points.of(ratios[::step], weights[::step])
        starts = [*centres, points.spread_out(count)]
        values = best(points, starts, [None] * len(starts))
        centres = [values]
        indices = _nearest(exact / scale, values)
        made = values[indices]
        scale = _fitted(exact, made, scale, others)
        indices = _nearest(exact / scale, values.astype(np.float32))
        tried = Codebook(values.astype(np.float32), indices, scale.astype(np.float32))
        found = min(found, tried, key=lambda one: _error(weight, one))
    return found


def _fitted(exact: Array, made: Array, scale: Array, others: tuple[int, ...]) -> Array:
    """The scales with the least squared error for given values, those of before where there is none."""
    above, below = (exact * made).sum(others, keepdims=True), (made * made).sum(others, keepdims=True)
    found: Array = np.divide(above, below, out=scale.copy(), where=(below > 0) & (above > 0))
    return found


def _few(flat: Array, count: int) -> Array | None:
    """The values of an array where they are no more than `count`, ascending; -0.0 is another than 0.0."""
    if np.unique(flat[: 4 * count]).size > count or bool(np.signbit(flat[flat == 0]).any()):
        return None
    values: Array = np.unique(flat)
    return values if values.size <= count else None


def _nearest(numbers: Array, values: Array) -> Array:
    return nearest(numbers, values.astype(np.float64))


def _error(weight: Array, book: Codebook) -> float:
    difference = weight.astype(np.float64) - book.made()
    return float(np.vdot(difference, difference))


def _integers(count: int) -> Array:
    return np.arange(-(count // 2), count // 2, dtype=np.float64)


def _symmetric(peak: float, count: int) -> Array:
    return _integers(count) * (peak / (count // 2 - 1 or 1))


def _asymmetric(low: float, high: float, count: int) -> Array:
    """As many evenly spaced values as there may be over a range and zero, one of which is zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    step: Any = (high - low) / (count - 1)
    return np.asarray((np.arange(count) + np.rint(low / step)) * step)
