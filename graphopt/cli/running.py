"""Runs a job for a sub-command: what becomes of the output and the report when it ends, or is stopped."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.cli.output import Output
from graphopt.cli.resuming import resumable
from graphopt.cli.signals import ending
from graphopt.errors import (
    OUT_OF_MEMORY,
    BadModel,
    GraphoptError,
    InternalError,
    OverLimit,
    Unsafe,
    UsageError,
    ran_out,
)

if TYPE_CHECKING:
    from rich.console import Console

    from graphopt.debug.command import Command
    from graphopt.debug.finding import Finding
    from graphopt.instruments.history import History
    from graphopt.session.job import Job, Target
    from graphopt.session.recording import Recording
    from graphopt.session.result import Result
    from graphopt.storage.source import Source


@dataclass(frozen=True)
class Extras:
    """The files that a run writes besides its result."""

    report: Path | None = None
    html: Path | None = None
    remarks: Path | None = None
    bundle: Path | None = None
    on_failure: Path | None = None
    weights: bool = True

    @classmethod
    def of(
        cls,
        report: str | None = None,
        html: str | None = None,
        remarks: str | None = None,
        bundle: str | None = None,
        on_failure: str | None = None,
        weights: bool = True,
    ) -> Extras:
        """From the options of the command line."""
        paths = [None if one is None else Path(one) for one in (report, html, remarks, bundle, on_failure)]
        return cls(paths[0], paths[1], paths[2], paths[3], paths[4], weights)

    def check(self, taken: Iterable[tuple[str, Path]]) -> None:
        """See before the run that all of them can be written, each a file of its own."""
        from graphopt.storage.files import check_place

        if not self.weights and self.bundle is None and self.on_failure is None:
            raise UsageError("--no-weights leaves the model out of a bundle; give --bundle FILE with it")
        files = list(taken)
        for flag, what, path in (
            ("--report", "the report", self.report),
            ("--html", "the page", self.html),
            ("--remarks", "the remarks", self.remarks),
            ("--bundle", "the bundle", self.bundle),
            ("--bundle-on-failure", "the bundle", self.on_failure),
        ):
            if path is not None:
                check_place(path, files, flag=flag, what=what)
                files.append((f"the file of {flag}", path))


def optimized(model: Path, job: Job, target: Target | None, extras: Extras = Extras()) -> Result:
    """Read a model, run the job on it, and write its report and the like. Raises GraphoptError subclasses.

    A signal ends it as an error that says what became of the output.
    """
    from graphopt.session.run import run
    from graphopt.storage.read import read

    _spare_evidence(target, job)
    if job.student is not None and (extras.bundle is not None or extras.on_failure is not None):
        raise UsageError("a bundle holds one model, and a run from a student has two; leave out one of the two")
    source = read(model)
    taken = list(_taken(source, job, target))
    if target is not None and target.ort is not None:
        from graphopt.session.ort_format import check_ort

        taken += check_ort(target.ort, taken)
    extras.check(taken)
    recording, history = _recording(extras), _history(extras)
    before = _stamp(target)
    with (
        resumable(job.calibrates, job.cache_dir),
        telling(lambda: _became(target, before), lambda: _stamp(target) != before),
    ):
        try:
            result = run(source, job, target, recording, history)
        except GraphoptError as error:
            if not isinstance(error, UsageError | BadModel | Unsafe):
                _pack_failure(error, extras, source, job, recording)
            raise
        for path in _pack(extras, source, job, recording, result=result):
            result.report.warnings.append(_where(path))
        if extras.report is not None or extras.remarks is not None:
            from graphopt.report.saved import save, save_remarks

            if extras.report is not None:
                save(extras.report, result.report.to_json())
            if extras.remarks is not None:
                save_remarks(extras.remarks, result.report.remarks)
        if extras.html is not None and history is not None:
            from graphopt.report.html import save_page

            save_page(extras.html, result.report, history)
    return result


@contextmanager
def telling(became: Callable[[], str], written: Callable[[], bool]) -> Iterator[None]:
    """Whatever ends the block early says `became()`: a signal always, an error where something was `written()`."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise ending(stop, became()) from stop
    except GraphoptError as error:
        if written() and "written" not in str(error):
            error.args = (f"{str(error).rstrip('.')}; {became()}",)
        raise
    except Exception as error:
        if not written():
            raise
        from graphopt.storage.refused import unforeseen

        ended: GraphoptError = InternalError(f"internal error ({type(error).__name__}: {error})")
        if ran_out(error):
            ended = OverLimit(OUT_OF_MEMORY)
        elif isinstance(error, OSError):
            ended = unforeseen(error)
        ended.args = (f"{ended}; {became()}",)
        raise ended from error


