"""What watches a run: its clock, and the instruments whose facts its report is of."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graphopt.analysis.cost import facts
from graphopt.instruments.check import Check
from graphopt.instruments.limit import Limit
from graphopt.instruments.progress import Progress
from graphopt.instruments.size import Size
from graphopt.instruments.timing import Timing
from graphopt.ir import decode
from graphopt.pipeline import manager
from graphopt.pipeline.instrument import Instrument
from graphopt.report.summary import Report, pass_rows, step_rows
from graphopt.session.evidence import input_row
from graphopt.session.job import Job
from graphopt.storage.source import Source
from graphopt.validation.verdict import not_validated

if TYPE_CHECKING:
    from graphopt.instruments.snapshot import Snapshots
    from graphopt.instruments.validate import ValidateEach
    from graphopt.validation.validate import Validator


@dataclass
class Clock:
    """Wall seconds of the phases of a run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


FED: Final = (
    "most weights are default values of {} inputs, which callers may replace: they stay as they are, and so does what "
    "reads them; --constant-inputs makes them constants"
)


class Watch:
    """The instruments of one run."""

    def __init__(self, job: Job, source: Source, validating: Validator | None, work: Path) -> None:
        self.timing, self.size, self.progress = Timing(), Size(), Progress()
        step_by_step = job.validate == "each" or job.snapshots is not None
        self.check = Check(source.proto, each=step_by_step) if job.check else None
        self.each: ValidateEach | None = None
        if job.validate == "each" and validating is not None:
            from graphopt.instruments.validate import ValidateEach

            self.each = ValidateEach(validating, work, job.budgets)
        self.snapshots: Snapshots | None = None
        self.all: list[Instrument] = [Limit(job.pipeline, job.only, job.until)]
        if job.progress:
            self.all.append(self.progress)
        # After-hooks run in reverse: the clock stops first, then sizes, then the checks.
        if job.snapshots is not None:
            from graphopt.instruments.snapshot import Snapshots

            self.snapshots = Snapshots(job.snapshots)
            self.all.append(self.snapshots)
        self.all += [one for one in (self.each, self.check) if one is not None]
        self.all += [self.size, self.timing]


def report_of(source: Source, job: Job, outcome: manager.Outcome, watch: Watch, changed: bool) -> Report:
    """The report of what the passes did; `after`, the verdict and what was written are still to come."""
    assert watch.size.before is not None, "the run has begun"
    counted = watch.size.before if job.student is None else facts(decode(source.proto, source.store))
    before = input_row(source, counted)
    warnings = []
    if watch.check is not None and watch.check.input_fault is not None:
        warnings.append(f"the input itself does not pass ONNX's checker: {watch.check.input_fault}")
    graph = outcome.graph
    fed = sum(math.prod(one.shape) for one in graph.defaults.values())
    if 2 * fed > facts(graph).parameters:
        warnings.append(FED.format(len(graph.defaults)))
    return Report(
        recipe=job.recipe,
        pipeline=str(job.pipeline),
        student=None if job.student is None else str(job.student),
        seed=job.seed,
        before=before,
        after=before,
        changed=changed,
        passes=pass_rows(outcome, watch.timing, watch.size),
        steps=list(step_rows(outcome)),
        remarks=outcome.remarks,
        skipped=outcome.skipped,
        verdict=not_validated(),
        step_verdicts=watch.each.verdicts if watch.each is not None else [],
        origins=outcome.origins,
        warnings=warnings,
    )
