"""How much passes take is turned until a goal is met: the search, its refusals, and a whole run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

import graphopt
from graphopt.demo import load_data, model_path
from graphopt.errors import NotEquivalent, UsageError
from graphopt.measure.latency import Latency
from graphopt.pipeline.goal import Goal
from graphopt.pipeline.pipeline import Pipeline
from graphopt.tune import strength
from graphopt.tune.bench import Bench
from graphopt.tune.strength import MOST, Strengthening, strength_of, turn, turned, without_repair
from graphopt.tune.variants import Workshop
from graphopt.validation.budget import Budget
from graphopt.validation.verdict import BudgetResult


@dataclass
class _Model:
    """Stands for a workshop and a bench: what a strength s leaves is 1 - s of the latency and 40 (1 - s) dB."""

    floor: float = 0.0
    runs: int = 0

    def run(self, pipeline: Pipeline) -> tuple[Any, bytes]:
        self.runs += 1
        return cast(Any, type("Outcome", (), {"graph": None})), str(strength_of(pipeline.steps[-1])).encode()

    original = b"0"

    def latency(self, one: bytes, other: bytes) -> Latency:
        ratio = max(1.0 - float(other), self.floor)
        return Latency(1.0, ratio, ratio, ratio, ratio, 9, False)

    def figures(self, data: bytes, both: bool = False) -> tuple[BudgetResult, ...]:
        reached = 40.0 * (1.0 - float(data))
        return (BudgetResult(Budget("sqnr_db", 15.0), reached, reached),)


def _search(goal: str, floor: float = 0.0, text: str = "magnitude{sparsity=0.3}") -> Strengthening:
    model = _Model(floor)
    return Strengthening(
        cast(Workshop, model), cast(Bench, model), Pipeline.parse(text), Goal.parse(goal), 100, lambda text: None
    )


def test_the_weakest_strength_that_meets_the_goal_is_taken() -> None:
    plan = _search("latency=0.7").run("feeds")
    assert 0.3 <= strength_of(plan.pipeline.steps[0]) <= 0.3 + strength._NEAR["latency"]
    assert plan.taken is not None
    assert plan.tried[plan.taken].pipeline == plan.pipeline


def test_as_far_as_the_budget_allows() -> None:
    plan = _search("budget").run("feeds")
    assert 0.60 <= strength_of(plan.pipeline.steps[0]) <= 0.625


def test_a_goal_out_of_reach_is_refused_with_what_is_reached() -> None:
    with pytest.raises(NotEquivalent, match=r"even at its strongest the pipeline reaches latency 0\.80 only"):
        _search("latency=0.7", floor=0.8).run("feeds")


def test_a_goal_over_the_budget_is_refused_with_what_the_budget_allows() -> None:
    with pytest.raises(
        NotEquivalent, match=r"latency=0\.2 takes magnitude.* less than .* the budget allows latency 0\.38"
    ):
        _search("latency=0.2").run("feeds")


def test_strengths_are_turned_by_one_factor_and_stay_below_the_most() -> None:
    pipeline = Pipeline.parse("magnitude{sparsity=0.2},dead-nodes,magnitude{sparsity=0.4}")
    made = turn(pipeline, 2.0)
    assert [strength_of(step) for step in made.steps] == [0.4, 0.0, 0.8]
    assert strength_of(turn(pipeline, 10.0).steps[0]) == MOST
    assert turned(pipeline) == 0.4
    assert turned(Pipeline.parse("dead-nodes")) == 0.0
    assert without_repair(pipeline) == pipeline


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("speed=0.5", "--to expects latency=0.7, macs=0.8 or bytes=0.5"),
        ("latency", "not 'latency'"),
        ("latency=fast", "'fast' is not a number"),
        ("macs=1.5", "macs is to be between 0 and 1 times the original's, not 1.5"),
        ("macs=0", "between 0 and 1"),
        ("macs=nan", "between 0 and 1"),
        ("bytes=120%", "between 0 and 1"),
        ("budget=3", "--to expects"),
        ("latencies=0.5", "did you mean"),
    ],
)
def test_bad_goals_have_their_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        Goal.parse(text)
    assert sentence in str(caught.value)


def test_goals_are_read_as_they_are_written() -> None:
    assert Goal.parse(" latency = 70% ") == Goal("latency", 0.7)
    assert str(Goal.parse("macs=0.80")) == "macs=0.8"
    assert str(Goal.parse("budget")) == "budget"


def test_a_pipeline_that_takes_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="turns how much pruning passes take, and the pipeline has none of them"):
        graphopt.optimize(model_path(), pipeline="dead-nodes", to="latency=0.7")
    with pytest.raises(UsageError, match="the recipe is planned already"):
        graphopt.optimize(model_path(), recipe="int8-auto", to="latency=0.7")


def test_a_whole_run_is_kept_within_its_budget_and_says_what_it_tried() -> None:
    feeds = {"image": load_data().calibration[:64]}
    result = graphopt.optimize(
        model_path(), pipeline="magnitude{sparsity=0.3}", to="budget", budget="sqnr_db>=10", feeds=feeds
    )
    assert result.exit_code == 0
    plan = result.report.plan
    assert plan is not None
    assert plan.planner == "to budget"
    assert len(plan.tried) > 2
    assert str(plan.pipeline).startswith("magnitude{sparsity=")
