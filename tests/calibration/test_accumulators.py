"""What accumulators sum up is what numpy computes of everything at once, however the samples are cut."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphopt.analysis.activations import Array, Extremes, Gram, Histogram, Lasting, Moments

SHAPES = [(6,), (5, 7), (4, 3, 5), (2, 3, 4, 5), (1, 300, 2), (9, 2, 1000)]


def of(shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    return np.random.default_rng(len(shape)).normal(1.0, 3.0, shape).astype(dtype)


def axes(rank: int) -> list[int | None]:
    return [None, *range(rank), -1]


CASES = [(shape, axis) for shape in SHAPES for axis in axes(len(shape))]


def flat(value: Array, axis: int | None) -> Array:
    """(vectors, entries) of the axis in float64; one row of everything where there is none."""
    wide = value.astype(np.float64)
    return wide.reshape(1, -1).T if axis is None else np.moveaxis(wide, axis, -1).reshape(-1, value.shape[axis])


@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_extremes_are_exact(shape: tuple[int, ...], axis: int | None) -> None:
    value, found = of(shape), Extremes(axis)
    found.update(value)
    rows = flat(value, axis)
    assert np.array_equal(found.low, rows.min(0).reshape(found.low.shape))
    assert np.array_equal(found.high, rows.max(0).reshape(found.high.shape))
    assert found.low.shape == (() if axis is None else (value.shape[axis],))
    assert found.finite


def test_extremes_pass_over_nan_and_say_so() -> None:
    found = Extremes(0)
    found.update(np.array([[1, np.nan, 3], [np.nan] * 3, [-np.inf, 0, 1]], np.float32))
    assert found.low.tolist()[::2] == [1.0, -np.inf] and np.isnan(found.low[1]) | np.isinf(found.low[1])
    assert found.high.tolist()[::2] == [3.0, 1.0]
    assert not found.finite


def test_nothing_seen_is_the_wrong_way_round() -> None:
    found = Extremes()
    found.update(np.empty((0, 3), np.float32))
    assert found.low == np.inf and found.high == -np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8, np.uint8, ml_dtypes.bfloat16, bool])
def test_every_type_of_number_is_summed_up(dtype: Any) -> None:
    value = np.arange(24).reshape(4, 6).astype(dtype)
    extremes, histogram, moments, gram = Extremes(), Histogram(-1, 30, 31), Moments(), Gram()
    for one in (extremes, histogram, moments, gram):
        one.update(value)
    wide = value.astype(np.float64)
    assert (extremes.low, extremes.high) == (wide.min(), wide.max())
    assert histogram.counts.sum() == 24
    assert np.isclose(moments.mean, wide.mean()) and np.isclose(moments.mean_square, np.square(wide).mean())
    assert np.allclose(gram.matrix, wide.T @ wide, rtol=1e-5)


@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_moments_are_those_of_all(shape: tuple[int, ...], axis: int | None) -> None:
    value, found = of(shape), Moments(axis)
    found.update(value)
    rows = flat(value, axis)
    assert np.allclose(found.mean.reshape(-1), rows.mean(0), rtol=1e-5, atol=1e-6)
    assert np.allclose(found.mean_square.reshape(-1), np.square(rows).mean(0), rtol=1e-5)
    assert found.count == len(rows)


def test_moments_of_many_small_steps_keep_their_digits() -> None:
    found = Moments()
    for _ in range(64):
        found.update(np.full(1 << 14, 1000.1, np.float32))
    assert abs(float(found.mean) - float(np.float32(1000.1))) < 1e-3


@pytest.mark.parametrize(("shape", "axis"), [case for case in CASES if case[1] is not None])
def test_gram_matrices_are_sums_of_outer_products(shape: tuple[int, ...], axis: int) -> None:
    value, found = of(shape), Gram(axis)
    found.update(value)
    rows = flat(value, axis)
    assert found.count == len(rows)
    assert np.allclose(found.matrix, rows.T @ rows, rtol=1e-4, atol=1e-4 * float(np.abs(rows).max()) ** 2)
    assert np.array_equal(found.matrix, found.matrix.T)


@pytest.mark.parametrize("bins", [1, 16, 2048, 70000])
def test_histograms_count_everything_once(bins: int) -> None:
    value = of((40, 50, 51))
    found = Histogram(-8.0, 8.0, bins)
    found.update(value)
    expected = np.histogram(np.clip(value, -8, 8), bins, (-8, 8))[0]
    assert found.counts.sum() == value.size
    moved = np.abs(np.cumsum(found.counts) - np.cumsum(expected)).max()
    assert moved <= max(4, value.size * 1e-4)


def test_histograms_pass_over_nan_and_infinities() -> None:
    found = Histogram(0, 4, 4)
    found.update(np.array([0.5, np.nan, np.inf, -np.inf, 3.5, 9, -9], np.float32))
    assert found.counts.tolist() == [2, 0, 0, 2]


def test_a_range_of_one_point_is_no_error() -> None:
    found = Histogram(2.0, 2.0, 8)
    found.update(np.full(5, 2.0, np.float32))
    assert found.counts.sum() == 5


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_a_limit_takes_evenly_spread_samples(most: int) -> None:
    value = of((3, 50, 4))
    histogram, gram = Histogram(-9, 9, 64, most=most), Gram(1, most=min(most, 12))
    histogram.update(value)
    gram.update(value)
    assert 0 < histogram.counts.sum() <= most
    assert 0 < gram.count <= most
    again = Histogram(-9, 9, 64, most=most)
    again.update(value)
    assert np.array_equal(histogram.counts, again.counts)


def every() -> list[Any]:
    return [Extremes(), Extremes(1), Histogram(-3, 5, 100), Moments(), Moments(-1), Gram(1), Gram()]


@pytest.mark.parametrize("index", range(len(every())))
def test_sums_do_not_depend_on_how_samples_are_cut(index: int) -> None:
    value = of((12, 5, 6))
    whole, cut = every()[index], every()[index]
    whole.update(value)
    for start in range(0, 12, 5):
        cut.update(value[start : start + 5])
    for name, array in whole.state().items():
        assert np.allclose(cut.state()[name], array, rtol=1e-6)


@pytest.mark.parametrize("index", range(len(every())))
def test_a_state_is_all_there_is(index: int) -> None:
    """What is restored goes on as what was saved."""
    one, other = every()[index], every()[index]
    one.update(of((4, 5, 6)))
    other.restore({name: array.copy() for name, array in one.state().items()})
    for each in (one, other):
        each.update(of((2, 5, 6)))
    assert isinstance(one, Lasting)
    for name, array in one.state().items():
        assert np.array_equal(other.state()[name], array)


def test_keys_tell_accumulators_apart() -> None:
    keys = [one.key for one in (*every(), Histogram(-3, 5, 99), Histogram(-3, 5, 100, most=9), Gram(1, most=9))]
    assert len(set(keys)) == len(keys)
