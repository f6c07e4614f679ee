"""Budgets: one spelling, read both ways, and one sentence for everything that can be wrong with it."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from graphopt.errors import UsageError
from graphopt.validation import BudgetResult, parse_budget, parse_budgets
from graphopt.validation.budget import METRICS, Budget


@pytest.mark.parametrize(
    ("text", "metric", "limit"),
    [
        ("sqnr_db>=30", "sqnr_db", 30.0),
        (" sqnr_db >= -3.5 ", "sqnr_db", -3.5),
        ("top1_drop<=0.005", "top1_drop", 0.005),
        ("top1_drop<=-0.01", "top1_drop", -0.01),
        ("agreement>=1", "agreement", 1.0),
        ("cosine>=.999", "cosine", 0.999),
        ("max_error<=1e-3", "max_error", 1e-3),
        ("metric_drop<=2", "metric_drop", 2.0),
        ("bytes<=0.3", "bytes", 0.3),
        ("bytes<=5MB", "bytes", 5e6),
        ("bytes<= 1.5 KiB ", "bytes", 1536.0),
        ("bytes<=4096", "bytes", 4096.0),
        ("bytes<=12B", "bytes", 12.0),
    ],
)
def test_a_budget_is_read_and_comes_back_as_the_same_budget(text: str, metric: str, limit: float) -> None:
    budget = parse_budget(text)
    assert (budget.metric, budget.limit) == (metric, limit)
    assert parse_budget(str(budget)) == budget


def test_budgets_print_as_a_user_would_write_them() -> None:
    assert str(parse_budget("sqnr_db >= 30.0")) == "sqnr_db>=30"
    assert str(parse_budget("top1_drop<=0.005")) == "top1_drop<=0.005"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the budget '' names no metric; write METRIC>=NUMBER, for example 'sqnr_db>=30'"),
        (">=30", "the budget '>=30' names no metric; write METRIC>=NUMBER, for example 'sqnr_db>=30'"),
        ("sqnr>=30", "the budget 'sqnr>=30' names an unknown metric 'sqnr'; did you mean 'sqnr_db'?"),
        ("SQNR_DB>=30", "the budget 'SQNR_DB>=30' names an unknown metric 'SQNR_DB'; did you mean 'sqnr_db'?"),
        (
            "zzz>=30",
            "the budget 'zzz>=30' names an unknown metric 'zzz'; the metrics are sqnr_db, cosine, agreement, "
            "max_error, top1_drop, metric_drop, bytes",
        ),
        (
            "sqnr_db<=30",
            "the budget 'sqnr_db<=30' has '<='; sqnr_db is better when more, so write sqnr_db>=NUMBER",
        ),
        ("sqnr_db>30", "the budget 'sqnr_db>30' has '>'; sqnr_db is better when more, so write sqnr_db>=NUMBER"),
        (
            "top1_drop=0.1",
            "the budget 'top1_drop=0.1' has '='; top1_drop is better when less, so write top1_drop<=NUMBER",
        ),
        (
            "cosine",
            "the budget 'cosine' has no '>=' or '<='; cosine is better when more, so write cosine>=NUMBER",
        ),
        (
            "sqnr_db>=",
            "the budget 'sqnr_db>=' has no number after '>='; write it in full, for example 'sqnr_db>=30'",
        ),
        (
            "sqnr_db>=30dB",
            "the budget 'sqnr_db>=30dB' has '30dB' where a number belongs; for example 'sqnr_db>=30'",
        ),
        (
            "sqnr_db>=3MB",
            "the budget 'sqnr_db>=3MB' has '3MB' where a number belongs; for example 'sqnr_db>=30'",
        ),
        (
            "bytes<=3TB",
            "the budget 'bytes<=3TB' has '3TB' where a number belongs; for example 'sqnr_db>=30'",
        ),
        ("bytes<=iB", "the budget 'bytes<=iB' has 'iB' where a number belongs; for example 'sqnr_db>=30'"),
        ("bytes>=3MB", "the budget 'bytes>=3MB' has '>='; bytes is better when less, so write bytes<=NUMBER"),
        (
            "sqnr_db>=3_0",
            "the budget 'sqnr_db>=3_0' has '3_0' where a number belongs; for example 'sqnr_db>=30'",
        ),
        (
            "sqnr_db>=nan",
            "the budget 'sqnr_db>=nan' has 'nan' as its limit; a budget needs a finite number",
        ),
        (
            "max_error<=inf",
            "the budget 'max_error<=inf' has 'inf' as its limit; a budget needs a finite number",
        ),
        (
            "top1_drop<=0.5%",
            "the budget 'top1_drop<=0.5%' has a percent sign; write a fraction, 0.5% is 0.005",
        ),
        (
            "top1_drop<=2",
            "the budget 'top1_drop<=2' is out of range: top1_drop lies between -1 and 1; it is a fraction, "
            "half a percent is 0.005",
        ),
        ("agreement>=-1", "the budget 'agreement>=-1' is out of range: agreement lies between 0 and 1"),
        ("max_error<=-1", "the budget 'max_error<=-1' is out of range: max_error lies at least 0"),
    ],
)
def test_a_wrong_budget_gets_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_budget(text)
    assert str(caught.value) == sentence


def test_two_limits_on_one_metric_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        parse_budgets(["sqnr_db>=30", "cosine>=0.9", "sqnr_db>=20"])
    assert str(caught.value) == "the metric 'sqnr_db' has two budgets, sqnr_db>=30 and sqnr_db>=20; keep one"
    assert parse_budgets(["sqnr_db>=30", "cosine>=0.9"]) == (Budget("sqnr_db", 30.0), Budget("cosine", 0.9))


def test_limits_are_inclusive_and_nan_never_keeps_one() -> None:
    for metric, (direction, _, _) in METRICS.items():
        budget = Budget(metric, 0.5)
        better, worse = (0.6, 0.4) if direction == ">=" else (0.4, 0.6)
        assert budget.holds(0.5)
        assert budget.holds(better)
        assert not budget.holds(worse)
        assert not budget.holds(math.nan)
        assert budget.worse(better, worse) == worse
        assert math.isnan(budget.worse(better, math.nan))


def test_a_budget_has_to_hold_in_both_modes() -> None:
    budget = Budget("sqnr_db", 30.0)
    assert BudgetResult(budget, off=40.0, on=30.0).kept
    missed = BudgetResult(budget, off=40.0, on=29.0)
    assert not missed.kept
    assert missed.reached == 29.0
    assert missed.sentence() == "sqnr_db>=30 missed: 29"


def test_a_figure_that_rounds_to_the_limit_is_shown_with_more_digits() -> None:
    budget = parse_budget("sqnr_db>=20")
    assert BudgetResult(budget, off=30.0, on=19.99961).sentence() == "sqnr_db>=20 missed: 19.9996"
    assert BudgetResult(budget, off=30.0, on=20.00039).sentence() == "sqnr_db>=20 kept: 20"
    assert budget.shown(math.nan) == "nan"


def test_the_words_of_validation_import_nothing_heavy() -> None:
    code = "import sys, graphopt.validation; print([m for m in ('numpy', 'onnx', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bytes_are_a_fraction_up_to_one() -> None:
    assert parse_budget("bytes<=1").is_fraction
    assert not parse_budget("bytes<=2").is_fraction
    assert not parse_budget("sqnr_db>=1").is_fraction
    assert not parse_budget("bytes<=1").is_of_outputs
    assert parse_budget("sqnr_db>=1").is_of_outputs
