"""What is minimized, what must be kept, and which trials go on."""

from __future__ import annotations

import math
from typing import Any

import pytest

from graphopt.tune.objective import Objective, best_first
from graphopt.tune.trial import FAILED, KEPT, Candidate, Ratio, Trial
from graphopt.validation.budget import parse_budgets


def trial(size: int, db: float = 30.0, rows: int = 100, status: str = KEPT, **reached: float) -> Trial:
    figures = {"sqnr_db": db, **reached}
    return Trial(Candidate(f"c{size}", "", "x"), 0, rows, status, bytes=size, compressed=size // 2, reached=figures)


def objective(minimize: str = "size", *budgets: str, **more: Any) -> Objective:
    return Objective(minimize, parse_budgets(budgets or ("sqnr_db>=20",)), **more)


def test_each_objective_reads_its_figure() -> None:
    one = trial(100)
    assert objective().value(one) == 100
    assert objective(compressed=True).value(one) == 50
    assert objective("latency").value(one) == math.inf, "not measured"
    timed = Trial(**{**vars(one), "latency": Ratio(0.5, 0.4, 0.6), "energy": 0.25})
    assert objective("latency").value(timed) == 0.5
    assert objective("energy-proxy").value(timed) == 0.25
    assert objective().value(trial(1, status=FAILED)) == math.inf


def test_the_axes_name_fields_and_figures() -> None:
    assert objective().axes == ("bytes", "sqnr_db")
    assert objective(compressed=True).axes == ("compressed", "sqnr_db")
    assert objective("latency", "top1_drop<=0.01").axes == ("latency", "sqnr_db"), "counts of rows are too coarse"
    assert objective("energy-proxy", "max_error<=0.1").axes == ("energy", "max_error")


def test_points_are_less_for_better() -> None:
    assert objective().point(trial(7, 25.0)) == (7, -25.0)
    assert objective("size", "max_error<=1").point(trial(7, max_error=0.5)) == (7, 0.5)
    assert objective().point(Trial(Candidate("c", "", "x"), 0, 1, KEPT, bytes=3)) == (3, math.inf)


@pytest.mark.parametrize(
    ("rows", "drop", "may"), [(16, 0.05, True), (10_000, 0.05, False), (10_000, 0.006, True), (100, math.nan, False)]
)
def test_a_share_of_few_rows_has_the_benefit_of_doubt(rows: int, drop: float, may: bool) -> None:
    assert objective("size", "top1_drop<=0.005").hopeful(trial(1, rows=rows, top1_drop=drop)) is may


def test_decibels_have_half_a_decibel_of_it_and_failures_none() -> None:
    assert objective().hopeful(trial(1, 19.6)) and not objective().hopeful(trial(1, 19.4))
    assert not objective().hopeful(trial(1, 50.0, status=FAILED))


@pytest.mark.parametrize(("rows", "drop", "near"), [(500, 0.006, True), (500, 0.008, False), (50_000, 0.006, False)])
def test_a_sample_or_two_are_for_others_to_tell(rows: int, drop: float, near: bool) -> None:
    assert objective("size", "top1_drop<=0.005").nearly(trial(1, rows=rows, top1_drop=drop)) is near
    assert not objective().nearly(trial(1, 19.9)), "decibels are no matter of luck"
    assert not objective().nearly(trial(1, 50.0, status=FAILED))


def test_what_is_missed_is_said_in_a_clause() -> None:
    asked = objective("size", "sqnr_db>=20", "bytes<=0.5")
    assert asked.keeps({"sqnr_db": 20.0, "bytes": 0.5})
    assert asked.missed({"sqnr_db": 19.0, "bytes": 0.5}) == "sqnr_db 19, where sqnr_db>=20 was asked for"
    assert "bytes 0.6, where bytes<=0.5" in asked.missed({"sqnr_db": 30.0, "bytes": 0.6})
    assert not asked.keeps({"sqnr_db": 30.0}), "what was not measured is not kept"


def test_fronts_go_on_first_and_on_each_what_may_keep_the_budgets() -> None:
    trials = [trial(10, 5.0), trial(20, 30.0), trial(30, 25.0), trial(1, status=FAILED), trial(15, 21.0)]
    assert best_first(trials, objective()) == [4, 1, 0, 2]
