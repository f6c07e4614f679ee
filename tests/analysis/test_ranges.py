"""Ranges from histograms: what each estimate promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.analysis.activations import Histogram
from graphopt.analysis.ranges import Counted, entropy, least_square_error, percentile


def counted(values: Any, bins: int = 2048) -> Counted:
    histogram = Histogram(float(values.min()), float(values.max()), bins)
    histogram.update(np.asarray(values, np.float32))
    return Counted(histogram.low, histogram.high, histogram.counts)


def error(values: Any, low: float, high: float, levels: int = 256) -> float:
    """The mean square error of values rounded to the levels between `low` and `high`, one of them zero."""
    step = (high - low) / (levels - 1)
    first = np.rint(low / step)
    return float(np.mean(np.square(values - np.clip(np.rint(values / step), first, first + levels - 1) * step)))


def draw(kind: str, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    return {
        "normal": random.standard_normal(20000),
        "laplace": random.laplace(size=20000),
        "relu": np.maximum(random.standard_normal(20000), 0),
        "outlier": np.append(random.standard_normal(20000), [60.0]),
        "negative": -np.abs(random.standard_normal(20000)),
        "uniform": random.uniform(-1, 3, 20000),
    }[kind]


KINDS = ["normal", "laplace", "relu", "outlier", "negative", "uniform"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_least_square_error_is_not_above_that_of_the_whole_range(kind: str, symmetric: bool) -> None:
    values = draw(kind)
    low, high = least_square_error(counted(values), 256, symmetric=symmetric)
    assert values.min() <= low <= 0 <= high <= values.max() or kind in ("relu", "negative")
    if symmetric:
        peak, whole = max(-low, high), float(np.abs(values).max())
        assert error(values, -peak, peak) <= error(values, -whole, whole) * 1.001
    else:
        whole_error = error(values, min(values.min(), 0.0), max(values.max(), 0.0))
        assert error(values, min(low, 0.0), max(high, 0.0)) <= whole_error * 1.001


@pytest.mark.parametrize("kind", ["normal", "laplace", "outlier"])
def test_no_other_range_of_a_grid_of_them_is_much_better(kind: str) -> None:
    """The ends are chosen in turn, so the minimum is a local one; it is near the best of a full search."""
    values = draw(kind)
    found = counted(values)
    low, high = least_square_error(found, 256)
    shares = np.linspace(0.1, 1, 31)
    best = min(error(values, found.low * a, found.high * b) for a in shares for b in shares)
    assert error(values, low, high) <= 1.1 * best


def test_a_lonely_outlier_is_cut_off() -> None:
    values = draw("outlier")
    assert least_square_error(counted(values), 256)[1] > 30  # one value of 20,000 still counts, squared
    many = np.append(np.random.default_rng(0).standard_normal(2_000_000), [60.0])
    assert least_square_error(counted(many), 256)[1] < 40


def test_uniform_values_keep_their_range() -> None:
    values = draw("uniform")
    low, high = least_square_error(counted(values), 256)
    assert low < -0.95 and high > 2.9


@pytest.mark.parametrize("share", [90.0, 99.0, 99.9])
@pytest.mark.parametrize("kind", KINDS)
def test_percentile_holds_its_share_and_hardly_more(share: float, kind: str) -> None:
    values = draw(kind)
    found = counted(values, 8192)
    low, high = percentile(found, share)
    inside = 100 * float(np.mean((values >= low) & (values <= high)))
    assert inside >= share - 0.02
    if kind in ("normal", "laplace"):
        assert inside <= share + 0.3


def test_all_percent_is_everything() -> None:
    values = draw("normal")
    found = counted(values)
    assert percentile(found, 100) == pytest.approx((found.low, found.high))


def test_values_on_one_side_keep_zero_as_their_end() -> None:
    assert percentile(counted(draw("relu")), 99)[0] == 0
    assert percentile(counted(draw("negative")), 99)[1] == pytest.approx(draw("negative").max())
    assert least_square_error(counted(draw("relu")), 256)[0] == 0


def test_entropy_cuts_an_outlier_and_keeps_what_is_uniform() -> None:
    low, high = entropy(counted(draw("outlier")), 256)
    assert 2 < high < 20 and low == pytest.approx(draw("outlier").min())
    low, high = entropy(counted(draw("uniform")), 256)
    assert high > 2.8


def test_entropy_lies_within_what_was_seen() -> None:
    for kind in KINDS:
        values = draw(kind)
        low, high = entropy(counted(values), 256)
        assert values.min() - 1e-6 <= low <= high <= values.max() + 1e-6


@pytest.mark.parametrize(
    "estimate", [lambda c: percentile(c, 99), lambda c: entropy(c, 256), lambda c: least_square_error(c, 256)]
)
def test_histograms_of_nothing_and_of_one_value_give_their_range(estimate: Any) -> None:
    nothing = Counted(-1.0, 2.0, np.zeros(16, np.int64))
    assert estimate(nothing) == (-1.0, 2.0)
    one = Counted(3.0, 3.0, np.array([5]))
    assert estimate(one) == (3.0, 3.0)
