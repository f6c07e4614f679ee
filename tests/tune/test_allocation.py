"""Which units are put back, in which order, and how many."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from itertools import pairwise

from graphopt.tune.allocation import Move, Rung, applied, fewest, moves, spared
from graphopt.tune.sensitivity import energies


def test_most_error_for_its_cost_first() -> None:
    ladders = [
        [Rung("int8", 4.0, 0.0), Rung("float", 0.0, 4.0)],
        [Rung("int8", 3.0, 0.0), Rung("float", 0.0, 1.0)],
        [Rung("int8", 5.0, 0.0), Rung("float", 0.0, 2.0)],
    ]
    assert [move.unit for move in moves(ladders)] == [1, 2, 0]


def test_a_rung_in_between_is_taken_first() -> None:
    ladders = [[Rung("int4", 10.0, 0.0), Rung("int8", 1.0, 1.0), Rung("float", 0.0, 7.0)]]
    assert [move.to for move in moves(ladders)] == ["int8", "float"]


def test_a_rung_that_saves_less_than_the_way_past_it_is_left_out() -> None:
    ladders = [[Rung("int4", 10.0, 0.0), Rung("int8", 9.5, 1.0), Rung("float", 0.0, 2.0)]]
    assert [move.to for move in moves(ladders)] == ["float"]


def test_a_rung_with_more_error_is_left_out() -> None:
    ladders = [[Rung("a", 1.0, 0.0), Rung("worse", 2.0, 1.0), Rung("float", 0.0, 2.0)]]
    assert [move.to for move in moves(ladders)] == ["float"]


def test_moves_of_one_unit_save_less_and_less() -> None:
    draw = random.Random(1)
    for _ in range(200):
        ladder = [Rung(str(i), draw.random(), draw.random()) for i in range(5)]
        made = moves([[Rung("start", 2.0, 0.0), *ladder, Rung("float", 0.0, 2.0)]])
        assert all(before.gain >= after.gain for before, after in pairwise(made))
        assert made[-1].to == "float"


def test_the_fewest_moves_and_few_tries() -> None:
    for count in (0, 1, 2, 7, 100):
        for needed in range(count + 1):
            tries: list[int] = []

            def holds(many: int, needed: int = needed, tries: list[int] = tries) -> bool:
                tries.append(many)
                return many >= needed

            assert fewest(count, holds) == needed
            assert len(tries) <= 2 * math.ceil(math.log2(count + 2)) + 2


def test_not_even_all_moves() -> None:
    assert fewest(5, lambda many: False) is None
    assert fewest(0, lambda many: False) is None


def test_what_is_emitted_was_tried_also_where_more_is_not_better() -> None:
    """With a budget that more moves may break again the answer still holds."""
    good = {0: False, 1: False, 2: True, 3: False, 4: False, 5: True}
    answer = fewest(5, lambda many: good[many])
    assert answer is not None
    assert good[answer]


def test_moves_that_were_not_needed_are_taken_back() -> None:
    made = [Move(0, "float", 9.0, 1.0), Move(1, "float", 8.0, 5.0), Move(2, "float", 7.0, 1.0)]
    kept = spared(made, lambda some: any(one.unit == 2 for one in some))
    assert [one.unit for one in kept] == [2]


def test_only_the_last_move_of_a_unit_is_taken_back() -> None:
    made = [Move(0, "int8", 9.0, 1.0), Move(0, "float", 1.0, 5.0)]
    assert [one.to for one in spared(made, lambda some: True)] == ["int8"]


def test_options_after_moves() -> None:
    assert applied({0: "int4", 1: "int4"}, [Move(1, "int8", 1.0, 1.0), Move(1, "float", 1.0, 1.0)]) == {
        0: "int4",
        1: "float",
    }


class Energy:
    """A measure whose energies add up, and which counts how often it is asked."""

    def __init__(self, of: Sequence[float]) -> None:
        self.of, self.asked = of, 0

    def __call__(self, some: Collection[int]) -> float:
        self.asked += 1
        return sum(self.of[one] for one in some)


def test_few_units_are_measured_one_by_one() -> None:
    measure = Energy([3.0, 1.0, 2.0])
    assert energies([0, 1, 2], measure) == {0: 3.0, 1: 1.0, 2: 2.0}
    assert measure.asked == 3


def test_the_worst_of_many_are_found_by_halving() -> None:
    draw = random.Random(2)
    truth = [draw.random() * 1e-5 for _ in range(300)]
    worst = [17, 130, 131, 299]
    for place, unit in enumerate(worst):
        truth[unit] = 1.0 + place
    measure = Energy(truth)
    found = energies(range(300), measure)
    assert sorted(found, key=lambda unit: -found[unit])[:4] == [299, 131, 130, 17]
    assert [found[unit] for unit in worst] == [1.0, 2.0, 3.0, 4.0]
    assert measure.asked < 60
    assert math.isclose(sum(found.values()), sum(truth))


def test_measurements_end_where_all_units_are_alike() -> None:
    measure = Energy([1.0] * 1000)
    found = energies(range(1000), measure, most=50)
    assert measure.asked <= 52
    assert set(found.values()) == {1.0}
