"""Codebooks for one weight: which values it shares, and which of them each element takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphopt.ir.values import Array
from passes.quantize.clusters import Points, best, nearest

_SAMPLED = 1 << 18  # elements that centres are found on, evenly spaced among all
_PART = 1 << 18  # elements worked on together
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


def exactly(weight: Array, bits: int) -> Codebook | None:
    """The values of `weight` (finite, not empty) where they are no more than 2^bits."""
    flat = weight.astype(np.float32, copy=False).reshape(-1)
    few = _few(flat, 1 << bits)
    return None if few is None else Codebook(few, _found(flat, few)[0].reshape(weight.shape), None, True)


def shared(weight: Array, bits: int) -> Codebook:
    """At most 2^bits values for all elements of `weight` (finite, not empty).

    The squared error is never above that of the nearest of as many evenly spaced values. Where one
    element in 2^bits is zero, zero is a value.
    """
    flat = weight.astype(np.float32, copy=False).reshape(-1)
    count = 1 << bits
    points = Points.of(_sample(flat))
    grids = [_symmetric(float(np.abs(flat).max()), count), _asymmetric(float(flat.min()), float(flat.max()), count)]
    sparse = _is_sparse(flat, count)
    starts = grids if sparse else [*grids, points.spread_out(count)]
    centres = best(points, starts, [(start == 0) if sparse else None for start in starts])
    books = [np.unique(one.astype(np.float32)) for one in (centres, *grids)]
    tried = [(*_found(flat, book), book) for book in books]
    indices, _, book = min(tried, key=lambda one: one[1])
    return Codebook(book, indices.reshape(weight.shape), None)


def scaled(weight: Array, bits: int, axis: int) -> Codebook:
    """At most 2^bits values for all elements, times a scale for each index of `axis`.

    The squared error is never above that of evenly spaced values with a scale for each index. Where
    one element in 2^bits is zero, zero is a value.
    """
    count = 1 << bits
    lines = np.moveaxis(weight, axis, 0)
    shape, rows = lines.shape, lines.reshape(len(lines), -1).astype(np.float32, copy=False)
    peak = np.abs(rows).max(1, keepdims=True).astype(np.float64)
    scale = (np.where(peak > 0, peak, 1.0) / (count // 2 - 1 or 1)).astype(np.float32)
    values = _integers(count).astype(np.float32)
    indices, error = _looked_up(rows, values, scale)
    found, least = (values, indices, scale), error
    for _ in range(_REFITS):
        values = _refined(rows, values, scale, _is_sparse(rows, count))
        scale = _fitted(rows, values, scale)
        indices, error = _looked_up(rows, values, scale)
        if error < least:
            found, least = (values, indices, scale), error
    values, indices, scale = found
    beside = [-1 if i == axis else 1 for i in range(weight.ndim)]
    back = np.ascontiguousarray(np.moveaxis(indices.reshape(shape), 0, axis))
    return Codebook(values, back, scale.reshape(beside))


def _refined(rows: Array, values: Array, scale: Array, sparse: bool) -> Array:
    """The values that fit the elements in units of their scales best, of those tried; an error weighs as
    much as it is large in the weight. Zero stays where the weight is sparse."""
    scales = _sample(np.broadcast_to(scale, rows.shape)).astype(np.float64)
    points = Points.of(_sample(rows) / scales, scales * scales)
    if sparse:
        return points.lloyd(values, values == 0).astype(np.float32)
    return best(points, [values, points.spread_out(len(values))], [None, None]).astype(np.float32)


def _fitted(rows: Array, values: Array, scale: Array) -> Array:
    """The scales with the least squared error for what is looked up now, those of before where there is none."""
    fitted = scale.copy()
    for part in _parts(rows):
        exact = rows[part].astype(np.float64)
        made = values[nearest(exact / scale[part], values)].astype(np.float64)
        above, below = (exact * made).sum(1, keepdims=True), (made * made).sum(1, keepdims=True)
        fits = (below > 0) & (above > 0)
        fitted[part] = np.divide(above, below, out=scale[part].astype(np.float64), where=fits)
    return fitted


def _looked_up(rows: Array, values: Array, scale: Array) -> tuple[Array, float]:
    """The index of the value that is nearest to each element in units of its scale, and the squared error."""
    indices, error = np.empty(rows.shape, np.uint8), 0.0
    for part in _parts(rows):
        exact = rows[part].astype(np.float64)
        indices[part] = nearest(exact / scale[part], values)
        exact -= values[indices[part]] * scale[part]
        error += float(np.vdot(exact, exact))
    return indices, error


def _found(flat: Array, book: Array) -> tuple[Array, float]:
    """The index of the value that is nearest to each element, and the squared error."""
    indices, error = _looked_up(flat.reshape(-1, 1), book, np.ones((flat.size, 1), np.float32))
    return indices.reshape(-1), error


def _parts(rows: Array) -> Iterator[slice]:
    """Rows that are worked on together."""
    height = max(1, _PART // max(rows.shape[1], 1))
    for start in range(0, len(rows), height):
        yield slice(start, start + height)


def _is_sparse(array: Array, count: int) -> bool:
    """Whether as many elements are zero as one of `count` values takes on average."""
    return int((array == 0).sum()) * count >= array.size


def _sample(array: Array) -> Array:
    """At most `_SAMPLED` elements, evenly spaced."""
    found: Array = np.asarray(array.flat[:: -(-array.size // _SAMPLED)])
    return found


def _few(flat: Array, count: int) -> Array | None:
    """The values of an array where they are no more than `count`, ascending; -0.0 is another than 0.0."""
    if np.unique(flat[: 4 * count]).size > count or bool(np.signbit(flat[flat == 0]).any()):
        return None
    values: Array = np.unique(flat)
    return values if values.size <= count else None


def _integers(count: int) -> Array:
    return np.arange(-(count // 2), count // 2, dtype=np.float64)


def _symmetric(peak: float, count: int) -> Array:
    return _integers(count) * (peak / (count // 2 - 1 or 1))


def _asymmetric(low: float, high: float, count: int) -> Array:
    """As many evenly spaced values as there may be over a range and zero, one of which is zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / (count - 1) or 1.0
    return np.asarray((np.arange(count) + np.rint(low / step)) * step)
