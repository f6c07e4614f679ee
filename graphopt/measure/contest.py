"""Several models against the first: pairs in turn, in several processes, and an interval that owns up to both.

Pairs cancel what hits both models alike: the clock of the machine, a neighbour. What they do not cancel is where
the memory of a session happens to lie, which is drawn anew with each process; so each candidate is measured against the
first model in some processes of its own, and the interval of the ratio holds the medians of all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from graphopt.errors import UsageError
from graphopt.measure.latency import MARGIN, WIDEST, Latency, median_interval, timed
from graphopt.runtime.client import Options, Race, Worker, WorkerFailure
from graphopt.runtime.options import Timed
from graphopt.runtime.procfs import process_memory
from graphopt.runtime.profile import profile

PROCESSES: Final = 3
_ROUNDS: Final = 100_000  # pairs at most; time ends a race before
_LEAST: Final = 5  # pairs of each process
_PROFILED: Final = 20  # runs that a profile is the median of


@dataclass(frozen=True)
class Setting:
    """How models are run: threads inside an operator, the execution provider in onnxruntime's words, seconds of
    pairs for each candidate, processes that they are spread over, and whether onnxruntime optimizes."""

    threads: int = 1
    provider: str = "CPUExecutionProvider"
    seconds: float = 10.0
    processes: int = PROCESSES
    optimize: bool = True

    def options(self) -> Options:
        """As a session takes them, with the memory arena that users' sessions have."""
        return timed(Options(optimize=self.optimize, threads=self.threads, provider=self.provider))


@dataclass
class Entry:
    """What one model took.

    seconds: of a run; for the first model the median over all its pairs, for another that times its ratio, since
    seconds of different pairs do not compare. load: median seconds of loading. memory: bytes that its process had
    resident at the most, over those before it was loaded, None where the system does not say. against: the ratio to
    the first model, None for itself; medians: that of each process. operators: None where they were not asked for.
    fault: why there is nothing.
    """

    seconds: float | None = None
    load: float | None = None
    memory: int | None = None
    against: Latency | None = None
    operators: list[Timed] | None = None
    fault: str | None = None
    medians: list[float] = field(default_factory=list)


def contest(
    models: Sequence[Path],
    feeds: Mapping[str, Any],
    setting: Setting,
    worker_of: Callable[[], Worker],
    *,
    profiled: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> list[Entry]:
    """Measure all of `models` on `feeds`, each against the first; `worker_of` makes a fresh process.

    A model that does not load or run has its `fault`, and so has every candidate where the first does not run.
    """
    found = [Entry() for _ in models]
    for model, entry in zip(models, found, strict=True):
        say(f"loading {model.name}")
        _alone(model, entry, feeds, setting, worker_of, profiled)
    first = found[0]
    if first.fault is None and len(models) == 1:
        first.seconds = _twin(models[0], feeds, setting, worker_of)
    own: list[float] = []
    for model, entry in zip(models[1:], found[1:], strict=True):
        if entry.fault is None:
            entry.fault = None if first.fault is None else "there is nothing to compare it with"
        if entry.fault is not None:
            continue
        say(f"timing {model.name}")
        try:
            races = _races(models[0], model, feeds, setting, worker_of)
        except WorkerFailure as failure:
            entry.fault = str(failure)
            continue
        entry.against, entry.medians = _joined(races)
        own.append(entry.against.a)
    if own:
        first.seconds = statistics.median(own)
        for entry in found[1:]:
            if entry.against is not None:
                entry.seconds = first.seconds * entry.against.ratio
    return found


def _alone(
    model: Path, entry: Entry, feeds: Mapping[str, Any], setting: Setting, worker_of: Callable[[], Worker], asked: bool
) -> None:
    """Load and run a model by itself, some times, for what loading takes and the memory."""
    loads: list[float] = []
    peaks: list[int] = []
    try:
        for _ in range(setting.processes):
            with worker_of() as worker:
                worker.ready()
                before = None if worker.pid is None else process_memory(worker.pid)
                start = time.perf_counter()
                session = worker.load(model, setting.options())
                loads.append(time.perf_counter() - start)
                session.run(feeds)
                peak = worker.peak_memory()
                if before is not None and peak is not None:
                    peaks.append(peak - before["VmRSS"])
                if asked and entry.operators is None:
                    entry.operators = profile(session, feeds, _PROFILED)
    except (WorkerFailure, UsageError) as failure:  # the feeds are those of the first model
        entry.fault = str(failure)
        return
    entry.load = statistics.median(loads)
    entry.memory = int(statistics.median(peaks)) if peaks else None


def race_apart(
    first: Path, second: Path, feeds: Mapping[str, Any], setting: Setting, worker: Worker, turn: int, seconds: float
) -> Race:
    """Pairs of two models for some `seconds`, in a process that nothing was loaded in; `turn` counts such processes.

    Whoever is loaded first gets the better memory now and then: so they take turns.
    """
    models = (first, second) if turn % 2 == 0 else (second, first)
    loaded = [worker.load(model, setting.options()) for model in models]
    a, b = loaded if turn % 2 == 0 else reversed(loaded)
    return worker.race(a, b, feeds, rounds=_ROUNDS, budget=seconds, least=_LEAST)


def _races(
    first: Path, second: Path, feeds: Mapping[str, Any], setting: Setting, worker_of: Callable[[], Worker]
) -> list[Race]:
    share = setting.seconds / setting.processes
    races = []
    for turn in range(setting.processes):
        with worker_of() as worker:
            races.append(race_apart(first, second, feeds, setting, worker, turn, share))
    return races


def _twin(model: Path, feeds: Mapping[str, Any], setting: Setting, worker_of: Callable[[], Worker]) -> float:
    """Seconds of a run of a model that has nobody to be compared with."""
    races = _races(model, model, feeds, setting, worker_of)
    return statistics.median(second for race in races for second in (*race.a, *race.b))


def _joined(races: Sequence[Race]) -> tuple[Latency, list[float]]:
    """All races of one pair of models together, and the median ratio of each."""
    each = [[b / a for a, b in zip(race.a, race.b, strict=True)] for race in races]
    ratios = [ratio for some in each for ratio in some]
    ratio = statistics.median(ratios)
    medians = [statistics.median(some) for some in each]
    low, high = median_interval(ratios) or (min(ratios), max(ratios))
    low, high = min(low, *medians), max(high, *medians)
    a = statistics.median(second for race in races for second in race.a)
    b = statistics.median(second for race in races for second in race.b)
    return Latency(a, b, ratio, low, high, len(ratios), high - low > WIDEST * ratio), medians


def said(found: Latency) -> str:
    """What a ratio tells, in a word or two: it has to be beyond what two sessions of one model differ by."""
    if found.faster is not None:
        return "faster" if found.faster else "slower"
    if found.noisy and not (found.low >= 1.0 - MARGIN and found.high <= 1.0 + MARGIN):
        return "too noisy to tell"
    return "the same"
