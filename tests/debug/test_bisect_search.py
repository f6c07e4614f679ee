"""The search alone, on made-up answers: what it finds, in how many tries, and what it does with skipped ones."""

from __future__ import annotations

import math
import random

import pytest

from graphopt.debug.bisect import Answer, Interval, Spent, first_bad, smallest_failing

GOOD, BAD, SKIP = Answer.GOOD, Answer.BAD, Answer.SKIP


class Asked:
    """Answers for prefixes, which counts how often it is asked, and refuses to be asked the same twice."""

    def __init__(self, guilty: int, unknown: frozenset[int] = frozenset()) -> None:
        self.guilty, self.unknown = guilty, unknown
        self.lengths: list[int] = []

    def __call__(self, count: int) -> Answer:
        assert count not in self.lengths
        self.lengths.append(count)
        return SKIP if count in self.unknown else BAD if count >= self.guilty else GOOD


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 9, 64, 65, 500])
def test_every_guilty_one_is_found_in_as_few_tries_as_there_can_be(count: int) -> None:
    for guilty in range(1, count + 1):
        ask = Asked(guilty)
        assert first_bad(count, ask) == Interval(guilty - 1, guilty)
        assert len(ask.lengths) <= math.ceil(math.log2(count)) if count > 1 else not ask.lengths


def test_seams_are_asked_about_first_and_cost_nothing() -> None:
    ask = Asked(130)
    assert first_bad(300, ask, [140, 290]).exact
    assert ask.lengths[0] == 140
    for guilty in range(1, 501):
        ask = Asked(guilty)
        assert first_bad(500, ask, [10, 200, 260, 499]) == Interval(guilty - 1, guilty)
        assert len(ask.lengths) <= 9


@pytest.mark.parametrize("seed", range(20))
def test_what_is_found_is_good_before_and_bad_with_it_also_where_they_alternate(seed: int) -> None:
    draw = random.Random(seed)
    answers = [GOOD, *(draw.choice([GOOD, BAD]) for _ in range(98)), BAD]
    found = first_bad(99, lambda count: answers[count])
    assert found.exact
    assert (answers[found.good], answers[found.bad]) == (GOOD, BAD)


def test_around_what_cannot_be_told_the_search_goes_on() -> None:
    ask = Asked(37, frozenset(range(45, 56)))
    assert first_bad(100, ask) == Interval(36, 37)
    assert len(ask.lengths) <= 14


def test_where_all_between_cannot_be_told_it_is_a_range() -> None:
    found = first_bad(100, Asked(48, frozenset(range(45, 56))))
    assert found == Interval(44, 56)
    assert not found.exact
    assert first_bad(5, lambda count: SKIP) == Interval(0, 5)


def test_one_rewrite_needs_no_try() -> None:
    assert first_bad(1, Asked(1)) == Interval(0, 1)


@pytest.mark.parametrize("wanted", [{3}, {0, 19}, {4, 5, 11}, set(range(20)), {19}])
def test_the_smallest_failing_part_is_found(wanted: set[int]) -> None:
    found, smallest = smallest_failing(range(20), lambda some: wanted <= set(some))
    assert (set(found), smallest) == (wanted, True)


def test_a_part_of_many_that_counts_one_by_one_cannot_be_made_smaller() -> None:
    found, smallest = smallest_failing(range(30), lambda some: len(some) >= 11)
    assert len(found) == 11
    assert smallest
    assert list(found) == sorted(found)


def test_when_the_tries_run_out_the_best_so_far_is_returned() -> None:
    tries = iter(range(3))

    def fails(some: tuple[int, ...]) -> bool:
        if next(tries, None) is None:
            raise Spent
        return {2, 3} <= set(some)

    found, smallest = smallest_failing(range(64), fails)
    assert not smallest
    assert {2, 3} <= set(found)
    assert len(found) == 8
