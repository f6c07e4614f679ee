"""What the passes of a run learn from: which feeds, gathered when the first pass asks, and what is said of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graphopt.calibration.cache import check_folder
from graphopt.calibration.source import CalibrationData
from graphopt.errors import UsageError
from graphopt.runtime.client import Worker
from graphopt.session.job import Job
from graphopt.storage.source import Source
from graphopt.validation.feeds import FeedSet
from graphopt.validation.validate import Validator
from graphopt.validation.values import Array

INVENTED = (
    "the passes calibrated on generated inputs, whose ranges are not those of real data, so expect a worse result; "
    "give samples with --calibration, or some dozens of them with --feeds"
)
SAME = "the result was validated on what it was calibrated on: --calibration and --feeds are the same; give others"
IDLE = "no pass of the pipeline calibrates, so --calibration was not read"


class Calibrating:
    """The calibration feeds of one job on one model, whose file is `reference`."""

    def __init__(self, source: Source, reference: Path, job: Job, worker: Worker) -> None:
        self._source, self._reference, self._job, self._worker = source, reference, job, worker
        self.gathered: FeedSet | None = None
        self.data = CalibrationData(self._make, source, job.cache_dir, labels=self._labels)

    @property
    def report(self) -> dict[str, Any] | None:
        """What was calibrated on, and what was trained, as plain data; None where no pass has asked for it."""
        if self.gathered is None:
            return None
        trained = list(self.data.training.values())
        return dataclasses.asdict(self.gathered.report) | ({"training": trained} if trained else {})

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what that costs."""
        job = self._job
        if not job.calibrates:
            return () if job.calibration is None else (IDLE,)
        if self.gathered is None:
            return tuple(self.data.notes)
        invented = self.gathered.report.generated
        said = (INVENTED,) if invented else self.gathered.warnings
        if job.calibration is not None and _same(job.calibration.feeds, job.feeds.feeds):
            said += (SAME,)
        return (*said, *self.data.notes)

    def prepare(self) -> None:
        """Refuse now, before a long run, feeds of the user's that do not fit the model, and a folder that cannot
        be a cache. Raises UsageError."""
        if self._job.cache_dir is not None:
            check_folder(self._job.cache_dir)
        if self._job.calibrates and self._job.learning.feeds is not None:
            self.data.feeds()

    def _make(self) -> Values:
        job = self._job
        if not job.calibrates:
            raise UsageError("no pass of the pipeline says that it calibrates")
        with Validator(
            self._reference, worker=self._worker, plan=job.learning, source=self._source, seed=job.learning_seed
        ) as gathering:
            self.gathered = gathering.feeds()
        return Values(self.gathered)

    def _labels(self) -> Array | None:
        """The user's labels of the calibration feeds; none where those are apart from the feeds that have labels."""
        job = self._job
        if job.labels is None or job.calibration is not None:
            return None
        with Validator(
            self._reference,
            worker=self._worker,
            plan=job.learning,
            source=self._source,
            labels=job.labels,
            seed=job.learning_seed,
        ) as gathering:
            gathering.feeds()
            return gathering.labels


def _same(one: Any, other: Any) -> bool:
    """Whether two plans for feeds name the same ones."""
    texts = isinstance(one, str | Path) and isinstance(other, str | Path)
    return one is not None and (one is other or (texts and Path(one).resolve() == Path(other).resolve()))


class Values:
    """The values of feeds, read again each time."""

    def __init__(self, feeds: FeedSet) -> None:
        self._feeds = feeds

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (feed.values for feed in self._feeds)

    def __len__(self) -> int:
        return len(self._feeds)
