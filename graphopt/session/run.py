"""One run from a model that was read to a validated file, or to nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.contract import Contract
from graphopt.errors import NotEquivalent
from graphopt.ir import Graph, decode, encode
from graphopt.ir.shelf import shelving
from graphopt.limits import limited, over
from graphopt.pipeline import manager
from graphopt.pipeline.instrument import Veto
from graphopt.report.summary import Report
from graphopt.runtime.client import Worker
from graphopt.session.calibrating import Calibrating
from graphopt.session.evidence import (
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
from graphopt.session.result import Result
from graphopt.session.services import WorkerServices
from graphopt.session.student import UNTOUCHED, read_student
from graphopt.session.watch import Clock, Watch, report_of
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.storage.write import Staged, stage
from graphopt.validation.verdict import Verdict, not_validated

if TYPE_CHECKING:
    from graphopt.instruments.history import History
    from graphopt.session.recording import Recording
    from graphopt.validation.validate import Validator


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
    clock = Clock()
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
        watch = Watch(job, start, validating, work)
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
        report = report_of(source, job, outcome, watch, changed)
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


def _passes(source: Source, job: Job, services: WorkerServices, watch: Watch) -> manager.Outcome:
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
