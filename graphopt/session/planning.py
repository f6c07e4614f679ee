"""Plans a job: which pipeline runs, before anything runs. What comes of it is an ordinary job."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphopt.calibration.source import CalibrationData
from graphopt.errors import UsageError
from graphopt.instruments.check import Check
from graphopt.instruments.progress import Progress
from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.runtime.session import Session
from graphopt.session.evidence import calibration_data, on_disk, refuse_invalid
from graphopt.session.job import Job
from graphopt.session.services import WorkerServices
from graphopt.storage.source import Source
from graphopt.storage.wire import join
from graphopt.tune.bench import Bench, Evidence
from graphopt.tune.plan import Plan
from graphopt.tune.planner import Question, planned
from graphopt.tune.variants import Workshop
from graphopt.validation.labels import read_labels
from graphopt.validation.metrics import find_metric
from graphopt.validation.runs import OFF
from graphopt.validation.values import Array

_MOST: Final = 256  # rows that are planned with
Feed = Mapping[str, Any]


def plan_of(
    source: Source, reference: Path, job: Job, worker: Worker, data: CalibrationData, progress: Progress
) -> tuple[Job, Plan]:
    """The job that a planned job comes to, and how it came to it.

    Half of the calibration feeds calibrate while planning, and candidates are measured on the other half:
    the feeds that judge the result are not looked at. Raises what those feeds raise, NotEquivalent where the
    budget asks for fewer bytes than can be had within it, and UsageError.
    """
    assert job.planner is not None, "only a job with a planner is planned"
    refuse_invalid(Check(source.proto, each=False), reference, worker, True)
    feeds = list(data.feeds())
    labels = _labels(job, feeds)
    with worker.load(reference, OFF) as session:
        rows, labels = _rows(feeds, labels, session)
    learning, measuring = (rows[::2], rows[1::2]) if len(rows) > 1 else (rows, rows)
    metric = None if job.metric is None or (job.labels is not None and labels is None) else find_metric(job.metric)
    evidence = Evidence(measuring, None if labels is None else labels[1::2], metric)
    original = b"".join(join(source.proto, source.store))
    limit = next((one for one in job.budgets if not one.is_of_outputs), None)
    size = source.size + sum(one.size for one in source.external) or len(original)
    question = Question(
        job.planner.name,
        job.planner.candidates,
        tuple(one for one in job.budgets if one.is_of_outputs),
        None if limit is None else int(limit.limit * size) if limit.is_fraction else int(limit.limit),
        job.planner.timed,
    )
    inner = CalibrationData(lambda: learning, source)
    found = planned(
        question,
        Workshop(source, lambda: WorkerServices(worker, data=inner)),
        evidence,
        lambda asked, budgets: Bench(worker, original, asked, budgets),
        size,
        _said(job, learning, measuring),
        progress.say if job.progress else lambda text: None,
    )
    if job.calibration is None and job.feeds.feeds is None:
        warning = "it was planned on generated feeds, which may be unlike real ones; give --calibration or --feeds"
        found = replace(found, warnings=(*found.warnings, warning))
    return replace(job, pipeline=found.pipeline, planner=None), found


def settled(source: Source, job: Job) -> Job:
    """The job itself, or what planning makes of it where it has a planner."""
    if job.planner is None:
        return job
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="graphopt-")))
        worker = stack.enter_context(
            Worker(seconds=job.worker_seconds, memory=job.worker_memory, custom_ops=job.custom_ops)
        )
        progress = Progress()
        stack.callback(progress.stop)
        reference = on_disk(source, work / "input")
        return plan_of(source, reference, job, worker, calibration_data(source, reference, job, worker), progress)[0]


def _said(job: Job, learning: Sequence[Feed], measuring: Sequence[Feed]) -> str:
    kind = "generated feeds" if job.calibration is None and job.feeds.feeds is None else "feeds"
    return f"calibrated on {len(learning)} {kind}, measured on {len(measuring)} others"


def _labels(job: Job, feeds: Sequence[Feed]) -> Array | None:
    """The labels of the rows of `feeds`, where they are known to be those: feeds and labels as they were given."""
    if job.labels is None or job.calibration is not None:
        return None
    labels = read_labels(job.labels)
    lengths = [_length(feed) for feed in feeds]
    known = [length for length in lengths if length is not None]
    return labels if len(known) == len(lengths) and sum(known) == len(labels) else None


def _length(feed: Feed) -> int | None:
    """How many rows a feed has: the leading size that all its arrays share."""
    sizes = {value.shape[0] if isinstance(value, np.ndarray) and value.ndim else None for value in feed.values()}
    return sizes.pop() if len(sizes) == 1 else None


def _rows(feeds: Sequence[Feed], labels: Array | None, session: Session) -> tuple[list[Feed], Array | None]:
    """Feeds of one row each where the model takes them so, and their labels; feeds as they are where not."""
    found: list[Feed] = []
    first = feeds[0] if feeds else {}
    length = _length(first)
    single = _row(first, 0) if length is not None and length > 1 else None
    if single is not None and not _takes(session, single):
        single = None
    if single is None:
        whole = labels is not None and len(labels) == len(feeds)
        return list(feeds[:_MOST]), labels[:_MOST] if whole and labels is not None else None
    for feed in feeds:
        count = _length(feed)
        found += [feed] if count is None else [_row(feed, index) for index in range(count)]
    step = max(1, -(-len(found) // _MOST))
    return found[::step], None if labels is None else labels[::step]


def _row(feed: Feed, index: int) -> Feed:
    return {name: np.ascontiguousarray(value[index : index + 1]) for name, value in feed.items()}


def _takes(session: Session, feed: Feed) -> bool:
    try:
        session.run(feed)
    except (WorkerFailure, UsageError):
        return False
    return True
