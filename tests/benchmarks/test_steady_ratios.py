"""Ratios that a second run gives again, with a machine whose noise is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from benchmarks.record import Record
from benchmarks.steady import LEAST, LIMIT, MOST, NOISE, Steady, agreements, repeated, steady
from graphopt.runtime.client import Race

TRUTH = 0.7


def machine(seed: int, placement: float, pairs: float, drift: float = 0.0) -> Callable[[int], Race]:
    """Races of a model that takes 0.7 of another: `placement` is what a process shifts the ratio by (a standard
    deviation, relative), `pairs` the noise of each pair, `drift` how much slower the clock of the machine gets."""
    draw = random.Random(seed)

    def race(turn: int) -> Race:
        shift = math.exp(draw.gauss(0, placement))
        clock = [1e-3 * (1 + drift * (20 * turn + at)) * math.exp(draw.gauss(0, 0.2)) for at in range(20)]
        return Race(tuple(clock), tuple(TRUTH * shift * one * math.exp(draw.gauss(0, pairs)) for one in clock), 1)

    return race


def record(ratio: Steady) -> Record:
    return Record("quantization", "m", "tool", "1", ratio.figures(), ratio.words())


def test_what_hits_both_models_alike_does_not_count() -> None:
    # a clock that goes up and down by a fifth, and ends at a third of its speed
    found = steady(machine(1, 0.0, 0.0, drift=0.02))
    assert found.ratio == pytest.approx(TRUTH)
    assert not found.noisy
    assert found.words() == {}
    assert found.processes == LEAST
    assert found.pairs == 20 * LEAST


def test_a_machine_that_is_too_noisy_is_said_to_be() -> None:
    found = steady(machine(1, 0.1, 0.05))
    assert found.noisy
    assert found.words() == {"noise": NOISE}
    assert found.processes == MOST
    assert found.low < TRUTH < found.high


def test_processes_are_added_until_the_interval_is_narrow() -> None:
    counts = {steady(machine(seed, 0.012, 0.02)).processes for seed in range(40)}
    assert min(counts) == LEAST
    assert max(counts) > LEAST
    assert all(count in range(LEAST, MOST + 1, 3) for count in counts)


@pytest.mark.parametrize("placement", [0.002, 0.006, 0.012, 0.02, 0.05])
def test_two_runs_agree_or_are_too_noisy(placement: float) -> None:
    verdicts = []
    for seed in range(200):
        one, two = (steady(machine(2 * seed + side, placement, 0.03)) for side in (0, 1))
        (agreement,) = agreements([record(one)], [record(two)])
        assert (agreement.verdict == NOISE) == (one.noisy or two.noisy)
        verdicts.append(agreement.verdict)
    told = [one for one in verdicts if one != NOISE]
    assert verdicts.count("differ") <= 0.02 * len(verdicts)
    if placement <= 0.006:
        assert len(told) == len(verdicts)  # a quiet machine is not called noisy
    if placement >= 0.05:
        assert len(told) <= 0.02 * len(verdicts)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    found = [steady(machine(seed, 0.01, 0.02)) for seed in range(400)]
    assert sum(one.low <= TRUTH <= one.high for one in found) >= 0.93 * len(found)


def test_few_processes_are_noisy_however_alike() -> None:
    assert Steady(1.0, 1.0, 1.0, LEAST - 1, 100).noisy
    assert not Steady(1.0, 1.0, 1.0, LEAST, 100).noisy
    assert Steady(0.5, 0.5, 0.5 * (1 + 1.01 * LIMIT), LEAST, 100).noisy


def test_agreements_pair_what_is_in_both_runs() -> None:
    def made(model: str, ratio: float, width: float = 0.001, **more: float) -> Record:
        figures = {"latency_ratio": ratio, "latency_ratio_low": ratio, "latency_ratio_high": ratio + width, **more}
        return Record("pruning", model, "tool", "1", figures)

    first = [made("a", 1.0, bytes=5.0), made("b", 1.0), made("c", 1.0), made("gone", 1.0)]
    second = [made("c", 1.0, 0.05), made("a", 1.02, bytes=7.0), made("b", 1.04), Record("pruning", "gone", "tool", "1")]
    found = agreements(first, second)
    assert [(one.model, one.name, one.verdict) for one in found] == [
        ("a", "latency_ratio", "agree"),
        ("b", "latency_ratio", "differ"),
        ("c", "latency_ratio", NOISE),
    ]
    assert found[0].difference == pytest.approx(0.02)
    said = repeated(found).splitlines()
    assert said[2] == "| a | tool | 1.000 | 1.020 | 2.0% | agree |"
    assert said[-1] == "Of 3 ratios 1 agree within 3%, 1 are too noisy, 1 differ."
    wider = {one.model: one.verdict for one in agreements(first, second, 0.06)}
    assert wider == {"a": "agree", "b": "agree", "c": "agree"}
