"""From comparisons to a verdict: the outcome, its reasons and what weakens it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from graphopt.contract import Contract
from graphopt.validation.budget import Budget
from graphopt.validation.figures import figures
from graphopt.validation.judge import Pair, judge, loose, unjudged
from graphopt.validation.metrics import Metric
from graphopt.validation.reference import Reference
from graphopt.validation.values import Array
from graphopt.validation.verdict import BudgetResult, Outcome, OutputReport, Verdict

_BY_METRIC: Final = frozenset(("top1_drop", "metric_drop"))


@dataclass(frozen=True)
class Case:
    """All that a verdict is made of: a reference, comparisons in each mode, what was asked; `sizes` are the
    bytes of reference and candidate, where a budget on them is to be held."""

    reference: Reference
    pairs: Sequence[Pair]
    contract: Contract
    budgets: tuple[Budget, ...]
    labels: Array | None
    metric: Metric | None
    sizes: tuple[int, int] | None = None


def decide(case: Case) -> Verdict:
    """The verdict of a case whose noise is measured. Raises `UsageError` where a figure cannot be had.

    A difference is a difference even where other outputs cannot be judged; could not tell comes
    second; equivalent and within budget are what is left.
    """
    noise = case.reference.noise
    # a detector's boxes may change in number within a budget on mAP: such budgets judge, not shapes
    judging = [budget for budget in case.budgets if budget.is_of_outputs]
    shapes = bool(judging) and all(budget.metric in _BY_METRIC for budget in judging)
    reports = [each for pair in case.pairs for each in judge(pair, case.contract, noise, tolerate_shapes=shapes)]
    reached = figures(case.pairs, case.budgets, case.labels, case.metric, case.sizes)
    wrong = [_failure(report) for report in reports if not report.passed]
    wrong += [_over(result) for result in reached.budgets if not result.kept]
    doubts = _doubts(case)
    if wrong:
        outcome, reasons = Outcome.DIFFERENT, wrong
    elif doubts:
        outcome, reasons = Outcome.COULD_NOT_TELL, doubts
    else:
        lossy = case.contract is Contract.LOSSY
        outcome, reasons = (Outcome.WITHIN_BUDGET if lossy else Outcome.EQUIVALENT), []
    return Verdict(
        outcome,
        case.contract,
        outputs=tuple(reports),
        budgets=reached.budgets,
        metric=case.metric.name if case.metric else None,
        metric_before=reached.before,
        metric_after=reached.after,
        reasons=tuple(reasons),
        warnings=(*loose(reports), *noise.warnings, *_empty(reports)),
    )


def _failure(report: OutputReport) -> str:
    return (
        f"output {report.name!r} {report.problem} (onnxruntime's optimizations {'on' if report.optimized else 'off'})"
    )


def _over(result: BudgetResult) -> str:
    figure = f"{result.budget.metric} reached {result.budget.shown(result.reached)}"
    return f"over budget: {figure} where {result.budget} was asked for"


def _doubts(case: Case) -> list[str]:
    """Why no verdict is possible although nothing was found to differ."""
    said = []
    random = sorted(case.reference.unsteady())
    if random:
        names = ", ".join(map(repr, random))
        operators = case.reference.random_operators()
        cause = (
            f"because of {', '.join(operators[:4])}" if operators else "though it has no operator known to be random"
        )
        said.append(f"two equal runs of the original gave different values for {names}, {cause}")
    lost = dict.fromkeys(name for pair in case.pairs for name in unjudged(pair, case.contract, case.reference.noise))
    said += [f"the original's own rounding noise changes the shape of output {name!r} on every feed" for name in lost]
    return said


def _empty(reports: Sequence[OutputReport]) -> list[str]:
    if reports and not any(report.elements for report in reports):
        return ["every output was empty on these feeds, so only types and shapes were compared"]
    return []
