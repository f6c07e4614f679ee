"""Medians, ratios and their intervals; and a real race."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from graphopt.measure.latency import Latency, compare_latency, median_interval, summarize, timed
from graphopt.runtime.client import Options, Race, Worker


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(seconds=60) as shared:
        yield shared


def chain(count: int) -> bytes:
    steps = "".join(f"v{i + 1} = Erf (v{i})\n" for i in range(count - 1))
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> g (float[N] v0) => (float[N] y) {{ {steps} y = Erf (v{count - 1}) }}'
    )
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def test_ranks_are_those_of_the_binomial_distribution() -> None:
    # H. A. David and H. N. Nagaraja: n = 10 gives (2nd, 9th), n = 20 (6th, 15th), n = 100 (40th, 61st).
    assert median_interval(range(1, 11)) == (2, 9)
    assert median_interval(range(1, 21)) == (6, 15)
    assert median_interval(range(1, 101)) == (40, 61)
    assert median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]) == (1.0, 6.0)
    assert median_interval(range(5)) is None
    assert median_interval([]) is None
    low, high = median_interval(range(5001)) or (0, 0)
    assert low + high == 5000
    assert 2400 < low < 2440


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    generator = random.Random(7)
    trials = 2000
    held = 0
    for _ in range(trials):
        low, high = median_interval([generator.expovariate(1.0) for _ in range(15)]) or (0, 0)
        held += low <= 0.6931 <= high  # the median of the exponential distribution is ln 2
    assert held / trials >= 0.95


def test_summary_of_a_quiet_race() -> None:
    a = tuple(1.0 + 0.001 * (i % 3) for i in range(30))
    result = summarize(Race(a, tuple(0.5 * each for each in a), repeat=1))
    assert result == Latency(a=1.001, b=0.5005, ratio=0.5, low=0.5, high=0.5, pairs=30, noisy=False)
    assert result.faster is True


def test_ratios_are_of_pairs_so_drift_cancels() -> None:
    a = tuple(float(i) for i in range(1, 40))
    result = summarize(Race(a, tuple(1.2 * each for each in a), repeat=1))
    assert result.ratio == pytest.approx(1.2)
    assert not result.noisy
    assert result.faster is False


def test_a_difference_that_memory_placement_makes_is_none() -> None:
    for ratio, faster in ((0.98, None), (1.02, None), (0.96, True), (1.04, False)):
        assert summarize(Race((1.0,) * 20, (ratio,) * 20, repeat=1)).faster is faster


def test_wide_intervals_and_few_pairs_are_noisy() -> None:
    wild = summarize(Race((1.0,) * 20, tuple(0.5 + 0.05 * i for i in range(20)), repeat=1))
    assert wild.noisy
    assert wild.faster is None
    few = summarize(Race((1.0,) * 5, (0.5,) * 5, repeat=1))
    assert few.noisy
    assert (few.low, few.high, few.pairs) == (0.5, 0.5, 5)
    with pytest.raises(ValueError, match="without pairs"):
        summarize(Race((), (), repeat=1))


def test_a_model_against_one_four_times_as_long(worker: Worker) -> None:
    a, b = (worker.load(chain(count), timed(Options())) for count in (2, 8))
    result = compare_latency(worker, a, b, {"v0": np.ones(200_000, np.float32)}, rounds=15)
    assert a.options.arena
    assert result.pairs == 15
    assert 1.5 < result.ratio < 20.0
    assert result.low <= result.ratio <= result.high
    assert result.faster is False
    assert result.b > result.a > 1e-5
