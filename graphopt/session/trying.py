"""One candidate of a search, tried in whatever process: what it makes of the model, and how near that comes."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from graphopt.analysis.cost import macs
from graphopt.analysis.shapes import infer
from graphopt.calibration.source import CalibrationData
from graphopt.contract import Contract
from graphopt.errors import GraphoptError, UsageError
from graphopt.ir import Graph, decode
from graphopt.limits import Limits, current, limited
from graphopt.pipeline import manager
from graphopt.pipeline.pipeline import Pipeline
from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.session.services import WorkerServices
from graphopt.storage.read import read
from graphopt.storage.source import Source
from graphopt.storage.wire import join
from graphopt.tune.bench import Bench, Evidence, stricter
from graphopt.tune.fit import Fit
from graphopt.tune.fit import Limits as Keep
from graphopt.tune.objective import Objective
from graphopt.tune.samples import Rung, Samples
from graphopt.tune.search import Task
from graphopt.tune.space import named_still, nameless
from graphopt.tune.trial import FAILED, KEPT, MISSED, Candidate, Ratio, Trial
from graphopt.tune.variants import Workshop
from graphopt.validation.budget import Budget
from graphopt.validation.metrics import Metric, find_metric
from graphopt.validation.plan import FeedPlan
from graphopt.validation.validate import Validator

FITTED_DB: Final = 0.5
"""By how much fitting aims above a budget: other feeds come out a little worse than those that were fitted on."""
NEARNESS: Final = (Budget("sqnr_db", -1000.0), Budget("cosine", -1.0))
"""What is measured of every result, whatever the budgets say."""


@dataclass(frozen=True)
class Setting:
    """What all tasks of a search share, as another process can have it: files by their paths, and how to measure."""

    model: str
    objective: Objective
    feeds: str | None = None
    labels: str | None = None
    metric: str | None = None
    seed: int = 0
    generate: int | None = None
    values: tuple[tuple[str, Any], ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    custom_ops: tuple[str, ...] = ()
    worker_seconds: float = 600.0
    worker_memory: int | None = None
    cache_dir: str | None = None
    limits: Limits = field(default_factory=current)

    @property
    def plan(self) -> FeedPlan:
        """The feeds that a search sees."""
        if self.feeds is not None:
            return FeedPlan(self.feeds, half="first")
        return FeedPlan(None, dict(self.values), dict(self.sizes), generate=self.generate)


@dataclass(frozen=True)
class Work:
    """A task, and whether the model that comes of it is wanted back. `errors` are what each layer was measured to
    tolerate (see `Fit.known`)."""

    setting: Setting
    task: Task
    give: bool = False
    errors: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Made:
    """What came of a task: its trial, the hash of the model and, where it was wanted, the model."""

    trial: Trial
    sha256: str = ""
    data: bytes | None = None


_ROOMS: dict[Setting, Room] = {}


def work(one: Work) -> Made:
    """Carry out a task. What the task's search shares is made once a process, and kept for the next task."""
    with limited(one.setting.limits):
        if one.setting not in _ROOMS:
            while _ROOMS:
                _ROOMS.popitem()[1].close()
            _ROOMS[one.setting] = Room(one.setting)
        return _ROOMS[one.setting].tried(one.task, one.give, dict(one.errors))


