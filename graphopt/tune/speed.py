"""Which units run slower quantized on this machine: whole models are timed in turn, a kind of units at a time.

A kernel's cost depends on its neighbours (a convolution between two quantized ones needs no conversions),
so nothing is timed alone. Units of a kind, which cost alike, are switched together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from graphopt.errors import CouldNotTell
from graphopt.measure.latency import Latency
from graphopt.runtime.failure import WorkerFailure
from graphopt.tune.bench import Bench
from graphopt.tune.splice import Splice, Unit
from graphopt.tune.whole import Whole

SURE: Final = 0.01  # how much of the whole model's time a switch has to save
PRICE: Final = 0.1  # ... and how much more for each part by which it makes the file grow
KINDS: Final = 10  # of units that are switched on their own; further ones are switched together


@dataclass
class Speed:
    """Makes a mixture faster, and remembers what each switch did to the latency of the whole model.

    `costs` has for each kind and variant the latency relative to that of the mixture as it was left.
    """

    splice: Splice | Whole
    bench: Bench
    limit: int | None = None  # bytes that the model must not exceed
    costs: dict[Hashable, dict[int, float]] = field(default_factory=dict)
    why: dict[Unit, str] = field(default_factory=dict)

    def kinds(self) -> dict[Hashable, list[Unit]]:
        """The units by kind, those with the most nodes first; the rarest kinds are one kind."""
        found: dict[Hashable, list[Unit]] = defaultdict(list)
        for unit in self.splice.units:
            found[unit.kind].append(unit)
        ordered = sorted(found.values(), key=lambda units: (-len(units), units[0].number))
        groups = ordered[:KINDS]
        if len(ordered) > KINDS:
            groups = [*ordered[: KINDS - 1], [unit for units in ordered[KINDS - 1 :] for unit in units]]
        return dict(enumerate(groups))

    def tune(self, mixture: dict[Unit, int]) -> dict[Unit, int]:
        """The mixture with each kind of units as whichever variant makes the model fastest.

        A switch is made when it is surely faster, by at least a hundredth, and by more where the file grows.
        """
        for number, units in self.kinds().items():
            costs = self.costs[number] = {mixture[units[0]]: 1.0}
            for option in _options(units):
                if option in costs:
                    continue
                switched = {**mixture, **_as(units, option)}
                found = self._race(mixture, switched)
                if found is None:
                    continue
                costs[option] = found.ratio
                if found.high < 1.0 and found.ratio < 1.0 - SURE - PRICE * self._growth(mixture, switched):
                    mixture = switched
                    costs.update({one: cost / found.ratio for one, cost in costs.items()})
            now = mixture[units[0]]
            if now != 0:
                slower = costs.get(0, 1.0)
                for unit in units:
                    self.why[unit] = f"otherwise the whole model takes {slower:.2f} times as long"
        return mixture

    def faster(self, mixture: dict[Unit, int], plain: int) -> tuple[dict[Unit, int], list[Unit]] | None:
        """The mixture with the one kind made float that gains most, however little; None where none gains."""
        best: tuple[float, dict[Unit, int], list[Unit]] | None = None
        for units in self.kinds().values():
            some = [unit for unit in units if mixture[unit] != plain]
            if not some:
                continue
            switched = {**mixture, **_as(some, plain)}
            found = self._race(mixture, switched)
            if found is not None and found.ratio < 1.0 and (best is None or found.ratio < best[0]):
                best = (found.ratio, switched, some)
                for unit in some:
                    self.why[unit] = f"otherwise the whole model takes {1 / found.ratio:.2f} times as long"
        return None if best is None else best[1:]

    def _growth(self, one: dict[Unit, int], other: dict[Unit, int]) -> float:
        before, after = (len(self.splice.mixed(mixture)) for mixture in (one, other))
        return max(0.0, after / before - 1.0)

    def _race(self, one: dict[Unit, int], other: dict[Unit, int]) -> Latency | None:
        try:
            made = self.splice.mixed(other)
            if self.limit is not None and len(made) > self.limit:
                return None
            return self.bench.latency(self.splice.mixed(one), made)
        except (WorkerFailure, CouldNotTell):
            return None


def _options(units: list[Unit]) -> list[int]:
    """The variants that are different for some of the units."""
    return sorted({option for unit in units for option in unit.options()})


def _as(units: list[Unit], option: int) -> dict[Unit, int]:
    return dict.fromkeys(units, option)
