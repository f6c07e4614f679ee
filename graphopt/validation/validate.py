"""Does a candidate still do what its reference does? Many candidates can be held to one reference."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graphopt.contract import Contract
from graphopt.errors import CouldNotTell, NotEquivalent, UsageError
from graphopt.runtime.failure import WorkerFailure
from graphopt.runtime.options import Options
from graphopt.storage.read import read
from graphopt.storage.scratch import Scratch
from graphopt.validation.budget import Budget
from graphopt.validation.decide import Case, decide
from graphopt.validation.feeds import FeedSet, gather
from graphopt.validation.figures import check_request
from graphopt.validation.judge import Pair, needs_noise
from graphopt.validation.labels import Labels, read_labels
from graphopt.validation.metrics import Function, find_metric
from graphopt.validation.plan import FeedPlan
from graphopt.validation.reference import Reference
from graphopt.validation.running import Runner, Whole
from graphopt.validation.runs import OFF, ON, Runs
from graphopt.validation.segments.explain import explained
from graphopt.validation.segments.fitting import too_large
from graphopt.validation.segments.joint import Origins
from graphopt.validation.segments.runner import Segmented
from graphopt.validation.trial import ModelTrial
from graphopt.validation.values import Array
from graphopt.validation.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from graphopt.runtime.client import Worker
    from graphopt.storage.source import Source


How = Literal["auto", "whole", "segments"]


class Validator:
    """Holds candidates against a model, and each step of a pipeline against the step before it.

    Feeds are gathered, and the reference run, when the first candidate comes; outputs and noise
    are kept (large ones in a temporary folder) until `close`. Files given as reference, or as a
    candidate that passed `step`, must stay in place as long as they may be compared with.
    `how` models are run: `whole`, by `segments` (of at most `segment_bytes` of weights), or, `auto`,
    by segments where the reference would not fit in the worker's memory as a whole.
    Raises `UsageError` where feeds, labels, metric or budgets cannot be used.
    """

    def __init__(
        self, reference: Path, *, worker: Worker, plan: FeedPlan | None = None, source: Source | None = None,
        labels: Labels | None = None, metric: str | Function | None = None, seed: int = 0, how: How = "auto",
        segment_bytes: int | None = None,
    ) -> None:  # fmt: skip
        self._path, self._worker, self._seed = Path(reference), worker, seed
        self._how, self._segment_bytes = how, segment_bytes
        self._runner: Runner | None = None
        self._crowded = ""
        self._plan = plan if plan is not None else FeedPlan()
        self._source = source
        if labels is not None and self._plan.feeds is None:
            raise UsageError("labels belong to feeds of your own; give --feeds with --labels")
        self._labels = None if labels is None else read_labels(labels)
        self._metric = None if metric is None else find_metric(metric)
        self._scratch = Scratch("validation")
        self._folder = self._scratch.path
        self._count = 0
        self._feeds: FeedSet | None = None
        self._original: Reference | None = None
        self._previous: Reference | None = None

    def __enter__(self) -> Validator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was kept."""
        self._scratch.remove()

    @property
    def gathered(self) -> FeedSet | None:
        """The feeds, if they have been gathered."""
        return self._feeds

    def feeds(self) -> FeedSet:
        """The feeds, gathered the first time.

        Raises `CouldNotTell` if the original accepts no generated feed, `WorkerFailure` if it
        does not load, `UsageError` if the user's feeds do not fit.
        """
        if self._feeds is None:
            source = self._load_source()
            proto, store = source.proto, source.store
            if self._plan.feeds is not None:
                self._feeds = gather(self._plan, proto, lambda values: "", self._seed)
            else:
                size = source.size + sum(one.size for one in source.external)
                trial = ModelTrial(self._path, self._worker, size, self._run_by())
                ahead = trial.ahead if isinstance(self._runner, Segmented) else None
                with contextlib.closing(trial):
                    self._feeds = gather(self._plan, proto, trial, self._seed, store, ahead)
            if self._labels is not None and self._feeds.part is not None:
                self._labels = self._feeds.part.labels(self._labels)
        return self._feeds

    @property
    def labels(self) -> Array | None:
        """The labels of the feeds, once those are gathered."""
        return self._labels

    def prepare(self, contract: Contract, budgets: Sequence[Budget] = ()) -> None:
        """Refuse now, before a long run, what `check` would refuse of the user's after it.

        Raises `UsageError` for budgets or a metric that cannot be measured under `contract` and
        for feeds of the user's that do not fit the model.
        """
        check_request(contract, budgets, self._labels, self._metric)
        if self._plan.feeds is not None:
            self.feeds()

    def check(
        self, candidate: Path, contract: Contract, budgets: Sequence[Budget] = (), *, origins: Origins | None = None
    ) -> Verdict:
        """Hold `candidate` against the original; `origins` are the old names that its new ones stand for."""

        def judged() -> Verdict:
            first = self._first()
            if isinstance(self._runner, Segmented):
                self._runner.pair(Path(candidate), origins)
            verdict, runs = self._judged(first, Path(candidate), contract, budgets, whole=True)
            runs.close()
            if isinstance(self._runner, Segmented):
                return explained(verdict, self._runner.report(), self._crowded)
            return verdict

        return self._timed(judged, contract, budgets)

    def step(
        self, candidate: Path, contract: Contract, budgets: Sequence[Budget] = (), *, source: Source | None = None
    ) -> Verdict:
        """Hold `candidate` against the last step that passed; if it passes, the next is held against it."""

        def judged() -> Verdict:
            before = self._previous if self._previous is not None else self._first()
            verdict, runs = self._judged(before, Path(candidate), contract, budgets)
            if not verdict.passed:
                runs.close()
                return verdict
            unchanged = all(not report.differing for report in verdict.outputs if not report.optimized)
            known = source if source is not None else read(Path(candidate))
            self._previous = Reference(runs, known, self._seed, before.noise if unchanged else None)
            if before is not self._original and not unchanged:
                before.runs.close()
            return verdict

        return self._timed(judged, contract, budgets)

    def _timed(self, judged: Callable[[], Verdict], contract: Contract, budgets: Sequence[Budget]) -> Verdict:
        """Run a judgement; what keeps it from being reached becomes the verdict `could not tell`."""
        start = time.perf_counter()
        check_request(contract, budgets, self._labels, self._metric)
        try:
            verdict = judged()
        except CouldNotTell as error:
            verdict = Verdict(Outcome.COULD_NOT_TELL, contract, reasons=(_clause(error),))
        except WorkerFailure as failure:
            reason = f"the original could not be run: {_clause(failure)}"
            verdict = Verdict(Outcome.COULD_NOT_TELL, contract, reasons=(reason + self._advice(failure),))
        warnings = verdict.warnings + (self._feeds.warnings if self._feeds is not None else ())
        report = self._feeds.report if self._feeds is not None else None
        return replace(verdict, feeds=report, warnings=warnings, seconds=time.perf_counter() - start)

    def _judged(
        self, before: Reference, candidate: Path, contract: Contract, budgets: Sequence[Budget], whole: bool = False
    ) -> tuple[Verdict, Runs]:
        """Hold a candidate against what came before; bytes are limited for the `whole` pipeline only."""
        modes, warnings = _modes(before.runs)
        random = before.unsteady()
        runs = self._runs(candidate, like=before.runs)
        try:
            runs.outputs(modes[0], also=modes[1:])
            pairs = [Pair.of(mode, before.runs.outputs(mode), runs.outputs(mode), random) for mode in modes]
        except NotEquivalent as error:
            return Verdict(Outcome.DIFFERENT, contract, reasons=(_clause(error),)), runs
        except UsageError as error:  # the reference took these feeds, or we would not be here
            reason = f"the original takes these inputs and the result does not: {_clause(error)}"
            return Verdict(Outcome.DIFFERENT, contract, reasons=(reason,)), runs
        except WorkerFailure as failure:
            return _failed(failure, contract, self._advice(failure)), runs
        before.noise.measure(needs_noise(pairs, contract))
        limited = whole and any(not budget.is_of_outputs for budget in budgets)
        sizes = (_size(before.path), _size(candidate)) if limited else None
        verdict = decide(Case(before, pairs, contract, tuple(budgets), self._labels, self._metric, sizes))
        return replace(verdict, warnings=(*warnings, *verdict.warnings)), runs

    def _first(self) -> Reference:
        if self._original is None:
            feeds = self.feeds()
            runs = self._runs(self._path, feeds=feeds)
            self._original = Reference(runs, self._load_source(), self._seed)
        return self._original

    def _runs(self, path: Path, *, feeds: FeedSet | None = None, like: Runs | None = None) -> Runs:
        self._count += 1
        folder = self._folder / str(self._count)
        return Runs(path, self._worker, self.feeds() if feeds is None else feeds, folder, like, self._run_by())

    def _advice(self, failure: WorkerFailure) -> str:
        whole = failure.kind == "memory" and not isinstance(self._runner, Segmented)
        return "; it takes less by segments: --validate segments of optimize, --segments of validate" if whole else ""

    def _run_by(self) -> Runner:
        if self._runner is None:
            self._crowded = "" if self._how != "auto" else too_large(self._load_source(), self._worker)
            if self._how == "segments" or self._crowded:
                folder = self._folder / "segments"
                self._runner = Segmented(self._worker, folder, self._path, self._load_source(), self._segment_bytes)
            else:
                self._runner = Whole(self._worker)
        return self._runner

    def _load_source(self) -> Source:
        if self._source is None:
            self._source = read(self._path)
        return self._source


