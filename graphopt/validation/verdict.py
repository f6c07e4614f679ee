"""What validation says, as facts that print as a sentence, as JSON, and as an exit code."""

from __future__ import annotations

import dataclasses
import enum
import math
from dataclasses import dataclass, field
from typing import Any, Final

from graphopt.contract import Contract
from graphopt.validation.budget import Budget
from graphopt.validation.segments.report import SegmentsReport


class Outcome(enum.Enum):
    """The five ways a validation ends. `COULD_NOT_TELL` is never counted as passed."""

    EQUIVALENT = "equivalent"
    WITHIN_BUDGET = "within budget"
    DIFFERENT = "different"
    COULD_NOT_TELL = "could not tell"
    NOT_VALIDATED = "not validated"

    def __str__(self) -> str:
        return self.value


EXIT_CODES: Final[dict[Outcome, int]] = {
    Outcome.EQUIVALENT: 0,
    Outcome.WITHIN_BUDGET: 0,
    Outcome.NOT_VALIDATED: 0,
    Outcome.DIFFERENT: 1,
    Outcome.COULD_NOT_TELL: 6,
}


@dataclass(frozen=True)
class OutputReport:
    """How one output compared over all feeds, in one mode.

    `optimized` tells the mode: onnxruntime's optimizations and prepacking on, or off.
    `scaled_error` is the largest |a-b| over the RMS of the reference, worst feed; `sqnr_db` and
    `cosine` are over the summed energies of all feeds, the `worst_` ones of one feed.
    `agreement` is the fraction of rows (last axis) with the same top-1, or of equal elements
    for integer outputs; None where neither means anything. `noise` is the original's own
    rounding noise in the unit of `scaled_error`, `bound` what was allowed; None where it was
    not needed. `unstable` counts elements whose value the original itself does not keep under
    rounding, `problem` says in a clause why the output failed, "" where it did not.
    """

    name: str
    optimized: bool
    kind: str
    elements: int
    differing: int
    scaled_error: float
    sqnr_db: float
    worst_sqnr_db: float
    cosine: float
    worst_cosine: float
    agreement: float | None = None
    noise: float | None = None
    bound: float | None = None
    unstable: int = 0
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether this output holds in this mode."""
        return not self.problem


@dataclass(frozen=True)
class BudgetResult:
    """A budget and what was reached: optimizations off, on, and the worse of the two."""

    budget: Budget
    off: float
    on: float

    @property
    def reached(self) -> float:
        """The worse of the two modes, which is what the budget is held to."""
        return self.budget.worse(self.off, self.on)

    @property
    def kept(self) -> bool:
        """Whether the budget holds in both modes."""
        return self.budget.holds(self.off) and self.budget.holds(self.on)

    def sentence(self) -> str:
        """Such as `sqnr_db>=30 kept: 41.2` or `sqnr_db>=30 missed: 12.1`."""
        return f"{self.budget} {'kept' if self.kept else 'missed'}: {self.budget.shown(self.reached)}"


@dataclass(frozen=True)
class FeedsReport:
    """Where the inputs came from: `source` and, for each binding of sizes, its shapes in words; `part` says which
    samples of the source they are where they are not all."""

    generated: bool
    count: int
    source: str
    shapes: tuple[str, ...] = ()
    seed: int | None = None
    part: str = ""


@dataclass(frozen=True)
class Verdict:
    """What validation says of a candidate against its reference.

    `reasons` are sentences that explain the outcome, `warnings` sentences that weaken it.
    `metric_before` and `metric_after` are the metric of the reference and of the candidate (the
    worse mode), None where no metric applies. `segments` says how models were run that were not loaded whole.
    """

    outcome: Outcome
    contract: Contract
    outputs: tuple[OutputReport, ...] = ()
    budgets: tuple[BudgetResult, ...] = ()
    metric: str | None = None
    metric_before: float | None = None
    metric_after: float | None = None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    feeds: FeedsReport | None = None
    segments: SegmentsReport | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def passed(self) -> bool:
        """True only for equivalent and within budget."""
        return self.outcome in (Outcome.EQUIVALENT, Outcome.WITHIN_BUDGET)

    @property
    def exit_code(self) -> int:
        """0 passed or validation switched off, 1 different or over budget, 6 could not tell."""
        return EXIT_CODES[self.outcome]

    def sentence(self) -> str:
        """One line for the screen."""
        said = f"{self.outcome} ({self.contract})"
        if self.outcome is Outcome.NOT_VALIDATED:
            return f"{self.outcome}: {self.reasons[0]}" if self.reasons else str(self.outcome)
        if not self.passed:
            return f"{said}: {self.reasons[0]}" if self.reasons else said
        same = bool(self.outputs) and all(report.differing == 0 for report in self.outputs)
        details = [result.sentence() for result in self.budgets if not same] or [self._closest()]
        details += self._similarity() if not same else []
        if self.metric_before is not None and self.metric_after is not None:
            details.append(f"{self.metric} {_number(self.metric_before)} -> {_number(self.metric_after)}")
        if self.feeds is not None:
            kind = "generated feed" if self.feeds.generated else "feed"
            details.append(f"{self.feeds.count} {kind}{'' if self.feeds.count == 1 else 's'}")
        return f"{said}: {', '.join(detail for detail in details if detail)}"

    def figures(self) -> dict[str, float]:
        """What was measured, by name: what budgets are on, SQNR and cosine of the worst output, the metric."""
        found = {one.budget.metric: one.reached for one in self.budgets}
        floats = [one for one in self.outputs if one.kind in ("float", "mixed")]
        if floats:
            found.setdefault("sqnr_db", min(one.sqnr_db for one in floats))
            found.setdefault("cosine", min(one.cosine for one in floats))
        if self.metric_before is not None and self.metric_after is not None:
            found["metric_before"], found["metric_after"] = self.metric_before, self.metric_after
        return found

    def _similarity(self) -> list[str]:
        """Of a LOSSY result, what its budgets did not ask for: SQNR and cosine of the worst output."""
        asked = {result.budget.metric for result in self.budgets}
        floats = [report for report in self.outputs if report.kind in ("float", "mixed")]
        if self.contract is not Contract.LOSSY or not floats:
            return []
        worst = min(floats, key=lambda report: report.sqnr_db)
        said = [] if "sqnr_db" in asked else [f"SQNR {_number(worst.sqnr_db)} dB"]
        return said if "cosine" in asked else [*said, f"cosine {min(each.cosine for each in floats):.6g}"]

    def _closest(self) -> str:
        """How near the worst output came to its bound."""
        if not self.outputs:
            return ""
        if all(report.differing == 0 for report in self.outputs):
            return "all outputs bit for bit the same"
        worst = max(self.outputs, key=lambda report: report.scaled_error / (report.bound or math.inf))
        if worst.bound is None:
            return f"worst output {worst.name!r} at {_number(worst.sqnr_db)} dB"
        return f"worst output {worst.name!r} off by {worst.scaled_error:.2g} of the {worst.bound:.2g} allowed"

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; infinities and NaN become the strings inf, -inf and nan."""
        plain: dict[str, Any] = {
            "outcome": self.outcome.value,
            "passed": self.passed,
            "exit_code": self.exit_code,
            "contract": str(self.contract),
            "sentence": self.sentence(),
            "reasons": list(self.reasons),
            "warnings": list(self.warnings),
            "outputs": [{**dataclasses.asdict(report), "passed": report.passed} for report in self.outputs],
            "budgets": [
                {
                    "budget": str(result.budget),
                    "off": result.off,
                    "on": result.on,
                    "reached": result.reached,
                    "kept": result.kept,
                }
                for result in self.budgets
            ],
            "metric": None
            if self.metric_before is None
            else {"name": self.metric, "before": self.metric_before, "after": self.metric_after},
            "feeds": None
            if self.feeds is None
            else {**dataclasses.asdict(self.feeds), "shapes": list(self.feeds.shapes)},
            "segments": None if self.segments is None else dataclasses.asdict(self.segments),
            "seconds": round(self.seconds, 3),
        }
        finite: dict[str, Any] = _finite(plain)
        return finite


def not_validated(reason: str = "validation was switched off", contract: Contract = Contract.EXACT) -> Verdict:
    """The verdict of a run whose validation was switched off, or that had nothing to validate."""
    return Verdict(Outcome.NOT_VALIDATED, contract, reasons=(reason,))


def _number(value: float) -> str:
    return f"{value:.4g}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
