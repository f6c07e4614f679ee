"""Turns the passes that take something out of a model until a goal is met, all by one factor.

Such a pass names the option that says how much goes (`Pass.strength`). The factor is searched on models without
repair, whose sizes and latency are those of repaired ones; what it comes to is then run in full and measured.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from graphopt.analysis.cost import macs
from graphopt.analysis.shapes import infer
from graphopt.errors import NotEquivalent, UsageError
from graphopt.ir import Graph, decode
from graphopt.measure.latency import Latency
from graphopt.pipeline.goal import Goal
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.protocol import Pass
from graphopt.tune.bench import Bench, kept, shown
from graphopt.tune.plan import Plan, Tried
from graphopt.tune.variants import Workshop

MOST: Final = 0.95  # no pass is asked to take more than that
_TRIES: Final = 7
_NEAR: Final = {"latency": 0.03, "macs": 0.01, "bytes": 0.01, "budget": 0.0}  # below the goal is good enough
_AGAIN: Final = 3  # runs in full, each a little stronger, where the goal is just missed
_MORE: Final = 1.04
_CLOSE: Final = 1.02  # factors that are nearer to one another are not told apart


@dataclass
class Strengthening:
    """One search. `original_bytes` counts the whole file, `say` hears how far it is."""

    workshop: Workshop
    bench: Bench
    pipeline: Pipeline
    goal: Goal
    original_bytes: int
    say: Callable[[str], None] = lambda text: None
    tried: list[Tried] = field(default_factory=list)
    _macs: int = 0
    _steps: int = 0

    def run(self, feeds: str) -> Plan:
        """The pipeline that meets the goal and keeps the budget.

        Raises UsageError where no pass can be turned, NotEquivalent where both cannot be had.
        """
        start = time.perf_counter()
        strongest = turned(self.pipeline)
        if not strongest:
            raise UsageError(
                f"--to {self.goal.measure} turns how much pruning passes take, and the pipeline has none of them; "
                "the recipe prune-structured has"
            )
        top = MOST / strongest
        final = self._within_budget(top) if self.goal.measure == "budget" else self._met(top)
        taken = next(index for index, one in enumerate(self.tried) if one is final)
        assert final.pipeline is not None, "only what was kept is final"
        return Plan(f"to {self.goal}", final.pipeline, tuple(self.tried), taken, feeds, (), time.perf_counter() - start)

    def _met(self, top: float) -> Tried:
        """The weakest factor that meets the goal, run in full."""
        low, high = 0.0, top
        value, worst = 1.0, self._quick(top)
        if worst > self.goal.limit:
            raise NotEquivalent(f"even at its strongest the pipeline reaches {self.goal.measure} {worst:.2f} only")
        for _ in range(_TRIES):
            if worst > self.goal.limit - _NEAR[self.goal.measure] or high < low * _CLOSE:
                break
            # A straight line between the two, kept away from their ends: sizes go in steps, latency is noisy.
            share = (value - self.goal.limit) / max(value - worst, 1e-9)
            middle = low + (high - low) * min(max(share, 0.2), 0.8)
            found = self._quick(middle)
            if found > self.goal.limit:
                low, value = middle, found
            else:
                high, worst = middle, found
        for _ in range(_AGAIN):
            made, figure, holds = self._full(high)
            if figure <= self.goal.limit and holds:
                return self._kept(made)
            if figure <= self.goal.limit:
                break
            high = min(high * _MORE, top)
        raise self._refusal(made, figure, high)

    def _refusal(self, made: Tried, figure: float, high: float) -> NotEquivalent:
        """Why the goal cannot be had, with what the budget would allow."""
        if figure > self.goal.limit:
            return NotEquivalent(
                f"the pipeline reaches {self.goal.measure} {figure:.3f}, and {self.goal} was asked for"
            )
        short = f"{self.goal} takes {made.name}, which leaves {made.reached}, less than the budget asks for"
        try:
            best = self._within_budget(high)
        except NotEquivalent:
            return NotEquivalent(short)
        return NotEquivalent(f"{short}; the budget allows {self._shown(best)} ({best.name})")

    def _within_budget(self, top: float) -> Tried:
        """The strongest factor that keeps the budget."""
        low, high, best = 0.0, top, None
        middle = min(1.0, top)
        for _ in range(_TRIES):
            made, _, holds = self._full(middle)
            if holds:
                low, best = middle, self._kept(made)
            else:
                high = middle
            if high < low * _CLOSE:
                break
            middle = (low + high) / 2
        if best is None:
            raise NotEquivalent(f"the budget is not kept even with {self._name(turn(self.pipeline, high))}")
        return best

    def _quick(self, factor: float) -> float:
        """The goal's figure, without repair."""
        pipeline = without_repair(turn(self.pipeline, factor))
        self._say(pipeline)
        outcome, data = self.workshop.run(pipeline)
        found, timing = self._figure(data, outcome.graph)
        self.tried.append(self._row(pipeline, f"tried: {self.goal.measure} {found:.3f} without repair", data, timing))
        return found

    def _full(self, factor: float) -> tuple[Tried, float, bool]:
        """A factor as the pipeline has it: its row, the goal's figure, and whether the budget is kept."""
        pipeline = turn(self.pipeline, factor)
        self._say(pipeline)
        outcome, data = self.workshop.run(pipeline)
        figures = self.bench.figures(data, both=True)
        found, timing = self._figure(data, outcome.graph)
        row = dataclasses.replace(self._row(pipeline, "", data, timing), reached=shown(figures))
        figure = f"{self.goal.measure} {found:.3f}, " if self.goal.measure in ("macs", "bytes") else ""
        self.tried.append(dataclasses.replace(row, why=f"{figure}{shown(figures)}, over the budget"))
        return self.tried[-1], found, kept(figures)

    def _kept(self, made: Tried) -> Tried:
        """The row with its pipeline, as one that may run."""
        found = dataclasses.replace(made, pipeline=made.candidate, why="")
        self.tried[self.tried.index(made)] = found
        return found

    def _row(self, pipeline: Pipeline, why: str, data: bytes, timing: Latency | None) -> Tried:
        return Tried(
            pipeline, None, why, "", len(data), len(data) / max(self.original_bytes, 1), timing, 1, runs=1,
            races=int(timing is not None),
        )  # fmt: skip

    def _figure(self, data: bytes, graph: Graph) -> tuple[float, Latency | None]:
        if self.goal.measure == "bytes":
            return len(data) / max(self.original_bytes, 1), None
        if self.goal.measure == "macs":
            source = self.workshop.source
            self._macs = self._macs or max(_macs_of(decode(source.proto, source.store)), 1)
            return _macs_of(graph) / self._macs, None
        timing = self.bench.latency(self.bench.original, data)
        return timing.ratio, timing

    def _shown(self, made: Tried) -> str:
        if self.goal.measure == "latency" and made.latency is not None:
            return f"latency {made.latency.ratio:.2f}"
        return made.why or f"{made.ratio_of_bytes:.2f} of the bytes"

    def _say(self, pipeline: Pipeline) -> None:
        self._steps += 1
        self.say(f"planning for {self.goal}: try {self._steps}, {self._name(pipeline)}")

    @staticmethod
    def _name(pipeline: Pipeline) -> str:
        return Tried(pipeline, None).name


