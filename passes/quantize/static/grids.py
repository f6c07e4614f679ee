"""The grid of an activation: from its range, so that zero has a code and a limit is kept to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from passes.quantize.grid import Grid

_LEAST = 2.0**-126  # a scale that no hardware takes for zero
_MOST = float(np.finfo(np.float32).max) / 2


def limits(code: np.dtype[Any]) -> tuple[int, int]:
    """The first and last code of an integer type."""
    info = np.iinfo(code)
    return int(info.min), int(info.max)


def levels(code: np.dtype[Any]) -> int:
    """How many codes an integer type has."""
    first, last = limits(code)
    return last - first + 1


def activation_grid(
    low: float, high: float, code: np.dtype[Any], *, symmetric: bool, bounds: tuple[float, float]
) -> Grid:
    """The grid for values from `low` to `high`, widened to hold zero.

    With `symmetric`, zero's code is in the middle and the range is as wide on both sides. Otherwise
    what the grid can hold lies within `bounds` wherever the range does, so that limiting values to them before
    they are quantized changes no code.
    """
    first, last = limits(code)
    low, high = min(low, 0.0), max(high, 0.0)
    low, high = max(low, -_MOST), min(high, _MOST)
    if symmetric:
        zero = (first + last + 1) // 2
        return _grid(max(-low, high) / (last - zero), zero, code)
    span = high - low
    if span == 0:
        return _grid(1.0, first if bounds[0] >= 0 else 0, code)
    zero = int(np.clip(np.rint(first - low / (span / (last - first))), first, last))
    scale = np.float32(max(span / (last - first), _LEAST))
    while low >= bounds[0] and high <= bounds[1] and not _within(scale, zero, first, last, bounds):
        tight = _tight(zero, first, last, bounds)
        smaller = np.nextafter(scale, np.float32(0)) if tight >= float(scale) else np.float32(tight)
        if smaller < _LEAST:
            break
        scale = smaller
    return _grid(float(scale), zero, code)


def holds(grid: Grid, bounds: tuple[float, float]) -> bool:
    """Whether nothing that the grid holds lies outside `bounds`: quantizing limits to them."""
    assert grid.zero is not None
    return _within(np.float32(grid.scale), int(grid.zero), grid.low, grid.high, bounds)


def _within(scale: np.float32, zero: int, first: int, last: int, bounds: tuple[float, float]) -> bool:
    bottom, top = np.float32(first - zero) * scale, np.float32(last - zero) * scale
    return bool(bottom >= np.float32(bounds[0]) and top <= np.float32(bounds[1]))


def _tight(zero: int, first: int, last: int, bounds: tuple[float, float]) -> float:
    above = bounds[1] / (last - zero) if last > zero else np.inf
    below = bounds[0] / (first - zero) if first < zero else np.inf
    return float(min(above, below))


def _grid(scale: float, zero: int, code: np.dtype[Any]) -> Grid:
    first, last = limits(code)
    step = np.asarray(max(scale, _LEAST) if scale > 0 else 1.0, np.float32)
    return Grid(step, np.asarray(zero, code), None, first, last, code)
