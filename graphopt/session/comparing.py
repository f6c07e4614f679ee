"""Two models value by value: `localize` and `profile_error` as the API and the command line call them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.debug.localize import Located
from graphopt.debug.localize import localize as _localize
from graphopt.debug.profile import Profile
from graphopt.debug.profile import profile as _profile
from graphopt.debug.taps import Model as Tapped
from graphopt.errors import CouldNotTell, UsageError
from graphopt.report.saved import read_report
from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.session.api import Model, source_of
from graphopt.session.evidence import on_disk
from graphopt.storage.scratch import Scratch
from graphopt.validation.endless import endless
from graphopt.validation.plan import FeedPlan, Given
from graphopt.validation.reference import random_operators
from graphopt.validation.signature import required_inputs
from graphopt.validation.validate import Validator

if TYPE_CHECKING:
    from graphopt.storage.source import Source

FEEDS = 4  # feeds that are looked at; more make no value easier to tell


@dataclass
class Compared:
    """Two models that can be looked into, and the feeds to do it on; `warnings` are sentences."""

    old: Tapped
    new: Tapped
    feeds: list[dict[str, Any]]
    warnings: list[str]


def localize(
    reference: Model, candidate: Model, *, report: str | Path | None = None, feeds: Given | FeedPlan | None = None,
    sqnr_db: float | None = None, seed: int = 0, **limits: Any,
) -> Located:  # fmt: skip
    """The first value at which `candidate` parts from `reference`, in the reference's graph order.

    `report` is the file that `optimize --report` wrote when it made `candidate`; `sqnr_db` the
    decibels below which two values count as different, from the reference's own noise unless given;
    `limits` are `worker_seconds`, `worker_memory` and `custom_ops`. Raises UsageError, BadModel, and
    CouldNotTell where one of the models cannot be looked into.
    """
    origins = None if report is None else read_report(Path(report)).origins
    start = time.perf_counter()
    with _compared(reference, candidate, feeds, seed, **limits) as models:
        found = _localize(models.old, models.new, models.feeds, origins=origins, limit_db=sqnr_db)
        found.warnings = [*models.warnings, *found.warnings]
        found.seconds = time.perf_counter() - start
        return found


def profile_error(
    reference: Model, candidate: Model, *, report: str | Path | None = None, feeds: Given | FeedPlan | None = None,
    top: int = 5, seed: int = 0, **limits: Any,
) -> Profile:  # fmt: skip
    """The error of every matched value by where it comes from, and the `top` values whose return recovers most.

    The other arguments and the exceptions are those of `localize`.
    """
    origins = None if report is None else read_report(Path(report)).origins
    start = time.perf_counter()
    with _compared(reference, candidate, feeds, seed, **limits) as models:
        found = _profile(models.old, models.new, models.feeds, origins=origins, top=top)
        found.warnings = [*models.warnings, *found.warnings]
        found.seconds = time.perf_counter() - start
        return found


@contextmanager
def _compared(
    reference: Model, candidate: Model, feeds: Given | FeedPlan | None, seed: int, *,
    worker_seconds: float = 600.0, worker_memory: int | None = None, custom_ops: Sequence[str | Path] = (),
) -> Iterator[Compared]:  # fmt: skip
    plan = feeds if isinstance(feeds, FeedPlan) else FeedPlan(feeds)
    plan = replace(plan, limit=min(plan.limit or FEEDS, FEEDS))
    with ExitStack() as stack:
        work = stack.enter_context(Scratch())
        worker = stack.enter_context(
            Worker(seconds=worker_seconds, memory=worker_memory, custom_ops=tuple(Path(one) for one in custom_ops))
        )
        old, new = source_of(reference), source_of(candidate)
        if (why := endless(new.proto)) is not None:
            raise CouldNotTell(f"the second model cannot be run: {why}")
        inputs = renamed_inputs(old, new)
        validating = stack.enter_context(
            Validator(on_disk(old, work / "reference"), worker=worker, plan=plan, source=old, seed=seed)
        )
        try:
            fed = validating.feeds()
        except WorkerFailure as failure:
            raise CouldNotTell(f"the first model could not be run: {failure}") from None
        warnings = list(fed.warnings)
        drawing = random_operators(old.proto)
        if drawing:
            warnings.append(
                f"{drawing[0]} draws random numbers, so what it makes and what follows from it differ anyway"
            )
        yield Compared(
            Tapped(old, worker, work, "the first model"),
            Tapped(new, worker, work, "the second model", inputs),
            [dict(feed.values) for feed in fed],
            warnings,
        )


def renamed_inputs(old: Source, new: Source) -> dict[str, str]:
    """What the first model calls the inputs that have other names in the second: by position where no name is shared.

    Raises UsageError where the second needs an input that the first has not.
    """
    ours, theirs = ([one.name for one in required_inputs(one.proto)] for one in (old, new))
    lacking = [name for name in theirs if name not in ours]
    if not lacking:
        return {}
    if len(ours) == len(theirs) == len(lacking):
        return dict(zip(theirs, ours, strict=True))
    raise UsageError(
        f"the second model has an input {lacking[0]!r} that the first has not; compare models of one interface"
    )
