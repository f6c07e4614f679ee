"""Budgets: how far a lossy pass may move the outputs, in one spelling everywhere.

`sqnr_db>=30`       signal to quantization noise ratio of the worst output, decibels
`cosine>=0.999`     cosine similarity of the worst output
`max_error<=0.01`   largest element error over the RMS of the original's output, worst output
`agreement>=0.99`   fraction of rows whose top-1 is the original's; needs no labels
`top1_drop<=0.005`  top-1 accuracy before minus after, as a fraction; needs labels
`metric_drop<=0.01` the metric given with --metric, before minus after
`bytes<=5MB`        bytes of the file with its external data; `bytes<=0.3` as a fraction of the original's
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from graphopt.errors import UsageError

# name -> (direction, smallest and largest limit that mean something)
METRICS: Final[dict[str, tuple[str, float, float]]] = {
    "sqnr_db": (">=", -1000.0, 1000.0),
    "cosine": (">=", -1.0, 1.0),
    "agreement": (">=", 0.0, 1.0),
    "max_error": ("<=", 0.0, math.inf),
    "top1_drop": ("<=", -1.0, 1.0),
    "metric_drop": ("<=", -math.inf, math.inf),
    "bytes": ("<=", 0.0, math.inf),
}
NEEDS_LABELS: Final = frozenset({"top1_drop"})
NEEDS_METRIC: Final = frozenset({"metric_drop"})
BYTES: Final = "bytes"
UNITS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_UNIT: Final = re.compile(r"(?P<number>.*?)\s*(?P<unit>(?:[KMG]i?)?B)", re.DOTALL)

_SPELLING = re.compile(r"\s*(?P<name>[^\s<>=!]*)\s*(?P<sign>[<>=!]*)\s*(?P<number>.*?)\s*\Z", re.DOTALL)
_EXAMPLE = "for example 'sqnr_db>=30'"


@dataclass(frozen=True)
class Budget:
    """One limit on one figure. `metric` is a key of `METRICS`, which also gives its direction."""

    metric: str
    limit: float

    @property
    def direction(self) -> str:
        """`>=` where more is better, `<=` where less is."""
        return METRICS[self.metric][0]

    @property
    def needs_labels(self) -> bool:
        """Whether the figure cannot be computed without labels."""
        return self.metric in NEEDS_LABELS

    @property
    def is_of_outputs(self) -> bool:
        """Whether it limits what happens to the outputs, as LOSSY passes need; the size of the file does not."""
        return self.metric != BYTES

    @property
    def is_fraction(self) -> bool:
        """Whether bytes are limited to a fraction of the original's."""
        return self.metric == BYTES and self.limit <= 1.0

    @property
    def needs_metric(self) -> bool:
        """Whether the figure is that of the user's own metric."""
        return self.metric in NEEDS_METRIC

    def holds(self, value: float) -> bool:
        """Whether `value` keeps the budget. NaN never does."""
        return value >= self.limit if self.direction == ">=" else value <= self.limit

    def worse(self, one: float, other: float) -> float:
        """Whichever of two values is further from keeping the budget; NaN is the worst there is."""
        if math.isnan(one) or math.isnan(other):
            return math.nan
        return min(one, other) if self.direction == ">=" else max(one, other)

    def shown(self, value: float) -> str:
        """`value` in four digits, or in as many as show which side of the limit it is on."""
        for digits in range(4, 17):
            text = f"{value:.{digits}g}"
            if self.holds(float(text)) == self.holds(value):
                return text
        return repr(value)

    def __str__(self) -> str:
        number = repr(self.limit)
        return f"{self.metric}{self.direction}{number[:-2] if number.endswith('.0') else number}"


def parse_budget(text: str) -> Budget:
    """Read one budget such as `sqnr_db>=30` or `top1_drop<=0.005`.

    Raises `UsageError` with one sentence: unknown metric (with the nearest name), missing or
    wrong direction, missing number, percent sign, NaN, a limit outside the metric's range.
    """
    match = _SPELLING.match(text)
    if match is None or not match["name"]:
        raise UsageError(f"the budget {text!r} names no metric; write METRIC>=NUMBER, {_EXAMPLE}")
    name, sign, number = match["name"], match["sign"], match["number"]
    if name not in METRICS:
        near = difflib.get_close_matches(name.lower(), METRICS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the metrics are {', '.join(METRICS)}"
        raise UsageError(f"the budget {text!r} names an unknown metric {name!r}; {hint}")
    direction, least, most = METRICS[name]
    if sign != direction:
        said = f"has {sign!r}" if sign else "has no '>=' or '<='"
        better = "more" if direction == ">=" else "less"
        raise UsageError(
            f"the budget {text!r} {said}; {name} is better when {better}, so write {name}{direction}NUMBER"
        )
    if not number:
        raise UsageError(f"the budget {text!r} has no number after {sign!r}; write it in full, {_EXAMPLE}")
    return Budget(name, _limit(text, name, number, least, most))


def parse_budgets(texts: Iterable[str]) -> tuple[Budget, ...]:
    """Read several budgets; the same metric twice is an error, so that none is silently ignored."""
    budgets: dict[str, Budget] = {}
    for text in texts:
        budget = parse_budget(text)
        if budget.metric in budgets:
            raise UsageError(
                f"the metric {budget.metric!r} has two budgets, {budgets[budget.metric]} and {budget}; keep one"
            )
        budgets[budget.metric] = budget
    return tuple(budgets.values())


def _limit(text: str, name: str, number: str, least: float, most: float) -> float:
    if "%" in number:
        raise UsageError(f"the budget {text!r} has a percent sign; write a fraction, 0.5% is 0.005")
    unit = _UNIT.fullmatch(number) if name == BYTES else None
    plain = number if unit is None else unit["number"]
    try:
        if not plain.isascii():
            raise ValueError
        limit = float(plain.replace("_", "x")) * (1 if unit is None else UNITS[unit["unit"]])
    except ValueError:
        raise UsageError(f"the budget {text!r} has {number!r} where a number belongs; {_EXAMPLE}") from None
    if not math.isfinite(limit):
        raise UsageError(f"the budget {text!r} has {number!r} as its limit; a budget needs a finite number")
    if not least <= limit <= most:
        fraction = "; it is a fraction, half a percent is 0.005" if most == 1.0 and limit > 1.0 else ""
        span = f"between {least:g} and {most:g}" if math.isfinite(most) else f"at least {least:g}"
        raise UsageError(f"the budget {text!r} is out of range: {name} lies {span}{fraction}")
    return limit
