"""Between models about as small the fastest is taken, where it surely is."""

from __future__ import annotations

import dataclasses

import pytest

from graphopt.errors import BadModel
from graphopt.session.tie import RIVALS, fastest_first, raced, rivals
from graphopt.session.tune_options import objective_of
from graphopt.tune.objective import Objective
from graphopt.tune.presets import preset
from graphopt.tune.trial import KEPT, Candidate, Ratio, Trial

SIZE = Objective("size", (), close=0.01)


def trial(size: int, ratio: float | None = None, noise: float = 0.01) -> Trial:
    latency = None if ratio is None else Ratio(ratio, ratio - noise, ratio + noise)
    return Trial(Candidate(f"b{size}", "weight-int8", "t"), 0, 8, KEPT, bytes=size, latency=latency)


def test_rivals_are_at_most_a_hundredth_larger() -> None:
    trials = [trial(1000), trial(1010), trial(1011), trial(1005), trial(2000)]
    assert rivals(trials, [0, 4], range(5), SIZE) == [0, 3, 1]
    assert rivals(trials, [0, 4], range(5), dataclasses.replace(SIZE, close=0.0)) == []
    assert rivals(trials, [], range(5), SIZE) == []
    many = [trial(1000 + place) for place in range(9)]
    assert rivals(many, [0], range(9), SIZE) == list(range(RIVALS))


def test_the_surely_faster_come_first() -> None:
    trials = [trial(1000, 0.9), trial(1001, 0.895), trial(1002, 0.8), trial(1003, 0.7), trial(1004)]
    assert fastest_first(trials, [0, 1, 2, 3, 4]) == [3, 2, 0, 1, 4]
    assert fastest_first(trials, [0, 1]) == [0, 1], "within the noise the smaller one is taken"
    assert fastest_first(trials, [4, 3]) == [4, 3], "what could not be measured is not beaten"


def test_what_cannot_be_timed_keeps_its_place() -> None:
    class Room:
        def bench(self, rows: int) -> object:
            return type("Bench", (), {"original": b"", "latency": None})()

        def made(self, one: Trial) -> bytes:
            raise BadModel("no")

    one = trial(1000)
    assert raced(Room(), one, 0.1) is one  # type: ignore[arg-type]


def test_only_edge_breaks_ties_and_only_for_its_own_aim() -> None:
    assert objective_of(None, "sqnr_db>=20", None, preset("edge"))[0].close == pytest.approx(0.01)
    assert objective_of("latency", "sqnr_db>=20", None, preset("edge"))[0].close == 0.0
    assert objective_of(None, "sqnr_db>=20", None, preset("mobile"))[0].close == 0.0
    assert objective_of(None, "sqnr_db>=20", None)[0].close == 0.0