def validate(
    reference: Path, candidate: Path, *, contract: Contract, worker: Worker, feeds: FeedPlan | None = None,
    budgets: Sequence[Budget] = (), labels: Labels | None = None, metric: str | Function | None = None,
    seed: int = 0, reference_source: Source | None = None,
) -> Verdict:  # fmt: skip
    """Compare two model files under a contract and budgets.

    Raises `UsageError` where feeds, labels, metric or budgets cannot be used, `BadModel` where the
    reference cannot be read. Everything else, a model that does not run included, is the verdict.
    """
    with Validator(
        reference, worker=worker, plan=feeds, source=reference_source, labels=labels, metric=metric, seed=seed
    ) as validator:
        return validator.check(candidate, contract, budgets)


def _size(model: Path) -> int:
    """Bytes of a model file with its external data."""
    source = read(model)
    return source.size + sum(one.size for one in source.external)


def _modes(runs: Runs) -> tuple[list[Options], tuple[str, ...]]:
    """The modes in which the reference runs; with optimizations off it must, or `WorkerFailure` is raised."""
    runs.outputs(OFF, also=[ON])
    try:
        runs.outputs(ON)
    except WorkerFailure as failure:
        if failure.kind in ("hang", "memory"):
            raise
        why = _clause(failure)
        said = f"compared with onnxruntime's optimizations off only: with them on the original does not run ({why})"
        return [OFF], (said,)
    return [OFF, ON], ()


def _failed(failure: WorkerFailure, contract: Contract, advice: str) -> Verdict:
    """The original ran and the candidate did not: different, unless time or memory ran out."""
    if failure.kind in ("hang", "memory"):
        reason = f"the result could not be run: {_clause(failure)}{advice}"
        return Verdict(Outcome.COULD_NOT_TELL, contract, reasons=(reason,))
    return Verdict(
        Outcome.DIFFERENT, contract, reasons=(f"the original runs and the result does not: {_clause(failure)}",)
    )


def _clause(error: Exception) -> str:
    return str(error).rstrip(". ")
