"""Grids of activations: zero has a code, rounding is half a step, limits hold to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from passes.quantize.grid import Grid
from passes.quantize.static.grids import activation_grid, holds, levels

CODES = [np.dtype(one) for one in ("uint8", "int8", "uint16", "int16")]
FREE = (-math.inf, math.inf)


def values_of(grid: Grid, codes: Any) -> Any:
    assert grid.zero is not None
    return (codes.astype(np.int64) - int(grid.zero)) * float(grid.scale)


def quantized(values: Any, grid: Grid) -> Any:
    """As QuantizeLinear does it, in float32."""
    assert grid.zero is not None
    rounded = np.rint(np.asarray(values, np.float32) / np.float32(grid.scale)) + int(grid.zero)
    return np.clip(rounded, grid.low, grid.high)


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("low", [-1e6, -3.7, -1.0, -1e-3, 0.0, 1e-9, 0.2, 17.0, 1e6])
@pytest.mark.parametrize("span", [1e-6, 0.01, 1.0, 6.0, 123.4, 1e6])
def test_each_value_of_the_range_is_within_a_step(code: Any, symmetric: bool, low: float, span: float) -> None:
    """Half a step inside; zero takes a whole code, which moves the ends by half a step more at most."""
    grid = activation_grid(low, low + span, code, symmetric=symmetric, bounds=FREE)
    points = np.linspace(low, low + span, 101)
    off = np.abs(values_of(grid, quantized(points, grid)) - points)
    assert (off <= float(grid.scale) * (1.01 + levels(code) * 2.0**-22)).all()
    inside = (points > low + float(grid.scale)) & (points < low + span - float(grid.scale))
    assert (off[inside] <= float(grid.scale) * (0.5 + levels(code) * 2.0**-22)).all()


@pytest.mark.parametrize("code", CODES, ids=str)
def test_zero_has_a_code(code: Any) -> None:
    for low, high in ((0, 6), (-3, 5), (2, 5), (-7, -1), (0, 0), (-1e-30, 1e-30)):
        grid = activation_grid(low, high, code, symmetric=False, bounds=FREE)
        assert grid.zero is not None
        assert grid.low <= int(grid.zero) <= grid.high
        assert float(grid.scale) > 0
        assert values_of(grid, quantized(np.zeros(1), grid)) == 0


def test_symmetric_grids_have_zero_in_the_middle() -> None:
    for code, middle in zip(CODES, (128, 0, 32768, 0), strict=True):
        grid = activation_grid(-1, 3, code, symmetric=True, bounds=FREE)
        assert int(grid.zero) == middle  # type: ignore[arg-type]
    assert float(activation_grid(-1, 3, CODES[1], symmetric=True, bounds=FREE).scale) == pytest.approx(3 / 127)


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("bounds", [(0.0, 6.0), (0.0, math.inf), (-1.0, 1.0), (-0.3, 2.7), (0.0, 0.1)])
def test_a_grid_keeps_the_limits_of_its_values(code: Any, bounds: tuple[float, float]) -> None:
    """Limiting values first gives the same codes, so a Relu or Clip may go."""
    low, high = max(bounds[0], -5), min(bounds[1], 5)
    grid = activation_grid(low, high, code, symmetric=False, bounds=bounds)
    assert holds(grid, bounds)
    values = np.random.default_rng(0).uniform(-10, 10, 10000).astype(np.float32)
    limited = np.clip(values, np.float32(bounds[0]), np.float32(bounds[1]))
    assert np.array_equal(quantized(values, grid), quantized(limited, grid))
    assert float(grid.scale) >= (high - low) / (levels(code) - 1) * 0.98


def test_a_grid_that_goes_beyond_a_limit_does_not_hold_it() -> None:
    assert not holds(activation_grid(-1, 3, CODES[1], symmetric=True, bounds=(0, math.inf)), (0, math.inf))
    assert not holds(activation_grid(0, 6, CODES[0], symmetric=False, bounds=FREE), (0, 5.9))


def test_huge_ranges_have_finite_steps() -> None:
    grid = activation_grid(-3e38, 3e38, CODES[0], symmetric=False, bounds=FREE)
    assert np.isfinite(grid.scale)
