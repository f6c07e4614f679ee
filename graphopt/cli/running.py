"""Runs a job for a sub-command: what becomes of the output and the report when it ends, or is stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.cli.output import Output
from graphopt.cli.signals import ending
from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.session.job import Job, Target
    from graphopt.session.run import Result
    from graphopt.storage.source import Source


def optimized(model: Path, job: Job, target: Target | None, report: Path | None) -> Result:
    """Read a model, run the job on it, and write its report. Raises GraphoptError subclasses.

    A signal ends it as an error that says what became of the output.
    """
    from graphopt.report.saved import check_place, save
    from graphopt.session.run import run
    from graphopt.storage.read import read

    _spare_evidence(target, job)
    source = read(model)
    if report is not None:
        check_place(report, _taken(source, job, target))
    before = _stamp(target)
    try:
        result = run(source, job, target)
    except KeyboardInterrupt as stop:
        raise ending(stop, _became(target, before)) from stop
    if report is not None:
        save(report, result.report.to_json())
    return result


def show(result: Result, output: Output) -> None:
    """Print the report of a run."""
    from graphopt.report.text import print_report

    output.show(result.report.to_json, lambda console: print_report(result.report, console, output.verbose))


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
    for what, given in (("the file of --feeds", job.feeds.feeds), ("the file of --labels", job.labels)):
        if isinstance(given, str):
            yield what, Path(given)
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
