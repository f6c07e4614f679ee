"""Theorems about grids: half a step at most, zero stays zero, steps that no hardware loses."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from passes.quantize.grid import (
    Grid,
    asymmetric,
    codes,
    fixed_point,
    point_limits,
    saturates,
    spread,
    symmetric,
    why_no_grid,
)

Array = np.ndarray[Any, Any]

SINGLE, HALF, BRAIN = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
DTYPES = (SINGLE, HALF, BRAIN)
MAGNITUDES = {
    SINGLE: (2.0**-149, 1e-44, 3e-40, 2.0**-126, 1e-37, 1e-30, 1e-3, 0.37, 1.0, 255.0, 1e9, 1e30, 1.7e38),
    HALF: (2.0**-24, 1e-7, 3e-6, 2.0**-14, 1e-3, 0.37, 1.0, 127.0, 3e4, 32752.0),
    BRAIN: (2.0**-133, 1e-40, 2.0**-126, 1e-30, 1e-3, 0.37, 1.0, 255.0, 1e30, 1.69e38),
}
CASES = [(dtype, size) for dtype in DTYPES for size in MAGNITUDES[dtype]]
AXES = (None, 0, 1, 2)


def weight(dtype: np.dtype[Any], size: float, seed: int = 0) -> Array:
    """[5, 7, 6] values up to about `size`: a row of zeros, one all negative, one all positive, one of outliers."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1, 1, (5, 7, 6))
    values[1] = 0
    values[2] = -np.abs(values[2])
    values[3] = np.abs(values[3]) + 0.5
    values[:, 4] *= 1e-3
    return np.clip(values / np.abs(values).max() * size, -size, size).astype(dtype)


def lined_up(one: Array, axis: int | None) -> Array:
    shape = [1, 1, 1]
    if axis is not None:
        shape[axis] = -1
    return one.astype(np.float64).reshape(shape)


def meant(found: Array, grid: Grid) -> Array:
    """What codes stand for, over the reals (float64 holds these products exactly)."""
    zero = np.zeros(()) if grid.zero is None else grid.zero
    return (found.astype(np.float64) - lined_up(zero, grid.axis)) * lined_up(grid.scale, grid.axis)


def computed(found: Array, grid: Grid) -> Array:
    """What DequantizeLinear makes of them: one product in float32, rounded to the type of the scale."""
    zero = np.zeros(()) if grid.zero is None else grid.zero
    whole = (found.astype(np.float64) - lined_up(zero, grid.axis)).astype(np.float32)
    return np.asarray(whole * lined_up(grid.scale, grid.axis).astype(np.float32)).astype(grid.scale.dtype)


@pytest.mark.parametrize("make", [symmetric, asymmetric])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(("dtype", "size"), CASES)
def test_no_weight_is_further_than_half_a_step(make: Any, axis: int | None, dtype: np.dtype[Any], size: float) -> None:
    values = weight(dtype, size)
    found = spread(values, axis)
    assert why_no_grid(found, dtype) is None
    grid = make(found, axis, dtype)
    made = codes(values, grid)
    step = lined_up(grid.scale, axis)
    assert made.dtype == np.int8
    assert grid.scale.dtype == dtype
    assert grid.scale.shape == (() if axis is None else (values.shape[axis],))
    error = np.abs(values.astype(np.float64) - meant(made, grid))
    assert (error <= step / 2 * (1 + 1e-9)).all()
    final = computed(made, grid).astype(np.float64)
    assert np.isfinite(final).all()
    ulp = np.maximum(
        np.abs(final) * float(ml_dtypes.finfo(dtype).eps), float(ml_dtypes.finfo(dtype).smallest_subnormal)
    )
    assert (np.abs(values.astype(np.float64) - final) <= step / 2 * (1 + 1e-9) + ulp).all()


@pytest.mark.parametrize("make", [symmetric, asymmetric])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(("dtype", "size"), CASES)
def test_steps_are_positive_and_not_lost(make: Any, axis: int | None, dtype: np.dtype[Any], size: float) -> None:
    grid = make(spread(weight(dtype, size), axis), axis, dtype)
    least = 2.0**-17 if dtype == HALF else 2.0**-126
    assert (grid.scale.astype(np.float64) >= least).all()
    assert np.isfinite(grid.scale.astype(np.float64)).all()


@pytest.mark.parametrize("make", [symmetric, asymmetric])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_stays_zero(make: Any, axis: int | None, dtype: np.dtype[Any]) -> None:
    for seed in range(20):
        values = weight(dtype, 1.0, seed)
        values[:, ::2] = -0.0
        grid = make(spread(values, axis), axis, dtype)
        assert (meant(codes(values, grid), grid)[:, ::2] == 0).all()


def test_a_symmetric_grid_uses_127_codes_each_way_and_the_step_fits_the_peak() -> None:
    values = np.array([[-2.0, 0.9], [0.5, 0.2]], np.float32)
    grid = symmetric(spread(values, 0), 0, SINGLE)
    assert codes(values, grid).tolist() == [[-127, 57], [127, 51]]
    exact = np.array([2.0, 0.5]) / 127
    assert (grid.scale.astype(np.float64) >= exact).all()
    assert (grid.scale.astype(np.float64) <= exact * (1 + 2.0**-22)).all()
    assert grid.zero is None


def test_the_channel_of_zeros_has_scale_one() -> None:
    grid = symmetric(spread(np.array([[0.0, -0.0], [1, 2]], np.float32), 0), 0, SINGLE)
    assert grid.scale[0] == 1


