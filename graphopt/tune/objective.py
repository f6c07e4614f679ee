"""What a search makes small, what it must keep, and how two trials compare under both."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from graphopt.tune.front import layers
from graphopt.tune.trial import FAILED, Trial
from graphopt.validation.budget import Budget

MINIMIZE: Final = ("size", "latency", "energy-proxy")
"""What `--minimize` takes."""

_COUNTED: Final = ("agreement", "top1_drop", "metric_drop")  # shares of rows: few rows tell them badly
_LENIENT: Final = 0.25  # on n rows a counted share may be off by this over the root of n
_LENIENT_DB: Final = 0.5
_NEARLY: Final = 0.2  # of that: a sample or two, by which a share may be off though all samples were measured
_AXES: Final = {"size": "bytes", "latency": "latency", "energy-proxy": "energy"}


@dataclass(frozen=True)
class Objective:
    """What is minimized under which budgets. `compressed` counts the bytes of the packed file as the size; `close` is
    the part of the least by which another may be above it and count as equal, so that the faster one is taken."""

    minimize: str
    budgets: tuple[Budget, ...]
    compressed: bool = False
    close: float = 0.0

    @property
    def timed(self) -> bool:
        """Whether latency has to be measured."""
        return self.minimize == "latency"

    @property
    def axes(self) -> tuple[str, str]:
        """The two figures that the front is about: what is minimized, and how near the outputs are."""
        first = "compressed" if self.compressed and self.minimize == "size" else _AXES[self.minimize]
        return first, self.nearness.metric

    @property
    def nearness(self) -> Budget:
        """The figure that says how near the outputs are: that of the first budget that is no count of rows, of which
        small steps can be told apart; else decibels."""
        graded = [one for one in self.budgets if one.is_of_outputs and one.metric not in _COUNTED]
        return graded[0] if graded else Budget("sqnr_db", -1000.0)

    def value(self, trial: Trial) -> float:
        """What is made small; infinite where there is no result or no figure."""
        if trial.status == FAILED:
            return math.inf
        found: float | None
        if self.minimize == "size":
            found = trial.compressed if self.compressed else trial.bytes
        elif self.minimize == "latency":
            found = None if trial.latency is None else trial.latency.ratio
        else:
            found = trial.energy
        return math.inf if found is None or math.isnan(found) else float(found)

    def point(self, trial: Trial) -> tuple[float, float]:
        """Both figures of the front, less being better."""
        reached = trial.reached.get(self.nearness.metric, math.nan)
        if math.isnan(reached) or trial.status == FAILED:
            return self.value(trial), math.inf
        return self.value(trial), -reached if self.nearness.direction == ">=" else reached

    def keeps(self, reached: Mapping[str, float]) -> bool:
        """Whether figures keep every budget."""
        return all(one.holds(reached.get(one.metric, math.nan)) for one in self.budgets)

    def hopeful(self, trial: Trial) -> bool:
        """Whether a trial may keep every budget on more rows: a share of few rows is given the benefit of doubt."""
        if trial.status == FAILED:
            return False
        return all(_lenient(one, trial.rows).holds(trial.reached.get(one.metric, math.nan)) for one in self.budgets)

    def nearly(self, trial: Trial) -> bool:
        """Whether a trial keeps every budget, or misses shares of rows by so little that other rows have to tell."""
        if trial.status == FAILED:
            return False
        asked = (_lenient(one, trial.rows, _NEARLY) if one.metric in _COUNTED else one for one in self.budgets)
        return all(one.holds(trial.reached.get(one.metric, math.nan)) for one in asked)

    def missed(self, reached: Mapping[str, float]) -> str:
        """In a clause which budgets are not kept, and by what."""
        said = []
        for one in self.budgets:
            value = reached.get(one.metric, math.nan)
            if not one.holds(value):
                said.append(f"{one.metric} {one.shown(value)}, where {one} was asked for")
        return "; ".join(said)


def best_first(trials: Sequence[Trial], objective: Objective) -> list[int]:
    """The places of trials that have a result, those of which something better may still come first: front by front,
    on each those that may keep the budgets, the least objective first."""
    alive = [place for place, one in enumerate(trials) if one.status != FAILED]
    depth = dict(zip(alive, layers([objective.point(trials[place]) for place in alive]), strict=True))
    return sorted(
        alive,
        key=lambda place: (
            depth[place],
            not objective.hopeful(trials[place]),
            objective.value(trials[place]),
            place,
        ),
    )


def _lenient(budget: Budget, rows: int, part: float = 1.0) -> Budget:
    """The budget that a trial on few rows is held to; `part` of what it is given."""
    if budget.metric in _COUNTED:
        slack = part * _LENIENT / math.sqrt(max(rows, 1))
        sign = -1.0 if budget.direction == ">=" else 1.0
        return dataclasses.replace(budget, limit=budget.limit + sign * slack)
    if budget.metric == "sqnr_db":
        return dataclasses.replace(budget, limit=budget.limit - _LENIENT_DB)
    return budget