def turned(pipeline: Pipeline) -> float:
    """The largest strength of a pipeline's passes that have one; 0 where none has."""
    return max((strength_of(step) for step in pipeline.steps), default=0.0)


def turn(pipeline: Pipeline, factor: float) -> Pipeline:
    """The pipeline with every strength times a factor, three digits of each, at most `MOST`."""
    return Pipeline(tuple(_with(step, factor) if isinstance(step, Pass) else step for step in pipeline.steps))


def without_repair(pipeline: Pipeline) -> Pipeline:
    """The pipeline whose passes that take something out repair nothing, and without those that only repair."""
    steps = []
    for step in pipeline.steps:
        if isinstance(step, Pass) and step.repairs:
            continue
        steps.append(_unrepaired(step) if isinstance(step, Pass) else step)
    return Pipeline(tuple(steps))


def _unrepaired(step: Pass) -> Pass:
    if strength_of(step) and any(one.name == "repair" for one in dataclasses.fields(step)):
        return dataclasses.replace(step, repair=False)  # type: ignore[call-arg]
    return step


def strength_of(step: object) -> float:
    """How much a step takes; 0 for one that takes nothing."""
    return float(getattr(step, step.strength)) if isinstance(step, Pass) and step.strength else 0.0


def _with(step: Pass, factor: float) -> Pass:
    if not strength_of(step):
        return step
    value = min(float(f"{strength_of(step) * factor:.3g}"), MOST)
    return dataclasses.replace(step, **{step.strength: value})


def _macs_of(graph: Graph) -> int:
    return macs(graph, infer(graph)).count
