"""Pareto fronts against the definition, on random points with ties."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.tune.front import Point, front, layers


def dominated(one: Point, other: Point) -> bool:
    """Whether the other is at least as good in both, and better in one."""
    return other != one and other[0] <= one[0] and other[1] <= one[1]


def test_of_nothing_there_is_no_front() -> None:
    assert front([]) == ()
    assert layers([]) == []


def test_of_equal_points_the_first_is_on_it() -> None:
    assert front([(2.0, 1.0), (1.0, 2.0), (1.0, 2.0), (1.0, 3.0)]) == (1, 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_nothing_dominates(seed: int) -> None:
    draw = np.random.default_rng(seed)
    points = [(float(a), float(b)) for a, b in draw.integers(0, 8, (30, 2))]
    found = front(points)
    good = {one for one in points if not any(dominated(one, other) for other in points)}
    assert {points[place] for place in found} == good
    assert len(found) == len(good), "equal points once"
    assert [points[place][0] for place in found] == sorted(points[place][0] for place in found)


@pytest.mark.parametrize("seed", range(5))
def test_layers_are_fronts_of_what_is_left(seed: int) -> None:
    draw = np.random.default_rng(seed)
    points = [(float(a), float(b)) for a, b in draw.random((20, 2))]
    found = layers(points)
    for depth in range(max(found) + 1):
        left = [place for place in range(20) if found[place] >= depth]
        assert {place for place in left if found[place] == depth} == {
            left[one] for one in front([points[p] for p in left])
        }


def test_a_point_without_figures_is_behind_all() -> None:
    inf = float("inf")
    assert front([(inf, inf), (1.0, 1.0)]) == (1,)
    assert front([(inf, inf)]) == (0,)