class Room:
    """Where candidates of one search are tried: the model, its samples, and onnxruntime.

    Raises what reading the model and gathering its feeds raise.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, self.objective = setting, setting.objective
        self.source: Source = read(Path(setting.model))
        self.worker = Worker(
            seconds=setting.worker_seconds, memory=setting.worker_memory,
            custom_ops=[Path(one) for one in setting.custom_ops],
        )  # fmt: skip
        seed = setting.seed if setting.feeds is not None else setting.seed + 1
        with Validator(
            self.source.path or Path(setting.model), worker=self.worker, plan=setting.plan, source=self.source,
            labels=setting.labels, seed=seed,
        ) as gathering:  # fmt: skip
            found = gathering.feeds()
            self.report, self.warnings = found.report, found.warnings
            self.samples = Samples.of(list(found), self.source.proto, gathering.labels)
        self.metric: Metric | None = None if setting.metric is None else find_metric(setting.metric)
        self.original: bytes = b"".join(join(self.source.proto, self.source.store))
        self.bytes = self.source.size + sum(one.size for one in self.source.external) or len(self.original)
        self._rungs: dict[int, Rung] = {}
        self._benches: dict[tuple[int, bool], Bench] = {}
        self._energy: float | None = None

    def close(self) -> None:
        """End onnxruntime's process."""
        self.worker.close()

    def rungs(self) -> tuple[int, ...]:
        """How many samples each rung has."""
        return self.samples.rungs()

    def baseline(self, rung: int) -> Trial:
        """The original itself, measured as the candidates are."""
        graph = self._sized(decode(self.source.proto, self.source.store))
        energy = 1.0 if self.objective.minimize == "energy-proxy" else None
        ratio = Ratio(1.0, 1.0, 1.0) if self.objective.timed else None
        rows = self.rungs()[rung]
        reached = self._reached(self.bench(rows), self.original, True)
        return Trial(
            Candidate("original", "", "as it was read"), rung, self._rung(rows).rows, self._status(reached)[0],
            self._status(reached)[1], "", self.bytes, _packed(self.original), _macs(graph), ratio, energy, reached,
        )  # fmt: skip

    def tried(self, task: Task, give: bool = False, errors: Mapping[str, float] | None = None) -> Made:
        """The verdict on one candidate; what goes wrong with it is its verdict too."""
        start = time.perf_counter()
        rung = self._rung(task.rows)
        try:
            made = self._made(task, rung, errors or {})
        except WorkerFailure as failure:
            made = _failed(task, f"onnxruntime fails on it: {str(failure).rstrip('. ')}")
        except GraphoptError as error:
            made = _failed(task, str(error).rstrip(". "))
        seconds = round(time.perf_counter() - start, 3)
        return Made(replace(made.trial, seconds=seconds), made.sha256, made.data if give else None)

    def made(self, trial: Trial) -> bytes:
        """The model of a trial, made once more. Raises GraphoptError subclasses."""
        return self._workshop(self._rung(trial.rows)).run(Pipeline.parse(trial.pipeline))[1]

    def _made(self, task: Task, rung: Rung, errors: Mapping[str, float]) -> Made:
        candidate = task.candidate
        pipeline = Pipeline.parse(candidate.pipeline)
        workshop = self._workshop(rung)
        if candidate.fit:
            whole, pipeline = pipeline, named_still(pipeline)
            fitted, why = self._fitted(workshop, pipeline, task.rows, errors)
            if why:
                return _failed(task, why)
            pipeline = fitted if pipeline == whole else nameless(fitted)
        outcome, data = workshop.run(pipeline)
        if (idle := _idle(pipeline, outcome)) is not None:
            return _failed(task, idle)
        reached = self._reached(self.bench(task.rows), data, task.last)
        if "bytes" in {one.metric for one in self.objective.budgets}:
            limit = next(one for one in self.objective.budgets if one.metric == "bytes")
            reached["bytes"] = len(data) / max(self.bytes, 1) if limit.is_fraction else float(len(data))
        status, why = self._status(reached)
        self._sized(outcome.graph)
        trial = Trial(
            candidate, task.rung, task.rows, status, why, str(pipeline), len(data), _packed(data),
            _macs(outcome.graph), None, self._energy_of(outcome.graph), reached,
        )  # fmt: skip
        return Made(trial, hashlib.sha256(data).hexdigest(), data)

    def _fitted(
        self, workshop: Workshop, pipeline: Pipeline, rows: int, errors: Mapping[str, float]
    ) -> tuple[Pipeline, str]:
        """The pipeline with nodes left alone until it keeps the budgets; in a clause why that cannot be had."""
        keep = Keep(timed=self.objective.timed)
        bench = self.bench(rows, fitting=True)
        found = Fit(workshop, bench, pipeline, keep, self.bytes, errors).run()
        return (pipeline, found.why) if found.pipeline is None else (found.pipeline, "")

    def _reached(self, bench: Bench, data: bytes, both: bool) -> dict[str, float]:
        """Every figure of the outputs, in both modes of onnxruntime where that was asked for, the worse one."""
        return {one.budget.metric: one.reached for one in bench.figures(data, both=both)}

    def _status(self, reached: Mapping[str, float]) -> tuple[str, str]:
        return (KEPT, "") if self.objective.keeps(reached) else (MISSED, self.objective.missed(reached))

    def bench(self, rows: int, fitting: bool = False) -> Bench:
        """Where models are measured on the samples of a rung; made once."""
        if (rows, fitting) not in self._benches:
            rung = self._rung(rows)
            asked = tuple(one for one in self.objective.budgets if one.is_of_outputs)
            if fitting:
                asked = tuple(stricter(one, FITTED_DB) for one in asked)
            evidence = Evidence(rung.measuring, rung.labels, self.metric, self.samples.first())
            count = len(rung.measuring)
            bench = Bench(self.worker, self.original, evidence, asked, counts=(max(2, count // 4), count))
            if not fitting:
                bench.budgets += self._nearness(bench)
            self._benches[rows, fitting] = bench
        return self._benches[rows, fitting]

    def _nearness(self, bench: Bench) -> tuple[Budget, ...]:
        """Figures that are measured besides the budgets, where the model has outputs of numbers."""
        names = {one.metric for one in bench.budgets}
        more = tuple(one for one in NEARNESS if one.metric not in names)
        try:
            replace(bench, evidence=Evidence(bench.evidence.feeds), budgets=more, counts=(1, 1), _known={}).figures(
                self.original
            )
        except UsageError:
            return ()
        return more

    def _rung(self, rows: int) -> Rung:
        if rows not in self._rungs:
            self._rungs[rows] = self.samples.rung(rows)
        return self._rungs[rows]

    def _workshop(self, rung: Rung) -> Workshop:
        folder = None if self.setting.cache_dir is None else Path(self.setting.cache_dir)
        data = CalibrationData(lambda: rung.learning, self.source, folder, labels=lambda: rung.learned)
        return Workshop(self.source, lambda: WorkerServices(self.worker, self.setting.limits, data=data))

    def _sized(self, graph: Graph) -> Graph:
        """The graph with the sizes of the first sample in place of what its inputs leave open, as what is counted
        depends on them."""
        values = self.samples.first()
        for one in graph.inputs:
            if (value := values.get(one.name)) is not None and one.type == "tensor_type" and hasattr(value, "shape"):
                one.shape = value.shape
        return graph

    def _energy_of(self, graph: Graph) -> float | None:
        if self.objective.minimize != "energy-proxy":
            return None
        from graphopt.tune.energy import energy

        if self._energy is None:
            original = self._sized(decode(self.source.proto, self.source.store))
            self._energy = energy(original, infer(original)).total
        return energy(graph, infer(graph)).total / max(self._energy, 1e-30)


def _idle(pipeline: Pipeline, outcome: manager.Outcome) -> str | None:
    """Why a candidate is none: its LOSSY passes, if it has some, found nothing to do."""
    names = {one.name for one in pipeline.passes() if one.contract is Contract.LOSSY}
    if not names or any(one.kind == "applied" and one.pass_name in names for one in outcome.remarks):
        return None
    missed = [one.why for one in outcome.remarks if one.kind == "missed" and one.pass_name in names and one.why]
    most = f", most often because {max(missed, key=missed.count)}" if missed else ""
    return f"its lossy passes find nothing to do in this model{most}"


def _failed(task: Task, why: str) -> Made:
    return Made(Trial(task.candidate, task.rung, task.rows, FAILED, why, task.candidate.pipeline))


def _packed(data: bytes) -> int:
    return len(zlib.compress(data))


def _macs(graph: Graph) -> int | None:
    try:
        found = macs(graph, infer(graph))
    except GraphoptError:
        return None
    return found.count if found.count or not found.unknown else None
