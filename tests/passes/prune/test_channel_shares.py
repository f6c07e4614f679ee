"""How many channels of each group go."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from passes.prune.channel_costs import Costs, Padded, Term
from passes.prune.channel_shares import by_error, counts, evenly, step_of


class Plain(Costs):
    """Costs from terms."""

    def __init__(self, terms: Sequence[Term], groups: int) -> None:
        self.terms = list(terms)
        self.total = sum(term.amount for term in terms)
        self._of = [[one for one in terms if any(part[0] == index for part in one.parts)] for index in range(groups)]


def separate(sizes: Sequence[int], amounts: Sequence[float]) -> Plain:
    return Plain([Term(a, ((i, 1 / n),)) for i, (n, a) in enumerate(zip(sizes, amounts, strict=True))], len(sizes))


@pytest.mark.parametrize(("size", "step"), [(1, 1), (2, 1), (3, 1), (10, 4), (16, 8), (24, 8), (32, 16), (1000, 16)])
def test_small_groups_have_small_steps(size: int, step: int) -> None:
    assert step_of(size, 16) == step


def test_what_may_go_leaves_a_multiple_and_enough() -> None:
    assert counts(64, 16, 0.9) == [0, 16, 32, 48]
    assert counts(64, 16, 0.5) == [0, 16, 32]
    assert counts(100, 16, 1.0) == [0, 4, 20, 36, 52, 68, 84]
    assert counts(1, 16, 1.0) == [0]
    assert counts(6, 1, 1.0) == [0, 1, 2, 3, 4, 5]


def test_groups_that_fill_a_kernel_keep_whole_ones() -> None:
    assert counts(40, 1, 1.0, 16) == [0, 8, 24]
    assert counts(16, 1, 1.0, 16) == [0]
    assert counts(8, 2, 1.0, 16) == [0, 2, 4, 6]


def test_the_cheapest_go_first() -> None:
    costs = separate([4, 4], [100.0, 100.0])
    curves = [np.array([0, 1, 2, 3]) * 1.0, np.array([0, 0.1, 0.2, 5.0])]
    choices = [[0, 1, 2, 3]] * 2
    assert by_error(curves, choices, costs, 25) == [0, 1]
    assert by_error(curves, choices, costs, 50) == [0, 2]
    assert by_error(curves, choices, costs, 75) == [1, 2]


def test_a_dear_step_before_cheap_ones_is_weighed_with_them() -> None:
    costs = separate([8, 8], [100.0, 100.0])
    curves = [np.array([0, 1.0, 1.0, 1.0, 1.0, 1.0, 9, 9]), np.arange(8) * 0.5]
    assert by_error(curves, [[*range(8)]] * 2, costs, 62) == [5, 0]


def test_separate_groups_are_shared_out_as_well_as_can_be() -> None:
    """With convex errors and costs apart, no other choice that saves as much has a smaller error."""
    draw = np.random.default_rng(0)
    sizes, amounts = [5, 6, 4], [50.0, 30.0, 20.0]
    curves = [np.concatenate([[0.0], np.cumsum(np.sort(draw.random(size - 1)))]) for size in sizes]
    choices = [[*range(size)] for size in sizes]
    costs = separate(sizes, amounts)
    for goal in (10, 25, 40, 60):
        found = by_error(curves, choices, costs, goal)
        saved = costs.saved(found)
        assert saved >= goal
        error = sum(curve[n] for curve, n in zip(curves, found, strict=True))
        others = [one for one in itertools.product(*choices) if costs.saved(one) >= saved - 1e-9]
        assert error <= min(sum(c[n] for c, n in zip(curves, one, strict=True)) for one in others) + 1e-9


def test_a_goal_beyond_reach_takes_all_there_is() -> None:
    costs = separate([4, 4], [100.0, 100.0])
    assert by_error([np.arange(4.0)] * 2, [[0, 1]] * 2, costs, 190) == [1, 1]


def test_products_shrink_with_both_sides() -> None:
    costs = Plain([Term(100.0, ((0, 0.25), (1, 0.5)))], 2)
    assert costs.saved([1, 0]) == 25
    assert costs.saved([1, 1]) == pytest.approx(62.5)
    assert costs.more([1, 0], 1, 1) == pytest.approx(37.5)
    assert costs.beside(0) == {0, 1}


def test_the_same_share_of_every_group() -> None:
    costs = separate([64, 32], [100.0, 100.0])
    choices = [counts(64, 16, 0.9), counts(32, 16, 0.9)]
    assert evenly([64, 32], choices, costs, 20) == [16, 0]
    assert evenly([64, 32], choices, costs, 60) == [32, 16]
    assert evenly([64, 32], choices, costs, 0) == [0, 0]


def test_channels_count_as_kernels_take_them() -> None:
    made, read = Padded(24, 16), Padded(24, 16, read=True)
    assert [made.counted(n) for n in (1, 8, 16, 17, 32)] == [16, 16, 16, 32, 32]
    assert [read.counted(n) for n in (1, 8, 16, 17, 32)] == [1, 8, 16, 32, 32]
    assert made.share(0.5) == 0.5 and read.share(0.5) == 12 / 32 and made.share(17 / 24) == 1
    term = Term(100.0, ((0, 1 / 24),), (made,))
    assert [term.left([gone]) for gone in (0, 7, 8, 23)] == [100, 100, 50, 50]


def test_nothing_goes_that_a_kernel_computes_all_the_same() -> None:
    """Of 32 channels, 31 cost as much as 32 and 16 as much as one: steps follow from what they save."""
    costs = Plain([Term(100.0, ((0, 1 / 32),), (Padded(32, 16),))], 1)
    curve = [np.linspace(0, 1, 32)]
    assert by_error(curve, [[*range(32)]], costs, 10) == [16]
    assert by_error(curve, [[*range(32)]], costs, 50) == [16]
