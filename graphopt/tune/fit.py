"""Fits one pipeline to a model: which of its levers may take which nodes, so that a budget is kept.

First the machine speaks: kinds of nodes that run slower quantized are left. Then, where the budget is not
kept, nodes are put back, those first that save most error for their cost, and the model is measured again,
until it is kept. What comes out is run as the ordinary pipeline that it is, and measured as such.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from graphopt.errors import GraphoptError
from graphopt.measure.latency import Latency
from graphopt.pipeline.pipeline import Pipeline
from graphopt.runtime.failure import WorkerFailure
from graphopt.tune.allocation import Move, Rung, applied, fewest, moves, spared
from graphopt.tune.bench import Bench, db_of, kept, shown
from graphopt.tune.levers import Choice, chosen, levers, subsets
from graphopt.tune.plan import Stayed, Tried
from graphopt.tune.sensitivity import predicted
from graphopt.tune.speed import Speed
from graphopt.tune.splice import Unit
from graphopt.tune.variants import Variant, Workshop
from graphopt.tune.whole import spliced

_ROUNDS: Final = 6  # of putting back more where the real pipeline is not within the budget

SLOWER: Final = 0.01  # by how much the median may be above float's: two sessions of one model differ by as much
_WORTH: Final = 0.001  # of all the error: a unit behind less is not measured in between

Mixture = dict[Unit, int]


@dataclass(frozen=True)
class Limits:
    """What a candidate must keep besides the budgets of its bench: bytes of the file, and not being slower."""

    bytes: int | None = None
    timed: bool = True


class _Refused(Exception):
    """Nothing comes of a candidate, for the reason given in a clause."""


@dataclass
class Fit:
    """One candidate on its way. `run` gives what came of it and never raises what the candidate did.

    `known` are errors of nodes that were predicted before, by the names of nodes and weights: where they are known of
    all nodes but a few, those of these few are measured, and the order of the others is taken on trust.
    """

    workshop: Workshop
    bench: Bench
    pipeline: Pipeline
    limits: Limits
    original_bytes: int
    known: Mapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    why: dict[Unit, str] = field(default_factory=dict)
    _size: int = 0  # of the mixture that nodes are put back from

    def run(self) -> Tried:
        """Fit the pipeline."""
        start, runs, races = time.perf_counter(), self.bench.runs, self.bench.races
        try:
            found = self._fitted()
        except _Refused as refused:
            found = Tried(self.pipeline, None, str(refused))
        except WorkerFailure as failure:
            found = Tried(self.pipeline, None, f"onnxruntime fails on it: {str(failure).rstrip('. ')}")
        except GraphoptError as error:
            found = Tried(self.pipeline, None, str(error).rstrip(". "))
        return replace(
            found,
            notes=tuple(self.notes),
            runs=self.bench.runs - runs,
            races=self.bench.races - races,
            seconds=time.perf_counter() - start,
        )

    def _fitted(self) -> Tried:
        self.variants = self._variants()
        self.splice, whole = spliced(self.variants)
        if whole is not None:
            self.notes.append(whole)
        if not self.splice.units:
            raise _Refused(f"its passes quantize nothing of this model{self._missed()}")
        self.plain = len(self.variants) - 1
        self.speed = Speed(self.splice, self.bench, self.limits.bytes, why=self.why)
        mixture = self.splice.everything(0)
        if self.limits.timed:
            mixture = self.speed.tune(mixture)
        return self._settled(self._within(mixture))

    def _variants(self) -> list[Variant]:
        """A variant for each subset of levers that runs; the last one is without any."""
        every = subsets(self.pipeline)
        if len(every) < 2:
            raise _Refused("it has no pass that quantizes and has the option skip")
        found: list[Variant] = []
        for subset in every:
            try:
                made = self.workshop.variant(self.pipeline, subset)
            except GraphoptError:
                if subset == every[-1] or subset == every[0]:
                    raise
                continue
            if not subset or all(made.data != one.data for one in found):
                found.append(made)
        return found

    def _missed(self) -> str:
        """Why the levers took nothing, most often."""
        steps = {self.pipeline.steps[step].name for step in levers(self.pipeline)}  # type: ignore[union-attr]
        missed = Counter(
            one.why for one in self.variants[0].outcome.remarks if one.kind == "missed" and one.pass_name in steps
        )
        return f", most often because {missed.most_common(1)[0][0]}" if missed else ""

    def _within(self, mixture: Mixture) -> Mixture:
        """The mixture with as much put back as the budget asks for, and no more."""
        if self._holds(mixture):
            return mixture
        units, alone = self._energies(mixture)
        self._size = len(self.splice.mixed(mixture))
        ladders = [self._ladder(unit, mixture, alone[unit], sum(alone.values())) for unit in units]
        found = moves(ladders)
        start = {place: mixture[unit] for place, unit in enumerate(units)}

        def mixed(made: Sequence[Move[int]]) -> Mixture:
            return {**mixture, **{units[place]: option for place, option in applied(start, made).items()}}

        count = fewest(len(found), lambda many: self._holds(mixed(found[:many])))
        if count is None:
            raise _Refused(f"even with nothing quantized it does not keep the budget ({self._figures(mixed(found))})")
        made = spared(found[:count], lambda some: self._holds(mixed(some)))
        return mixed(made)

    def _energies(self, mixture: Mixture) -> tuple[list[Unit], dict[Unit, float]]:
        """The units that are not as they were, and the energy of the error that each is behind."""
        units = [unit for unit in self.splice.units if mixture[unit] != self.plain]
        known = self._foretold(units)
        alone = predicted(units, known, lambda some: self._alone(mixture, some))
        for unit, energy in alone.items():
            brings = "is predicted to bring" if unit in known else "brings"
            self.why.setdefault(unit, f"quantized alone it {brings} the outputs to {db_of(energy):.1f} dB")
        return units, alone

    def _foretold(self, units: Collection[Unit]) -> dict[Unit, float]:
        """The errors that are known of units, before anything is measured."""
        found = {}
        for unit in units:
            names = {*unit.nodes, *unit.values, *(one.node for taken in unit.taken for one in taken)}
            errors = [self.known[name] for name in names if name in self.known]
            if errors:
                found[unit] = max(errors)
        return found

    def _ladder(self, unit: Unit, mixture: Mixture, energy: float, total: float) -> list[Rung[int]]:
        """The ways to have a unit: as it is, in between where that is worth measuring, and as it was."""
        now = mixture[unit]
        between = [one for one in unit.options() if unit.kinds[one] not in (unit.kinds[now], unit.kinds[self.plain])]
        ends = Rung(now, energy, 0.0), Rung(self.plain, 0.0, self._cost(unit, mixture, self.plain))
        worth = between if energy > _WORTH * total else []
        return [
            ends[0],
            *(Rung(one, self._alone({unit: one}, [unit]), self._cost(unit, mixture, one)) for one in worth),
            ends[1],
        ]

    def _cost(self, unit: Unit, mixture: Mixture, option: int) -> float:
        """What putting one unit back costs: the part by which the file grows and the model slows down."""
        bytes_ = len(self.splice.mixed({**mixture, unit: option})) / max(self._size, 1) - 1.0
        if self.limits.bytes is not None or not self.limits.timed:
            return bytes_
        for number, units in self.speed.kinds().items():
            if unit in units:
                costs = self.speed.costs.get(number, {})
                return bytes_ + (costs.get(option, 1.0) - 1.0) / len(units)
        return bytes_

    def _alone(self, mixture: Mixture, some: Collection[Unit]) -> float:
        """The energy of the error with only some units as the mixture has them, and the others as they were."""
        return self.bench.error(
            self.splice.mixed({**self.splice.everything(self.plain), **{unit: mixture[unit] for unit in some}})
        )

    def _holds(self, mixture: Mixture) -> bool:
        try:
            return kept(self.bench.figures(self.splice.mixed(mixture)))
        except WorkerFailure:
            return False

    def _figures(self, mixture: Mixture) -> str:
        return shown(self.bench.figures(self.splice.mixed(mixture)))

    def _settled(self, mixture: Mixture) -> Tried:
        """Run the mixture as a pipeline; put back more where that is over the budget or slower than float."""
        for _ in range(_ROUNDS):
            pipeline = self._emitted(mixture)
            if all(option == self.plain for option in mixture.values()):
                raise _Refused("nothing that it quantizes keeps the budget and is not slower than float")
            _, data = self.workshop.run(pipeline)
            figures = self.bench.figures(data, both=True)
            if not kept(figures):
                mixture = self._more(mixture)
                continue
            timing = self.bench.latency(self.bench.original, data) if self.limits.timed else None
            if timing is not None and timing.ratio > 1.0 + SLOWER:
                better = self.speed.faster(mixture, self.plain)
                if better is None:
                    raise _Refused(f"it takes {timing.ratio:.2f} times as long as float")
                mixture = better[0]
                continue
            return self._tried(pipeline, mixture, data, shown(figures), timing)
        raise _Refused(f"it was over the budget or slower than float after {_ROUNDS} rounds of putting nodes back")

    def _more(self, mixture: Mixture) -> Mixture:
        """The mixture with another eighth of the units put back, the worst of them."""
        units, alone = self._energies(mixture)
        worst = sorted(units, key=lambda unit: (-alone[unit], unit.number))[: max(1, len(units) // 8)]
        return {**mixture, **dict.fromkeys(worst, self.plain)}

    def _emitted(self, mixture: Mixture) -> Pipeline:
        """The pipeline whose levers take what the mixture says."""
        taken: dict[int, dict[str, None]] = {step: {} for step in levers(self.pipeline)}
        skip: dict[int, dict[str, None]] = {step: {} for step in levers(self.pipeline)}
        for unit, option in mixture.items():
            now = {(one.step, one.node) for one in unit.taken[option]}
            every = {(one.step, one.node) for several in unit.taken for one in several}
            for step, node in sorted(every):
                (taken if (step, node) in now else skip)[step][node] = None
        return chosen(
            self.pipeline,
            {step: Choice(tuple(taken[step]), tuple(name for name in skip[step] if name not in taken[step]))
             for step in taken},
        )  # fmt: skip

    def _tried(self, pipeline: Pipeline, mixture: Mixture, data: bytes, reached: str, timing: Latency | None) -> Tried:
        if self.limits.bytes is not None and len(data) > self.limits.bytes:
            raise _Refused(
                f"within the budget it takes {len(data)} bytes, more than the {self.limits.bytes} asked for ({reached})"
            )
        return Tried(
            self.pipeline,
            pipeline,
            "",
            reached,
            len(data),
            len(data) / max(self.original_bytes, 1),
            timing,
            len(self.splice.units),
            tuple(self._stayed(mixture)),
        )

    def _stayed(self, mixture: Mixture) -> list[Stayed]:
        """What not every lever takes that could, in the order of the model."""
        found = []
        for unit in self.splice.units:
            option = mixture[unit]
            if unit.kinds[option] == unit.kinds[0]:
                continue
            steps = sorted({one.step for one in unit.taken[option]})
            names = ", ".join(self.pipeline.steps[step].name for step in steps)  # type: ignore[union-attr]
            why = self.why.get(unit, "that came out better")
            found.append(Stayed(unit.nodes, unit.op, names or None, why))
        return found
