"""The figures that budgets limit, in both modes, and the user's metric before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.validation.budget import Budget
from graphopt.validation.compare import Summary
from graphopt.validation.judge import Pair, by_output
from graphopt.validation.metrics import Metric, accuracy, agreement
from graphopt.validation.values import Array
from graphopt.validation.verdict import BudgetResult

_DIGITS: Final = 12
"""Of a drop: the difference of two shares is off by the rounding of both, which must not decide on a budget."""


@dataclass(frozen=True)
class Figures:
    """Budgets with what was reached, and the metric of the reference and of the candidate's worse mode."""

    budgets: tuple[BudgetResult, ...] = ()
    before: float | None = None
    after: float | None = None


def check_request(contract: Contract, budgets: Sequence[Budget], labels: Array | None, metric: Metric | None) -> None:
    """Refuse what cannot be measured before anything runs. Raises `UsageError`."""
    if contract is Contract.LOSSY and not any(budget.is_of_outputs for budget in budgets):
        raise UsageError("lossy passes need a budget, for example --budget 'sqnr_db>=30'")
    for budget in budgets:
        if budget.needs_labels and labels is None:
            raise UsageError(
                f"the budget {budget} needs labels; give --labels, or use agreement>=0.99, which needs none"
            )
        if budget.needs_metric and metric is None:
            raise UsageError(f"the budget {budget} needs a metric; give --metric module:function, top1 or agreement")
    if metric is not None and metric.name == "top1" and metric.function is None and labels is None:
        raise UsageError("the metric top1 needs labels; give --labels, or use agreement, which needs none")


def figures(
    pairs: Sequence[Pair], budgets: Sequence[Budget], labels: Array | None, metric: Metric | None,
    sizes: tuple[int, int] | None = None,
) -> Figures:  # fmt: skip
    """Measure every budget in every mode that ran (the first pair is optimizations off).

    `sizes` are the bytes of the reference and of the candidate; without them their budget is left out.
    """
    results = []
    for budget in budgets:
        if not budget.is_of_outputs:
            if sizes is not None:
                size = sizes[1] / max(sizes[0], 1) if budget.is_fraction else float(sizes[1])
                results.append(BudgetResult(budget, size, size))
            continue
        reached = [_reached(budget.metric, pair, labels, metric) for pair in pairs]
        results.append(BudgetResult(budget, reached[0], reached[-1]))
    if metric is None:
        return Figures(tuple(results))
    sides = [(_metric(metric, pair, False, labels), _metric(metric, pair, True, labels)) for pair in pairs]
    before, after = min(sides, key=lambda side: side[1] - side[0])
    return Figures(tuple(results), before, after)


def _reached(name: str, pair: Pair, labels: Array | None, metric: Metric | None) -> float:
    reference, candidate = by_output(pair.reference), by_output(pair.candidate)
    if name == "agreement":
        return agreement(candidate, reference)
    if name == "top1_drop":
        assert labels is not None
        return round(accuracy(reference, labels) - accuracy(candidate, labels), _DIGITS)
    if name == "metric_drop":
        assert metric is not None
        return round(_metric(metric, pair, False, labels) - _metric(metric, pair, True, labels), _DIGITS)
    summaries = _numeric(pair)
    if not summaries:
        raise UsageError(
            f"the budget on {name} needs an output of numbers; this model has none, so use agreement>=0.99"
        )
    if any(summary.total.problem for summary in summaries):
        return math.nan
    if name == "sqnr_db":
        return min(summary.total.sqnr_db for summary in summaries)
    if name == "cosine":
        return min(summary.total.cosine for summary in summaries)
    return max(summary.scaled for summary in summaries)


def _metric(metric: Metric, pair: Pair, after: bool, labels: Array | None) -> float:
    reference = by_output(pair.reference)
    return metric.measure(by_output(pair.candidate) if after else reference, reference, labels)


def _numeric(pair: Pair) -> list[Summary]:
    """The floating-point outputs, or the integer ones of a model that has no others."""
    found = [pair.summary(name) for name in pair.names]
    found = [summary for summary in found if summary.total.elements or summary.total.problem]
    floats = [summary for summary in found if summary.total.kind in ("float", "mixed") or summary.total.problem]
    return floats or [summary for summary in found if summary.total.kind == "integer"]
