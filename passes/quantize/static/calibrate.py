"""The ranges of the values to quantize: one streamed run over the calibration feeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphopt.analysis.activations import Extremes, Observation
from graphopt.analysis.constants import constant_values
from graphopt.analysis.ranges import Counted, entropy, least_square_error, percentile
from graphopt.analysis.spread import Spread
from graphopt.ir import Tensor
from graphopt.pipeline.protocol import Context
from passes.quantize.grid import Grid
from passes.quantize.static.choice import Choice
from passes.quantize.static.grids import activation_grid, levels
from passes.quantize.static.schemes import Scheme
from passes.quantize.static.units import Unit

Method = Literal["min-max", "percentile", "entropy", "mse"]

_MOST = 1 << 16  # elements of a value that are counted in each piece of a feed; the ends are those of all of them


@dataclass(frozen=True)
class Wanted:
    """How ranges are found: the method, the share that percentile keeps, and the codes."""

    method: Method
    percentile: float
    code: np.dtype[Any]
    symmetric: bool


class Ranges:
    """Answers, remembered, so that a value is asked about once."""

    def __init__(self, ctx: Context, wanted: Wanted, besides: Sequence[Observation] = ()) -> None:
        """`besides` are further questions for the first run."""
        self._ctx, self._wanted = ctx, wanted
        self._besides = list(besides)
        self._seen: dict[frozenset[Tensor], tuple[float, float] | str] = {}

    def learn(self, choice: Choice) -> dict[Tensor, str]:
        """Ask about all groups of a choice; gives a clause for each value whose range cannot be known."""
        asked = {frozenset(one): one for group in choice.groups if (one := _sources(group, choice))}
        new = {key: one for key, one in asked.items() if key not in self._seen}
        if new:
            self._ask(new)
        return {
            value: found
            for group in choice.groups
            for found in [self._seen.get(frozenset(_sources(group, choice)), "its range is not known")]
            if isinstance(found, str)
            for value in group
        }

    def _ask(self, new: dict[frozenset[Tensor], list[Tensor]]) -> None:
        made = (lambda: Spread(most=_MOST)) if self._needs_histogram else Extremes
        asked = {key: Observation(tuple(values), made()) for key, values in new.items()}
        refused = self._ctx.calibration.observe([*asked.values(), *self._besides]).refused
        self._besides.clear()
        for key, question in asked.items():
            seen = question.accumulator
            assert isinstance(seen, Spread | Extremes)
            low, high = float(seen.low), float(seen.high)
            if question in refused:
                self._seen[key] = refused[question]
            elif not seen.finite:
                self._seen[key] = "it was not finite on all calibration feeds"
            elif low > high:
                self._seen[key] = "it was empty on all calibration feeds"
            elif high > low and isinstance(seen, Spread):
                ends = self._chosen(Counted(*seen.between()))  # on borders of bins, which lie a little outside
                self._seen[key] = (max(ends[0], low), min(ends[1], high))
            else:
                self._seen[key] = (low, high)

    @property
    def _needs_histogram(self) -> bool:
        fine = self._wanted.code.itemsize > 1
        return self._wanted.method == "percentile" or (self._wanted.method != "min-max" and not fine)

    def _chosen(self, found: Counted) -> tuple[float, float]:
        wanted = self._wanted
        if wanted.method == "percentile":
            return percentile(found, wanted.percentile)
        if wanted.method == "entropy":
            return entropy(found, levels(wanted.code))
        return least_square_error(found, levels(wanted.code), symmetric=wanted.symmetric)

    def grids(self, choice: Choice, scheme: Scheme) -> dict[Tensor, Grid]:
        """The grid of every value of a choice that `learn` knows all of."""
        bounds = {unit.results[0]: unit.bounds for unit in choice.units if unit.absorbed is not None}
        extra = _constants(choice)
        grids: dict[Tensor, Grid] = {}
        for group in choice.groups:
            found = self._seen[frozenset(_sources(group, choice))]
            assert not isinstance(found, str)
            low = min([found[0], *(extra[value][0] for value in group if value in extra)])
            high = max([found[1], *(extra[value][1] for value in group if value in extra)])
            limit = _common(group, bounds)
            # Kernels that make integers take the end of the range for the limit of a Relu: its zero is there.
            symmetric = self._wanted.symmetric and not (scheme.outputs and limit[0] >= 0)
            grid = activation_grid(low, high, self._wanted.code, symmetric=symmetric, bounds=limit)
            grids.update(dict.fromkeys(group, grid))
        return grids


def _sources(group: Sequence[Tensor], choice: Choice) -> list[Tensor]:
    """The values of a group that no mover makes of others: they hold every element there is."""
    moved = {result for unit in choice.units if unit.kind == "mover" for result in unit.results}
    return [value for value in group if value not in moved]


def _common(group: Sequence[Tensor], bounds: dict[Tensor, tuple[float, float]]) -> tuple[float, float]:
    """The bounds that hold for every limited value of a group."""
    given = [bounds[value] for value in group if value in bounds]
    return max([-math.inf, *(one[0] for one in given)]), min([math.inf, *(one[1] for one in given)])


def _constants(choice: Choice) -> dict[Tensor, tuple[float, float]]:
    """For the results of movers that join constants to activations: the range of those constants."""
    found: dict[Tensor, tuple[float, float]] = {}
    for unit in choice.units:
        if unit.kind == "mover" and unit.constants:
            arrays = [constant_values(unit.node.inputs[slot]) for slot in unit.constants]
            spans = [(float(one.min()), float(one.max())) for one in arrays if one is not None and one.size]
            found[unit.results[0]] = (min(low for low, _ in spans), max(high for _, high in spans))
    return found


def units_reading(choice: Choice, refused: dict[Tensor, str]) -> dict[Unit, str]:
    """The units that a value of unknown range takes with it, and why."""
    return {
        unit: f"{value.name!r} has no known range: {refused[value]}"
        for unit in choice.units
        for value in (*unit.results, *unit.read)
        if value in refused
    }
