"""A histogram in one run is that of a second run on the same borders, in whatever order values come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.analysis.activations import Array
from graphopt.analysis.spread import Spread


def exact(values: Array, spread: Spread) -> Array:
    """The counts on the borders of a spread, one value at a time."""
    places = np.floor(values.astype(np.float64) / spread.width).astype(int) + spread.bins // 2
    return np.bincount(places, minlength=spread.bins)


PIECES = [
    np.random.default_rng(index).normal(0, scale, 500).astype(np.float32)
    for index, scale in enumerate((1e-6, 3.0, 1e4, 0.1, 1e4))
]


@pytest.mark.parametrize("bins", [4, 256, 8192])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 4, 0, 2, 3)])
def test_counts_are_exact_and_do_not_depend_on_order(bins: int, order: tuple[int, ...]) -> None:
    found = Spread(bins)
    for index in order:
        found.update(PIECES[index])
    everything = np.concatenate(PIECES)
    assert np.array_equal(found.counts, exact(everything, found))
    assert (found.low, found.high) == (everything.min(), everything.max())
    assert found.counts.sum() == everything.size


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1024.0, 1e30])
def test_at_least_a_quarter_of_the_bins_is_used(scale: float) -> None:
    found = Spread(1024)
    found.update(np.asarray([scale, scale / 3, 0], np.float32))
    assert 1024 / 4 <= scale / found.width <= 1024 / 2
    assert found.counts.sum() == 3


@pytest.mark.parametrize("power", range(-20, 20))
def test_borders_belong_to_the_bin_that_begins_there(power: int) -> None:
    value = np.asarray([2.0**power, -(2.0**power)], np.float32)
    found = Spread(64)
    found.update(value)
    assert np.array_equal(found.counts, exact(value, found))


def test_zero_alone_and_nothing_at_all() -> None:
    found = Spread()
    assert found.between()[:2] == (0.0, 0.0)
    found.update(np.empty(0, np.float32))
    assert found.low == np.inf
    found.update(np.zeros(7, np.float32))
    low, high, counts = found.between()
    assert low == 0 and counts.tolist() == [7] and high > 0
    found.update(np.ones(1, np.float32))
    assert found.counts.sum() == 8 and found.between()[0] == 0


def test_nan_and_infinities_do_not_count_and_are_told() -> None:
    found = Spread(64)
    found.update(np.asarray([1, np.nan, np.inf, -2], np.float32))
    assert found.counts.sum() == 2 and not found.finite
    found.update(np.asarray([np.nan], np.float32))
    assert found.counts.sum() == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.int64, np.uint8])
def test_other_numbers(dtype: Any) -> None:
    found = Spread(64)
    values = np.arange(100).astype(dtype)
    found.update(values.reshape(4, 25))
    assert np.array_equal(found.counts, exact(values, found))


def test_a_limit_counts_some_and_knows_the_ends_of_all() -> None:
    found = Spread(256, most=100)
    values = np.linspace(-1, 1, 100_001).astype(np.float32)
    found.update(values)
    assert 50 < found.counts.sum() <= 100
    assert (float(found.low), float(found.high)) == (-1.0, 1.0)


def test_what_was_saved_goes_on() -> None:
    one, other = Spread(256), Spread(256)
    one.update(PIECES[0])
    other.restore({name: array.copy() for name, array in one.state().items()})
    for found in (one, other):
        found.update(PIECES[1])
    assert np.array_equal(one.counts, other.counts) and one.width == other.width
    fresh = Spread(256)
    fresh.restore(Spread(256).state())
    fresh.update(PIECES[1])
    assert fresh.counts.sum() == 500
    with pytest.raises(ValueError, match="counts where 256 belong"):
        fresh.restore(Spread(512).state())


@pytest.mark.parametrize("bins", [0, 2, 100, -8])
def test_the_number_of_bins_is_a_power_of_two(bins: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Spread(bins)