def test_an_asymmetric_grid_covers_the_range_and_zero() -> None:
    grid = asymmetric(spread(np.array([1.0, 3.0], np.float32), None), None, SINGLE)
    assert codes(np.array([0.0, 3.0], np.float32), grid).tolist() == [-128, 127]
    grid = asymmetric(spread(np.array([-3.0, -1.0], np.float32), None), None, SINGLE)
    assert codes(np.array([-3.0, 0.0], np.float32), grid).tolist() == [-128, 127]
    assert grid.zero is not None and grid.zero.dtype == np.int8


@pytest.mark.parametrize("seed", range(30))
def test_an_asymmetric_grid_keeps_the_theorem_on_odd_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = -rng.exponential(), rng.exponential()
    values = np.concatenate([rng.uniform(low, high, 997), [low, high, 0]]).astype(np.float32)
    grid = asymmetric(spread(values, None), None, SINGLE)
    error = np.abs(values.astype(np.float64) - meant(codes(values, grid).reshape(-1, 1, 1), grid).reshape(-1))
    assert (error <= float(grid.scale) / 2 * (1 + 1e-9)).all()


def test_ties_go_to_the_even_code() -> None:
    grid = fixed_point(spread(np.array([3.5], np.float32), None), 8, SINGLE, p=0)
    assert codes(np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32), grid).tolist() == [0, 2, 2, 0, -2]


@pytest.mark.parametrize(
    ("values", "dtype", "why"),
    [
        ([1.0, np.nan], SINGLE, "it has a NaN"),
        ([1.0, np.inf], SINGLE, "it has an infinity"),
        ([-np.inf, 1.0], HALF, "it has an infinity"),
        ([3.0e38, 1.0], SINGLE, "it has a value of magnitude 3e+38, and a step beyond it could leave float32"),
        ([-4e4, 1.0], HALF, "it has a value of magnitude 4e+04, and a step beyond it could leave float16"),
        ([1.8e38, 1.0], BRAIN, "it has a value of magnitude 1.79e+38, and a step beyond it could leave bfloat16"),
    ],
)
def test_values_that_have_no_grid_are_named(values: list[float], dtype: np.dtype[Any], why: str) -> None:
    stored = np.array(values).astype(dtype)
    for axis in (None, 0):
        assert why_no_grid(spread(stored, axis), dtype) == why


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("dtype", "size"), CASES)
def test_fixed_point_steps_are_powers_of_two_and_as_fine_as_can_be(
    dtype: np.dtype[Any], size: float, bits: int
) -> None:
    values = weight(dtype, size)
    found = spread(values, None)
    grid = fixed_point(found, bits, dtype)
    step = float(grid.scale)
    mantissa, exponent = np.frexp(step)
    p = 1 - int(exponent)
    assert mantissa == 0.5
    assert grid.scale.dtype == dtype
    assert np.isfinite(step)
    assert float(ml_dtypes.finfo(dtype).tiny) <= step
    assert not saturates(found, p, grid.low, grid.high)
    assert p == point_limits(dtype)[1] or saturates(found, p + 1, grid.low, grid.high)
    made = codes(values, grid)
    assert made.dtype == np.dtype(f"int{bits}")
    assert (np.abs(values.astype(np.float64) - meant(made, grid)) <= step / 2).all()


def test_fixed_point_uses_the_lowest_code_where_it_fits() -> None:
    grid = fixed_point(spread(np.array([-1.0, 0.9], np.float32), None), 8, SINGLE)
    assert float(grid.scale) == 2.0**-7
    assert codes(np.array([-1.0, 0.9], np.float32), grid).tolist() == [-128, 115]
    grid = fixed_point(spread(np.array([-0.9, 1.0], np.float32), None), 8, SINGLE)
    assert float(grid.scale) == 2.0**-6


def test_a_negative_p_takes_large_values() -> None:
    values = np.array([5000.0, -77.0], np.float32)
    grid = fixed_point(spread(values, None), 8, SINGLE)
    assert float(grid.scale) == 64.0
    assert codes(values, grid).tolist() == [78, -1]


def test_zeros_have_p_zero() -> None:
    assert float(fixed_point(spread(np.zeros(4, np.float32), None), 8, SINGLE).scale) == 1


def test_codes_beyond_the_ends_saturate() -> None:
    grid = fixed_point(spread(np.array([9.0], np.float32), None), 8, SINGLE, p=5)
    assert codes(np.array([9.0, -9.0, 1.0], np.float32), grid).tolist() == [127, -128, 32]


@pytest.mark.parametrize(("dtype", "p"), [(SINGLE, 127), (SINGLE, -128), (HALF, 15), (HALF, -16), (BRAIN, 127)])
def test_a_p_without_a_normal_step_is_refused(dtype: np.dtype[Any], p: int) -> None:
    with pytest.raises(ValueError, match="not a normal number"):
        fixed_point(spread(np.ones(3, dtype), None), 8, dtype, p)


def test_large_tensors_are_worked_on_in_pieces() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((3, 700_001)).astype(np.float32)
    for axis in (None, 0, 1):
        found = spread(values, axis)
        others = None if axis is None else 1 - axis
        assert np.array_equal(found.low, values.min(others))
        assert np.array_equal(found.high, values.max(others))
        grid = symmetric(found, axis, SINGLE)
        exact = values.astype(np.float64) / lined_up(grid.scale, axis).reshape(
            () if axis is None else (-1, 1) if axis == 0 else (1, -1)
        )
        assert np.array_equal(codes(values, grid), np.rint(exact))


def test_a_scalar_has_a_grid() -> None:
    grid = symmetric(spread(np.array(2.0, np.float32), None), None, SINGLE)
    assert codes(np.array(2.0, np.float32), grid).shape == ()
    assert int(codes(np.array(2.0, np.float32), grid)) == 127
