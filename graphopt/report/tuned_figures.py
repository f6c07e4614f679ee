"""The figures of a search in words: what an axis is called, what a trial has on it, and how that is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from graphopt.report.text import count, file_size
from graphopt.tune.trial import FAILED, KEPT, Ratio, Trial, Tuned
from graphopt.validation.budget import METRICS, Budget, parse_budget

OF_FILE: Final = ("bytes", "compressed", "macs", "latency", "energy")
"""What a trial has besides what was measured of its outputs."""

_TITLES: Final = {
    "bytes": "file size",
    "compressed": "compressed size",
    "macs": "multiply-accumulates",
    "latency": "latency, the original's is 1",
    "energy": "energy proxy, the original's is 1",
    "sqnr_db": "SQNR of the worst output, dB",
    "cosine": "cosine similarity of the worst output",
    "max_error": "largest error of the worst output",
    "agreement": "rows with the original's top-1",
    "top1_drop": "drop of top-1 accuracy",
    "metric_drop": "drop of the metric",
}
_HEADS: Final = {
    "bytes": "file", "compressed": "packed", "macs": "MACs", "latency": "latency", "energy": "energy",
    "sqnr_db": "SQNR", "top1_drop": "top-1 drop", "metric_drop": "drop", "max_error": "max error",
}  # fmt: skip
MINIMIZED: Final = {"size": "file size", "latency": "latency", "energy-proxy": "energy proxy"}


@dataclass(frozen=True)
class Rung:
    """How many candidates were measured on so many rows and no more, and how many of them kept the budgets."""

    rows: int
    ended: int
    kept: int


def title(field: str) -> str:
    """What an axis is called."""
    return _TITLES.get(field, field.replace("_", " "))


def head(field: str) -> str:
    """The same as short as the head of a column has it."""
    return _HEADS.get(field, field.replace("_", " "))


def less_is_better(field: str) -> bool:
    """Whether the best end of an axis is its low one."""
    return field in OF_FILE or METRICS.get(field, (">=", 0, 0))[0] == "<="


def value_of(trial: Trial, field: str) -> float | None:
    """A trial's figure; None where it was not measured or means nothing."""
    found: float | None
    if trial.status == FAILED:
        return None
    if field == "latency":
        found = None if trial.latency is None else trial.latency.ratio
    elif field in OF_FILE:
        found = getattr(trial, field)
        found = found or None if field in ("bytes", "compressed") else found
    else:
        found = trial.reached.get(field)
    return None if found is None or math.isnan(found) else float(found)


def written(field: str, value: float | None) -> str:
    """A figure for people; empty for none."""
    if value is None or math.isnan(value):
        return ""
    if field in ("bytes", "compressed"):
        return file_size(int(value))
    if field == "macs":
        return count(int(value))
    if field in ("latency", "energy"):
        return f"x {value:.2f}" if value >= 0.095 else f"x {value:.3f}"
    if math.isinf(value):
        return "exact" if (value > 0) != less_is_better(field) else "none"
    if field == "sqnr_db":
        return f"{value:.1f} dB"
    if field == "agreement":
        return f"{100 * value:.2f} %"
    if field in ("top1_drop", "metric_drop"):
        return f"{value + 0.0:.4f}" if value else "0"
    return f"{value:.4g}" if field != "cosine" else f"{value:.5f}"


def interval(ratio: Ratio | None) -> str:
    """The latency with its interval."""
    if ratio is None:
        return ""
    return f"{written('latency', ratio.ratio)} ({ratio.low:.2f} to {ratio.high:.2f}){', noisy' if ratio.noisy else ''}"


def budgets_of(found: Tuned) -> dict[str, Budget]:
    """The budgets by their metric."""
    several = (parse_budget(text) for text in found.budgets)
    return {one.metric: one for one in several}


def figures_shown(found: Tuned) -> list[str]:
    """The columns of a table of trials, those that any trial has a figure in: the axes first."""
    wanted = [*found.axes, "bytes", "latency", "energy", *budgets_of(found)]
    several = dict.fromkeys(wanted)
    if "compressed" in several:
        several.setdefault("bytes")
    trials = [found.original, *found.trials]
    return [field for field in several if any(value_of(one, field) is not None for one in trials)]


def techniques(found: Tuned) -> list[str]:
    """The techniques that were tried, the most successful first: on the front, then kept, then the others."""
    ranks: dict[str, tuple[int, int]] = {}
    on_front = set(found.front)
    for place, one in enumerate(found.trials):
        rank = 0 if place in on_front else 1 if one.status == KEPT else 2
        name = one.candidate.technique
        ranks[name] = min(ranks.get(name, (rank, place)), (rank, place))
    return sorted(ranks, key=lambda name: ranks[name])


def rungs(found: Tuned) -> list[Rung]:
    """On how many rows the search ended for how many candidates, the fewest rows first."""
    rows: dict[int, list[Trial]] = {}
    for one in found.trials:
        if one.rows:
            rows.setdefault(one.rows, []).append(one)
    return [Rung(each, len(rows[each]), sum(one.status == KEPT for one in rows[each])) for each in sorted(rows)]


def model_name(found: Tuned) -> str:
    """The model's file, without its folders."""
    return PurePath(found.model).name or "the model"


def tried(found: Tuned) -> str:
    """In a clause how many candidates were tried, and what came of them."""
    several = len(found.trials)
    kept = sum(one.status == KEPT for one in found.trials)
    failed = sum(one.status == FAILED for one in found.trials)
    said = f"{several} candidate{_s(several)} tried, {kept} kept the budgets" if several else "nothing was tried"
    return said + (f", {failed} gave no result" if failed else "")


def times_smaller(found: Tuned, field: str) -> str:
    """The chosen model's figure against the original's, such as `x 0.24`; empty where there is none."""
    if found.chosen is None:
        return ""
    before, after = value_of(found.original, field), value_of(found.trials[found.chosen], field)
    return "" if not before or after is None else f"x {after / before:.2f}"


def ordered(places: Sequence[int], found: Tuned) -> list[int]:
    """Places of trials, the best in the first axis first; those without a figure last."""
    sign = 1.0 if less_is_better(found.axes[0]) else -1.0

    def key(place: int) -> tuple[float, int]:
        value = value_of(found.trials[place], found.axes[0])
        return (math.inf if value is None else sign * value, place)

    return sorted(places, key=key)


def _s(number: int) -> str:
    return "" if number == 1 else "s"
