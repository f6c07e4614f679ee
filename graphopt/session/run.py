"""One run from a model that was read to a validated file, or to nothing at all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from graphopt.analysis.cost import facts
from graphopt.contract import Contract
from graphopt.errors import CouldNotTell, NotEquivalent, UsageError
from graphopt.instruments.check import Check
from graphopt.instruments.limit import Limit
from graphopt.instruments.progress import Progress
from graphopt.instruments.size import Size
from graphopt.instruments.timing import Timing
from graphopt.ir import Graph, decode, encode
from graphopt.ir.shelf import shelving
from graphopt.limits import limited, over
from graphopt.pipeline import manager
from graphopt.pipeline.instrument import Instrument, Veto
from graphopt.report.summary import Report, pass_rows, step_rows
from graphopt.runtime.client import Worker
from graphopt.session.calibrating import Calibrating
from graphopt.session.evidence import (
    input_row,
    latency,
    on_disk,
    outgrown,
    output_row,
    refuse_invalid,
    validator,
)
from graphopt.session.job import Job, Target
from graphopt.session.ort_format import judge_of, make_ort, put_ort
from graphopt.session.planning import foretold, plan_of
from graphopt.session.services import WorkerServices
from graphopt.session.student import UNTOUCHED, read_student
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.storage.wire import join
from graphopt.storage.write import Staged, stage
from graphopt.validation.verdict import Verdict, not_validated

if TYPE_CHECKING:
    from graphopt.instruments.history import History
    from graphopt.instruments.snapshot import Snapshots
    from graphopt.instruments.validate import ValidateEach
    from graphopt.session.recording import Recording
    from graphopt.validation.validate import Validator


@dataclass
class Result:
    """What came out of a run. `graph` is yours to change; the input never was."""

    graph: Graph
    report: Report

    @property
    def verdict(self) -> Verdict:
        """What validation said of the result against the input."""
        return self.report.verdict

    @property
    def exit_code(self) -> int:
        """What the command line exits with: 0 validated, 1 different, 6 could not tell."""
        return self.report.exit_code

    def to_proto(self) -> onnx.ModelProto:
        """The result as one message with its weights inside; external data is read in.

        Raises UsageError when the model is larger than the 2 GB that a message can hold.
        """
        encoded = encode(self.graph)
        pieces = list(join(encoded.proto, encoded.store))
        if sum(map(len, pieces)) >= 2**31:
            raise UsageError("the model is larger than 2 GB and cannot be one message; save it to a file instead")
        made: onnx.ModelProto = onnx.ModelProto.FromString(b"".join(pieces))
        return made

    def raise_unless_passed(self) -> Result:
        """Raises NotEquivalent or CouldNotTell with the verdict's sentence; returns itself otherwise."""
        if self.verdict.exit_code == 1:
            raise NotEquivalent(self.verdict.sentence())
        if self.verdict.exit_code == 6:
            raise CouldNotTell(self.verdict.sentence())
        return self


