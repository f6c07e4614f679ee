"""The pass manager: runs a pipeline over a graph, round by round, and rolls failures back.

Rolling back is replaying: the graph is made again from the input and the passes run again, the
failed one left out. Passes are deterministic, so this gives what was there before the failure,
and it needs no copy of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from graphopt.errors import GraphoptError, InternalError, OverLimit
from graphopt.ir import Graph
from graphopt.pipeline.context import Ledger, RunContext
from graphopt.pipeline.declaration import one_line
from graphopt.pipeline.gate import Gate, Open
from graphopt.pipeline.instrument import Instrument, Place, StepDone, Turn
from graphopt.pipeline.pipeline import Pipeline, Repeat, Step
from graphopt.pipeline.protocol import Contract, Pass, Remark
from graphopt.pipeline.services import NoServices, Services

OnError = Literal["stop", "skip"]


@dataclass(frozen=True)
class Skipped:
    """A pass (or a whole step) that failed and was left out, and why."""

    step: int
    pass_name: str
    why: str


@dataclass
class Outcome:
    """What a run made: the graph, what each pass did, and what was left out."""

    graph: Graph
    turns: list[Turn] = field(default_factory=list)
    steps: list[StepDone] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def rewrites(self) -> int:
        """How many rewrites were carried out."""
        return sum(turn.applied for turn in self.turns)

    @property
    def contract(self) -> Contract:
        """The loosest contract of a pass that changed something; EXACT when none did."""
        return max((t.place.pass_.contract for t in self.turns if t.changed), default=Contract.EXACT)


class _Failed(Exception):
    """A pass or a step failed: where, and the error that says why."""

    def __init__(self, step: int, position: int | None, round_: int, name: str, error: Exception) -> None:
        super().__init__(str(error))
        self.step, self.position, self.round, self.name, self.error = step, position, round_, name, error


Blocked = dict[tuple[int, int | None], int]
"""What is left out: (step, position in it, None for all of it) -> from which round on."""


def run(
    fresh: Callable[[], Graph],
    pipeline: Pipeline,
    *,
    services: Services | None = None,
    gate: Gate | None = None,
    instruments: Sequence[Instrument] = (),
    on_error: OnError = "stop",
) -> Outcome:
    """Run `pipeline` on the graph that `fresh` makes; `fresh` is called again for each replay.

    Raises what a failing pass or a vetoing instrument raised (anything unexpected as
    InternalError) when `on_error` is "stop"; with "skip" the failure is recorded and left out.
    """
    skipped: list[Skipped] = []
    blocked: Blocked = {}
    trusted = -1  # steps up to here passed their checks in an earlier attempt
    while True:
        attempt = _Attempt(fresh(), services, gate or Open(), instruments, blocked, trusted)
        try:
            outcome = attempt.run(pipeline)
        except _Failed as failure:
            if on_error == "stop":
                raise failure.error from failure.error.__cause__
            skipped.append(Skipped(failure.step, failure.name, str(failure.error)))
            blocked[failure.step, failure.position] = failure.round
            trusted = failure.step - 1
            for instrument in reversed(instruments):
                for place in attempt.places[-1:]:
                    instrument.skipped(place, failure.error)
            continue
        outcome.skipped = skipped
        return outcome


class _Attempt:
    """One walk through the pipeline from the input."""

    def __init__(
        self,
        graph: Graph,
        services: Services | None,
        gate: Gate,
        instruments: Sequence[Instrument],
        blocked: Blocked,
        trusted: int,
    ) -> None:
        self.graph = graph
        self.services = services or NoServices()
        self.ledger = Ledger(gate, listeners=tuple(one for one in instruments if one.hears_rewrites))
        self.instruments = instruments
        self.blocked = blocked
        self.trusted = trusted
        self.turns: list[Turn] = []
        self.steps: list[StepDone] = []
        self.places: list[Place] = []

    def run(self, pipeline: Pipeline) -> Outcome:
        for instrument in self.instruments:
            instrument.begins(self.graph)
        for index, step in enumerate(pipeline.steps):
            self.step(index, step)
        for instrument in reversed(self.instruments):
            instrument.ends(self.graph)
        ledger = self.ledger
        return Outcome(self.graph, self.turns, self.steps, ledger.remarks, origins=ledger.origins)

    def step(self, index: int, step: Step) -> None:
        rounds, changed = 0, False
        if isinstance(step, Repeat):
            rounds, changed = self.repeat(index, step)
        else:
            rounds, changed = 1, self.turn(index, 0, 1, step)
        if (index, None) in self.blocked:
            return
        text = str(Pipeline((step,)))
        done = StepDone(index, text, step.contract, rounds, changed, index <= self.trusted)
        self.steps.append(done)
        try:
            for instrument in reversed(self.instruments):
                instrument.after_step(done, self.graph)
        except GraphoptError as error:
            raise _Failed(index, None, 1, text, error) from error

    def repeat(self, index: int, step: Repeat) -> tuple[int, bool]:
        """Run a group until nothing changes; how many rounds that took, and whether anything did.

        A pass that found nothing in the graph as it is now is not asked again.
        """
        edits, seen = 0, dict[int, int]()
        for round_ in range(1, step.max + 1):
            before = edits
            for position, one in enumerate(step.steps):
                if seen.get(position) != edits:
                    seen[position] = edits
                    edits += self.turn(index, position, round_, one)
            if edits == before:
                return round_, edits > 0
        return step.max, edits > 0

    def turn(self, index: int, position: int, round_: int, running: Pass) -> bool:
        place = Place(index, round_, len(self.places) + 1, running)
        self.places.append(place)
        # Asked also about what is left out: that a pass comes by tells `--until` to stop after it.
        wishes = [instrument.should_run(place) for instrument in self.instruments]
        left_out = (index, None) in self.blocked or round_ >= self.blocked.get((index, position), round_ + 1)
        if left_out or not all(wishes):
            return False
        context = RunContext(self.graph, running, self.ledger, self.services, index)
        try:
            for instrument in self.instruments:
                instrument.before_pass(place, self.graph)
            self.apply(running, context)
            replayed = index <= self.trusted
            turn = Turn(place, context.applied, context.missed_count, context.disabled, replayed)
            for instrument in reversed(self.instruments):
                instrument.after_pass(turn, self.graph)
        except GraphoptError as error:
            raise _Failed(index, position, round_, running.name, error) from error
        self.turns.append(turn)
        return turn.changed

    def apply(self, running: Pass, context: RunContext) -> None:
        self.graph.journal = context
        try:
            running.run(self.graph, context)
            context.close()
        except GraphoptError:
            raise
        except MemoryError as error:
            raise OverLimit(f"pass {running.name} ran out of memory; the input is untouched") from error
        except Exception as error:  # a pass is a plug-in: whatever it raises is its failure, not a crash
            raise InternalError(f"pass {running.name} failed: {one_line(error)}") from error
        finally:
            self.graph.journal = None
