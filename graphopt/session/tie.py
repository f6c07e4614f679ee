"""Between models that are about as small, which is the fastest: measured when the search is through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from graphopt.errors import GraphoptError
from graphopt.runtime.failure import WorkerFailure
from graphopt.session.trying import Room
from graphopt.tune.objective import Objective
from graphopt.tune.trial import Ratio, Trial

RIVALS: Final = 4
"""Models that are raced at most, for each has to be made once more."""


def rivals(trials: Sequence[Trial], order: Sequence[int], others: Sequence[int], objective: Objective) -> list[int]:
    """The first of `order`, and of `others` those that count as equal to it, the least first."""
    if not order or not objective.close:
        return []
    most = objective.value(trials[order[0]]) * (1.0 + objective.close)
    near = [one for one in others if one != order[0] and objective.value(trials[one]) <= most]
    return [order[0], *sorted(near, key=lambda one: objective.value(trials[one]))][:RIVALS]


def raced(room: Room, trial: Trial, seconds: float) -> Trial:
    """The trial with its latency against the original's; as it is where that cannot be measured."""
    bench = room.bench(trial.rows)
    try:
        found = bench.latency(bench.original, room.made(trial), seconds)
    except (WorkerFailure, GraphoptError):
        return trial
    return replace(trial, latency=Ratio(found.ratio, found.low, found.high, found.noisy))


def fastest_first(trials: Sequence[Trial], places: Sequence[int]) -> list[int]:
    """The places, those first that are surely faster than the first of them, the fastest of these at the head."""
    first = trials[places[0]].latency
    if first is None:
        return [*places]
    sure = [one for one in places[1:] if (found := trials[one].latency) is not None and found.high < first.low]
    sure.sort(key=lambda one: trials[one].latency.ratio)  # type: ignore[union-attr]
    return [*sure, *(one for one in places if one not in sure)]