@dataclass
class _Clock:
    """Wall seconds of the phases of a run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class _Watch:
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


def run(
    source: Source,
    job: Job,
    target: Target | None = None,
    recording: Recording | None = None,
    history: History | None = None,
) -> Result:
    """Run `job` on a model; with a `target`, write the result there when its verdict allows.

    A `recording` keeps what a bundle of the run needs, also when it fails, a `history` every rewrite
    with the nodes around it.

    Nothing is written, and whatever stood at the target stays, unless the result was validated
    (or validation was switched off, or `keep` is set). Raises GraphoptError subclasses.
    """
    clock = _Clock()
    with ExitStack() as stack:
        stack.enter_context(limited(job.limits))
        work = stack.enter_context(Scratch())
        worker = stack.enter_context(
            Worker(seconds=job.worker_seconds, memory=job.worker_memory, custom_ops=job.custom_ops)
        )
        student = None
        if job.student is not None:
            student = read_student(job.student, source, None if target is None else target.path)
        start = source if student is None else student
        place = target.path if target is not None else work / "result.onnx"
        staged = stack.enter_context(stage(place, source=source, in_place=bool(target and target.in_place)))
        reference = on_disk(source, work / "input")
        validating = None
        if job.validate != "none" or job.latency:
            validating = stack.enter_context(validator(source, reference, job, worker))
        if validating is not None and job.validate != "none":
            validating.prepare(job.contract, job.budgets)
        planned = None
        if job.planner is not None:
            with clock.phase("plan"):
                job, planned = plan_of(source, reference, job, worker)
        job = foretold(job)
        calibrating = Calibrating(source, reference, job, worker)
        calibrating.prepare()
        watch = _Watch(job, start, validating, work)
        if recording is not None:
            recording.validating, recording.calibrating, recording.job = validating, calibrating, job
            watch.all.insert(0, recording.hashes)  # after-hooks run in reverse: it hashes what passed its checks
        if history is not None:
            watch.all.insert(0, history)
        stack.callback(watch.progress.stop)
        if watch.snapshots is not None:
            stack.push(watch.snapshots.close)
        if watch.check is not None:
            with clock.phase("check"):
                first = reference if student is None else on_disk(student, work / "start")
                refuse_invalid(watch.check, first, worker, job.validate != "none")
        with clock.phase("passes"), shelving(staged.folder):
            services = WorkerServices(worker, job.limits, data=calibrating.data, say=watch.progress.say)
            short, dead = worker.shortages, worker.deaths
            outcome = _passes(start, job, services, watch)
            short, dead = worker.shortages - short, worker.deaths - dead
        touched = outcome.rewrites > 0
        changed = touched or student is not None
        report = _report(source, job, outcome, watch, changed)
        if student is not None and not touched:
            report.warnings.append(UNTOUCHED)
        report.plan, report.calibration = planned, calibrating.report
        report.warnings += calibrating.warnings
        for sentence, count in ((_SHORT, short), (_DEAD, dead)):
            if count:
                report.warnings.append(sentence.format("once" if count == 1 else f"{count} times"))
        report.warnings += [over(name, count, job.limits) for name, count in services.reached.items()]
        with clock.phase("write"):
            written = _put(staged, start, outcome.graph, touched)
        if target is not None and written.external and not start.external and start.path is not None:
            report.warnings.append(outgrown(written))
        report.after = output_row(written, outcome.graph, report.before, changed)
        with clock.phase("validate"):
            watch.progress.say("validating")
            contract = outcome.contract if student is None else job.contract
            report.verdict = _verdict(job, contract, staged.path, validating, changed, outcome.origins)
        if job.latency and validating is not None:
            with clock.phase("latency"):
                watch.progress.say("measuring latency")
                report.latency = latency(validating, reference, staged.path, worker)
        if target is not None:
            ort = None
            if target.ort is not None and (report.exit_code == 0 or target.keep):
                judge = None
                with clock.phase("ort"):
                    if validating is not None and job.validate != "none":
                        judge = judge_of(validating, contract, job.budgets)
                    why, ort = make_ort(staged.path, work / "ort", worker, judge, keep=target.keep)
                    report.warnings += [why] if why else []
            with clock.phase("write"):
                _commit(report, staged, target, touched)
                if ort is not None and target.ort is not None:
                    report.written += tuple(map(str, put_ort(ort, target.ort)))
        report.seconds = clock.seconds
        return Result(outcome.graph, report)


_SHORT = (
    "onnxruntime ran out of memory {} while passes asked it for something; what they could not learn they left, or did "
    "without data, as their remarks say: allow more --memory, or give smaller feeds"
)
_DEAD = (
    "the onnxruntime worker ended or hung {} while passes asked it for something; what they could not learn they left, "
    "or did without data, as their remarks say"
)


def _passes(source: Source, job: Job, services: WorkerServices, watch: _Watch) -> manager.Outcome:
    """Run the pipeline. Where what comes out of it fails its check, it runs again with a check after
    each pass: that names the pass, or goes on without it."""
    while True:
        try:
            return manager.run(
                lambda: decode(source.proto, source.store),
                job.pipeline,
                services=services,
                gate=job.gate,
                instruments=watch.all,
                on_error=job.on_error,
            )
        except Veto:
            if watch.check is None or watch.check.each:
                raise
            watch.check.each = True


def _put(staged: Staged, source: Source, graph: Graph, changed: bool) -> Source:
    if not changed:
        return staged.copy(source)
    encoded = encode(graph)
    return staged.put(encoded.proto, encoded.store)


def _report(source: Source, job: Job, outcome: manager.Outcome, watch: _Watch, changed: bool) -> Report:
    assert watch.size.before is not None, "the run has begun"
    counted = watch.size.before if job.student is None else facts(decode(source.proto, source.store))
    before = input_row(source, counted)
    warnings = []
    if watch.check is not None and watch.check.input_fault is not None:
        warnings.append(f"the input itself does not pass ONNX's checker: {watch.check.input_fault}")
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


def _verdict(
    job: Job, contract: Contract, candidate: Path, validating: Validator | None, changed: bool,
    origins: Mapping[str, tuple[str, ...]],
) -> Verdict:  # fmt: skip
    if not changed:
        return not_validated("nothing was changed", Contract.EXACT)
    if job.validate == "none" or validating is None:
        return not_validated("validation was switched off", contract)
    return validating.check(candidate, contract, job.budgets, origins=origins)


def _commit(report: Report, staged: Staged, target: Target, touched: bool) -> None:
    if target.require_change and not touched:
        raise NotEquivalent("nothing was changed, and --require-change asks for a change; nothing was written")
    if report.exit_code != 0 and not target.keep:
        return
    written = staged.commit()
    report.written = tuple(str(path) for path in (written.path, *written.sidecars))
    report.kept_despite = report.exit_code != 0
    for path in written.left:
        report.warnings.append(f"{str(path)!r} may be left over of the old model, and could not be removed")
