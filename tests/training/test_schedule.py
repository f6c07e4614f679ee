"""Step sizes, the order of samples, and which of them are held out."""

from __future__ import annotations

import math

import pytest

from graphopt.training.schedule import drawn, found_rate, held_out, rate_at


def test_the_step_size_rises_as_a_line_and_falls_as_a_cosine() -> None:
    assert [rate_at(at, 0.1) for at in (0.0, 0.05, 0.1)] == pytest.approx([0.0, 0.5, 1.0])
    assert rate_at(0.55, 0.1) == pytest.approx(0.5)
    assert rate_at(1.0, 0.1) == pytest.approx(0.0)
    assert rate_at(2.0, 0.1) == pytest.approx(0.0)
    falls = [rate_at(0.1 + at / 100, 0.1) for at in range(91)]
    assert falls == sorted(falls, reverse=True)


@pytest.mark.parametrize("warm_up", [0.0, 1.0])
def test_without_or_with_nothing_but_warm_up(warm_up: float) -> None:
    assert all(0 <= rate_at(at / 10, warm_up) <= 1 for at in range(11))
    assert math.isclose(rate_at(0.0, 0.0), 1.0)


def test_every_sample_comes_by_once_before_any_comes_again() -> None:
    indices = list(range(100, 110))
    order = [one for step in range(15) for one in drawn(indices, step, 4, seed=3)]
    for epoch in range(6):
        assert sorted(order[epoch * 10 : epoch * 10 + 10]) == indices
    assert order[:10] != order[10:20]


def test_a_step_depends_on_its_number_and_the_seed_alone() -> None:
    indices = list(range(7))
    assert drawn(indices, 5, 3, 0) == drawn(indices, 5, 3, 0)
    assert [drawn(indices, at, 3, 0) for at in range(5)] != [drawn(indices, at, 3, 1) for at in range(5)]
    assert len(drawn(indices, 0, 100, 0)) == 7  # no more than there are


@pytest.mark.parametrize("count", [2, 3, 5, 10, 99])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_held_out_samples_are_apart_from_the_others(count: int, share: float) -> None:
    trained, held = held_out(count, share)
    assert sorted([*trained, *held]) == list(range(count))
    assert trained and held
    assert abs(len(held) - count * share) <= 1


def test_one_sample_cannot_be_divided() -> None:
    assert held_out(1, 0.2) == ([0], [])


def test_what_is_near_its_teacher_takes_small_steps() -> None:
    assert found_rate(0.25) == pytest.approx(0.01)
    assert found_rate(0.0) == found_rate(1e-9) == 1e-4
    assert found_rate(100.0) == 0.02
