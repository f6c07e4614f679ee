"""Finds the grid that floating-point numbers lie on exactly, if they do.

Numbers that were quantized and dequantized are float32 products of an integer and a step. Their
greatest common divisor, found with a tolerance for the rounding of each product, tells the integers;
each product then bounds the step, and a float32 within all bounds is tried on every number.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir.values import Array
from passes.quantize.grid import Grid

_CODE = np.dtype(np.int8)
_LOW, _HIGH, _COUNT = -128, 127, 256
_LEAST = 2.0**-126  # below it, hardware may take numbers for zero
_STEPS = 16  # float32 numbers that are tried as the step


def grid_of(values: Array, axis: int | None) -> tuple[Grid, Array] | None:
    """A grid of 8 bits and the codes such that float32(code - zero) * scale is `values` (float32) bit for
    bit; one scale in all where that is enough, else one for each index of `axis`. None where there is none."""
    lines = [values.reshape(1, -1)]
    if axis is not None and values.shape[axis] > 1:
        lines.append(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1))
    for rows in lines:
        found = _grids(rows)
        if found is None:
            continue
        scale, zero, codes = found
        if len(rows) == 1:
            return Grid(scale.reshape(()), _zero(zero[0]), None, _LOW, _HIGH, _CODE), codes.reshape(values.shape)
        assert axis is not None, "only an axis gives several lines"
        moved = np.moveaxis(values, axis, 0).shape
        back = np.ascontiguousarray(np.moveaxis(codes.reshape(moved), 0, axis))
        return Grid(scale, _zero(zero), axis, _LOW, _HIGH, _CODE), back
    return None


def _zero(zero: Array) -> Array | None:
    return zero.astype(_CODE) if zero.any() else None


def _grids(rows: Array) -> tuple[Array, Array, Array] | None:
    """Scales, zeros and codes of rows; None where one row has none."""
    scale, zero = np.ones(len(rows), np.float32), np.zeros(len(rows), np.int64)
    codes = np.empty(rows.shape, _CODE)
    for index, row in enumerate(rows):
        found = _grid(row)
        if found is None:
            return None
        scale[index], zero[index], levels, indices = found
        codes[index] = (levels + zero[index])[indices]
    return scale, zero, codes


def _grid(row: Array) -> tuple[np.float32, int, Array, Array] | None:
    """The step of some numbers, the code of zero, the integer of each number that occurs, and which of
    those each element is."""
    if np.unique(row[: 2 * _COUNT]).size > _COUNT:
        return None
    numbers, indices = np.unique(row, return_inverse=True)
    if numbers.size > _COUNT or not np.isfinite(numbers).all() or np.signbit(row[row == 0]).any():
        return None
    exact = numbers.astype(np.float64)
    sizes = np.unique(np.abs(exact[exact != 0]))
    if sizes.size == 0:
        return np.float32(1), 0, np.zeros(1, np.int64), indices.reshape(-1)
    if sizes[0] < _LEAST:
        return None
    levels = np.rint(exact / _divisor(sizes)).astype(np.int64)
    low, high = min(int(levels[0]), 0), max(int(levels[-1]), 0)
    step = _step(numbers, levels) if high - low < _COUNT else None
    if step is None:
        return None
    return step, 0 if low >= _LOW and high <= _HIGH else _LOW - low, levels, indices.reshape(-1)


def _divisor(sizes: Array) -> float:
    """What all of these numbers (ascending, positive) are nearly whole multiples of: Euclid's algorithm,
    in which what is below an eighth of the smallest possible step is a rounding error."""
    least = float(sizes[-1]) / (8 * _COUNT)
    divisor = float(sizes[0])
    for seen in range(2, len(sizes) + 1):
        one, other = float(sizes[seen - 1]), divisor
        while other > least:
            one, other = other, abs(one - round(one / other) * other)
        whole = np.rint(sizes[:seen] / one)
        divisor = float((sizes[:seen] * whole).sum() / (whole * whole).sum())  # without what Euclid adds up
    return divisor


def _step(numbers: Array, levels: Array) -> np.float32 | None:
    """A float32 whose product with each level rounds to each number; None where there is none."""
    used = levels != 0
    if not (np.sign(numbers[used]) == np.sign(levels[used])).all() or numbers[~used].any():
        return None
    sizes, whole = np.abs(numbers[used]), np.abs(levels[used]).astype(np.float64)
    below = (sizes.astype(np.float64) + np.nextafter(sizes, np.float32(0))) / 2 / whole
    above = (sizes.astype(np.float64) + np.nextafter(sizes, np.float32(np.inf))) / 2 / whole
    first, last = float(below.max()), float(above.min())
    step = np.float32(first)
    for _ in range(_STEPS):
        if float(step) > last:
            return None
        if step >= _LEAST and np.array_equal(levels.astype(np.float32) * step, numbers):
            return step
        step = np.nextafter(step, np.float32(np.inf))
    return None
