"""Plans a job: which pipeline runs, before anything runs. What comes of it is an ordinary job."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from graphopt.calibration.answers import answered
from graphopt.calibration.source import CalibrationData, Feed, rows_of, some_rows
from graphopt.errors import UsageError
from graphopt.instruments.check import Check
from graphopt.instruments.progress import Progress
from graphopt.pipeline.pipeline import Pipeline, Repeat
from graphopt.pipeline.protocol import Pass
from graphopt.report.sensitivity_files import read_table
from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.runtime.session import Session
from graphopt.session.evidence import on_disk, refuse_invalid
from graphopt.session.job import Job
from graphopt.session.services import WorkerServices
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.storage.wire import join
from graphopt.tolerance.agreement import predicted_errors
from graphopt.tune.bench import Bench, Evidence
from graphopt.tune.plan import Plan
from graphopt.tune.planner import Question, planned
from graphopt.tune.variants import Workshop
from graphopt.validation.metrics import find_metric
from graphopt.validation.runs import OFF
from graphopt.validation.validate import Validator
from graphopt.validation.values import Array

_MOST: Final = 256  # rows that are planned with


def plan_of(source: Source, reference: Path, job: Job, worker: Worker) -> tuple[Job, Plan]:
    """The job that a planned job comes to, and how it came to it.

    Half of the calibration feeds calibrate while planning, and candidates are measured on the other half:
    the feeds that judge the result are not looked at. Raises what those feeds raise, NotEquivalent where the
    budget asks for fewer bytes than can be had within it, and UsageError.
    """
    assert job.planner is not None, "only a job with a planner is planned"
    refuse_invalid(Check(source.proto, each=False), reference, worker, True)
    labels = job.labels if job.calibration is None else None
    with Validator(
        reference, worker=worker, plan=job.learning, source=source, labels=labels, seed=job.learning_seed
    ) as gathering:
        found = gathering.feeds()
        feeds, generated = [feed.values for feed in found], found.report.generated
        with worker.load(reference, OFF) as session:
            rows, truth = _rows(feeds, gathering.labels, session)
    second = slice(1, None, 2) if len(rows) > 1 else slice(None)
    learning, measuring = rows[::2], rows[second]
    metric = None if job.metric is None or (job.labels is not None and truth is None) else find_metric(job.metric)
    evidence = Evidence(measuring, None if truth is None else truth[second], metric)
    original = b"".join(join(source.proto, source.store))
    limit = next((one for one in job.budgets if not one.is_of_outputs), None)
    size = source.size + sum(one.size for one in source.external) or len(original)
    question = Question(
        job.planner.name,
        job.planner.candidates,
        tuple(one for one in job.budgets if one.is_of_outputs),
        None if limit is None else int(limit.limit * size) if limit.is_fraction else int(limit.limit),
        job.planner.timed,
        {} if job.sensitivity is None else _known(job.sensitivity),
    )
    inner = CalibrationData(lambda: learning, source, job.cache_dir)
    said: dict[str, None] = {}  # what is to be told, once
    keep = None
    if job.cache_dir is not None:
        keep = partial(answered, job.cache_dir, complain=lambda text: said.update({text: None}))
    progress = Progress()
    made = planned(
        question,
        Workshop(source, lambda: WorkerServices(worker, data=inner)),
        evidence,
        lambda asked, budgets: Bench(worker, original, asked, budgets, keep=keep),
        size,
        _shown(len(learning), len(measuring) if len(rows) > 1 else 0, generated),
        progress.say if job.progress else lambda text: None,
        job.planner.goal,
    )
    progress.stop()
    made = replace(made, warnings=(*made.warnings, *said))
    if generated:
        warning = "it was planned on generated feeds, which may be unlike real ones; give --calibration or --feeds"
        made = replace(made, warnings=(*made.warnings, warning))
    return replace(job, pipeline=made.pipeline, planner=None, planned=True), made


def _known(path: Path) -> dict[str, float]:
    """What a table predicts for 8 bits: weights and data where data were seen, else weights."""
    rows = read_table(path).rows
    return {**predicted_errors(rows, "int8-channel"), **predicted_errors(rows, "int8-both")}


def foretold(job: Job) -> Job:
    """The job whose passes have as an option what its table of sensitivities predicts: the pipeline says it all."""
    if job.sensitivity is None or not any(one.predicts for one in job.pipeline.passes()):
        return job
    rows = read_table(job.sensitivity).rows

    def told(one: Pass) -> Pass:
        if not one.predicts:
            return one
        texts = tuple(f"{name}={error:.4g}" for name, error in predicted_errors(rows, one.predicts).items())
        return replace(one, predicted=texts)  # type: ignore[call-arg]

    steps = (step if isinstance(step, Repeat) else told(step) for step in job.pipeline.steps)
    return replace(job, pipeline=Pipeline(tuple(steps)))


def settled(source: Source, job: Job) -> Job:
    """The job itself, or what planning makes of it where it has a planner."""
    if job.planner is None:
        return foretold(job)
    with ExitStack() as stack:
        work = stack.enter_context(Scratch())
        worker = stack.enter_context(
            Worker(seconds=job.worker_seconds, memory=job.worker_memory, custom_ops=job.custom_ops)
        )
        return foretold(plan_of(source, on_disk(source, work / "input"), job, worker)[0])


def _shown(learning: int, others: int, generated: bool) -> str:
    feeds = f"{learning} {'generated ' if generated else ''}feed{'' if learning == 1 else 's'}"
    return f"calibrated on {feeds}, measured on {others} others" if others else f"calibrated and measured on {feeds}"


def _rows(feeds: Sequence[Feed], labels: Array | None, session: Session) -> tuple[list[Feed], Array | None]:
    """Feeds of one row each where the model takes them so, and their labels where they are one a row; feeds as
    they are where not."""
    counts = [rows_of(feed) for feed in feeds]
    if labels is not None and len(labels) != sum(counts):
        labels = None
    if max(counts, default=1) == 1 or not _takes(session, some_rows(feeds[counts.index(max(counts))], 0, 1)):
        return list(feeds[:_MOST]), labels[:_MOST] if labels is not None and max(counts, default=1) == 1 else None
    found = [
        some_rows(feed, row, row + 1) if count > 1 else feed
        for feed, count in zip(feeds, counts, strict=True)
        for row in range(count)
    ]
    step = max(1, -(-len(found) // _MOST))
    return found[::step], None if labels is None else labels[::step]


def _takes(session: Session, feed: Feed) -> bool:
    try:
        session.run(feed)
    except (WorkerFailure, UsageError):
        return False
    return True