def bisected(model: Path, job: Job, check: Command | None, most: int, extras: Extras) -> Finding:
    """Read a model, find what breaks it, and pack the run that has it. Raises GraphoptError subclasses."""
    from graphopt.session.bisecting import bisect
    from graphopt.session.planning import settled
    from graphopt.session.run import run
    from graphopt.storage.read import read

    source = read(model)
    extras.check(_taken(source, job, None))
    with resumable(job.calibrates, job.cache_dir):
        job = settled(source, job)
        found = bisect(source, job, check=check, most=most)
    if extras.bundle is None:
        return found
    if found.outcome not in ("rewrite", "pass"):
        return dataclasses.replace(found, warnings=("there is no one rewrite to end with, so no bundle was written",))
    guilty = job if found.position is None else _up_to(job, found.position)
    recording = _recording(extras)
    try:
        result = run(source, guilty, None, recording)
    except GraphoptError as error:
        _pack(extras, source, guilty, recording, error=error)
    else:
        _pack(extras, source, guilty, recording, result=result)
    return dataclasses.replace(found, bundle=str(extras.bundle))


def _up_to(job: Job, count: int) -> Job:
    from graphopt.pipeline.gate import Limits

    disabled = job.gate.disabled if isinstance(job.gate, Limits) else frozenset()
    return dataclasses.replace(job, gate=Limits(disabled, count))


def _recording(extras: Extras) -> Recording | None:
    if extras.bundle is None and extras.on_failure is None:
        return None
    from graphopt.session.recording import Recording

    return Recording()


def _history(extras: Extras) -> History | None:
    if extras.html is None:
        return None
    from graphopt.instruments.history import History

    return History()


def _pack(
    extras: Extras,
    source: Source,
    job: Job,
    recording: Recording | None,
    *,
    result: Result | None = None,
    error: GraphoptError | None = None,
) -> list[Path]:
    """Write the bundles that were asked for; which were."""
    written = []
    failed = error is not None or (result is not None and result.exit_code != 0)
    for path in (extras.bundle, extras.on_failure if failed else None):
        if path is not None and recording is not None:
            from graphopt.session.recording import write_bundle

            write_bundle(path, source, job, recording, result=result, error=error, weights=extras.weights)
            written.append(path)
    return written


def _pack_failure(error: GraphoptError, extras: Extras, source: Source, job: Job, recording: Recording | None) -> None:
    """Write the bundles of a run that failed; its error says what became of them."""
    try:
        notes = [_where(path) for path in _pack(extras, source, job, recording, error=error)]
    except GraphoptError as other:
        notes = [str(other)]
    if notes:
        error.args = ("; ".join([str(error).rstrip("."), *notes]),)


def _where(path: Path) -> str:
    return f"the run is packed in {str(path)!r}, which `graphopt replay` runs again"


def show(result: Result, output: Output, remarks_for: str | None = None) -> None:
    """Print the report of a run; with `remarks_for` the remarks that fit it, too."""
    from graphopt.report.text import print_report

    def draw(console: Console) -> None:
        print_report(result.report, console, output.verbose)
        if remarks_for is not None:
            from graphopt.report.remarks import print_remarks

            print_remarks(result.report.remarks, remarks_for, console, output.verbose)

    said = repr(result.report.written[0]) if result.report.written else ""
    with telling(lambda: f"{said} was written already" if said else "nothing was written", lambda: bool(said)):
        output.show(result.report.to_json, draw)


def _taken(source: Source, job: Job, target: Target | None) -> Iterator[tuple[str, Path]]:
    """The files of a run that its report must not replace, and what they are."""
    if target is not None:
        yield ("the input" if target.in_place else "the output"), target.path
    if source.path is not None:
        yield "the input", source.path
    for file in source.external:
        yield "external data of the input", file.path
    yield from _evidence(job)


def _evidence(job: Job) -> Iterator[tuple[str, Path]]:
    learned = None if job.calibration is None else job.calibration.feeds
    for what, given in (
        ("the file of --feeds", job.feeds.feeds),
        ("the file of --calibration", learned),
        ("the file of --labels", job.labels),
    ):
        if isinstance(given, str):
            yield what, Path(given)
    if job.student is not None:
        yield "the student", job.student
    for library in job.custom_ops:
        yield "a library of custom operators", library


def _spare_evidence(target: Target | None, job: Job) -> None:
    """Raises UsageError when the output would replace a file that the run is judged by."""
    for what, path in _evidence(job) if target is not None else ():
        if target is not None and path.exists() and target.path.exists() and target.path.samefile(path):
            raise UsageError(f"-o {target.path}: this is {what}; choose another output")


def _stamp(target: Target | None) -> tuple[int, ...] | None:
    """What tells whether the output is another file than before."""
    if target is None:
        return None
    try:
        status = os.stat(target.path)  # noqa: PTH116 - also of a path with a NUL, which is a usage error later
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _became(target: Target | None, before: tuple[int, ...] | None) -> str:
    if target is None:
        return ""
    shown = repr(str(target.path))
    if _stamp(target) != before:
        return f"{shown} was written already"
    return f"{shown} is unchanged" if before is not None else f"{shown} was not written"
