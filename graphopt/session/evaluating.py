"""Candidates of a search handed to workers, and what must not run beside anything else: measuring latency."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from graphopt.errors import CouldNotTell, GraphoptError
from graphopt.runtime.failure import WorkerFailure
from graphopt.scale.executor import OUT_OF_TIME, Done, Executor
from graphopt.scale.processes import Processes
from graphopt.session.trying import Made, Room, Setting, Work, work
from graphopt.tune.journal import Entry
from graphopt.tune.search import Task
from graphopt.tune.trial import FAILED, Ratio, Trial

_QUICK: Final = 0.4  # seconds of pairs for a candidate that is not yet measured on all samples
_LONG: Final = 1.5

Errors = tuple[tuple[str, float], ...]


@dataclass
class Evaluator:
    """Tries candidates through an executor. `errors` tells what each layer tolerates, asked for once.

    Latency is measured here, one model after another, when the workers of a generation have nothing left to do: what
    runs beside a measurement takes caches, memory and the clock of the cores from both models of a pair, and not by the
    same share, so that candidates that were timed in parallel do not compare. What is fitted by latency is so
    fitted in one process alone, too.
    """

    setting: Setting
    room: Room
    executor: Executor
    scratch: Path
    errors: Callable[[], Errors] = lambda: ()
    _told: Errors | None = None
    _alone: Processes | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def __call__(self, tasks: Sequence[Task], seconds: float) -> Iterator[tuple[int, Entry | None]]:
        """See `graphopt.tune.search.Evaluate`."""
        deadline = time.monotonic() + seconds if seconds != float("inf") else None
        timed = self.setting.objective.timed
        alone = [place for place, one in enumerate(tasks) if one.candidate.fit and timed]
        beside = [place for place in range(len(tasks)) if place not in alone]
        for places, executor in ((beside, self.executor), (alone, self._one() if alone else self.executor)):
            if places:
                executor.deadline = deadline
                yield from self._through(executor, tasks, places, timed)

    def close(self) -> None:
        """End what was started here."""
        self._stack.close()

    def _one(self) -> Processes:
        if self._alone is None:
            self._alone = self._stack.enter_context(Processes(1, retries=1))
        return self._alone

    def _through(
        self, executor: Executor, tasks: Sequence[Task], places: Sequence[int], timed: bool
    ) -> Iterator[tuple[int, Entry | None]]:
        errors = self._errors() if any(tasks[place].candidate.fit for place in places) else ()
        asked = [
            Work(self.setting, tasks[place], timed, errors if tasks[place].candidate.fit else ()) for place in places
        ]
        waiting: dict[int, tuple[Made, Path]] = {}
        for done in executor.each(work, asked):
            place = places[done.place]
            if done.fault == OUT_OF_TIME:
                yield place, None
            elif done.fault is not None:
                yield place, _dead(tasks[place], done)
            elif timed and done.value.trial.status != FAILED:
                kept = self.scratch / f"{place}.onnx"
                kept.write_bytes(done.value.data)
                waiting[place] = replace(done.value, data=None), kept
            else:
                yield place, Entry(done.value.trial, done.value.sha256)
        for place in sorted(waiting):
            made, kept = waiting[place]
            if executor.deadline is not None and time.monotonic() >= executor.deadline:
                yield place, None
            else:
                yield place, Entry(self._raced(made.trial, kept, tasks[place].last), made.sha256)
            kept.unlink(missing_ok=True)

    def _raced(self, trial: Trial, model: Path, last: bool) -> Trial:
        """The trial with its latency against the original's."""
        start = time.perf_counter()
        bench = self.room.bench(trial.rows)
        try:
            found = bench.latency(bench.original, model.read_bytes(), _LONG if last else _QUICK)
        except (WorkerFailure, CouldNotTell) as failure:
            return replace(trial, status=FAILED, why=f"its latency cannot be measured: {str(failure).rstrip('. ')}")
        ratio = Ratio(found.ratio, found.low, found.high, found.noisy)
        return replace(trial, latency=ratio, seconds=round(trial.seconds + time.perf_counter() - start, 3))

    def _errors(self) -> Errors:
        if self._told is None:
            try:
                self._told = self.errors()
            except GraphoptError:  # it only saves measurements
                self._told = ()
        return self._told


def _dead(task: Task, done: Done) -> Entry:
    trial = Trial(task.candidate, task.rung, task.rows, FAILED, str(done.fault), task.candidate.pipeline)
    return Entry(replace(trial, seconds=round(done.seconds, 3)), lasting=False)
