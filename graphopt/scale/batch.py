"""Many models through one command line: each by itself in a worker, its end recorded as it comes."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphopt.errors import GraphoptError, InternalError, UsageError
from graphopt.ir.wording import shown_path
from graphopt.scale import places
from graphopt.scale.executor import Done, Executor
from graphopt.scale.manifest import NAME, Manifest, Row

One = Callable[[str, str, list[str]], dict[str, Any]]
"""Optimize the model at one path into another with the options of a command line; the facts of a `Row`, by name."""


@dataclass(frozen=True)
class Task:
    """One model: where it is, where its result goes (below `out`, which may be a URL), and how."""

    model: str
    out: str
    place: str
    options: tuple[str, ...]
    one: One


@dataclass(frozen=True)
class Summary:
    """How a batch went. `kept` counts the models whose rows of an earlier run still stand."""

    rows: tuple[Row, ...]
    kept: int
    seconds: float
    manifest: str
    workers: int

    @property
    def exit_code(self) -> int:
        """0 when all models were done; else the code that all that were not share, or 1."""
        codes = {row.exit_code for row in self.rows if row.exit_code}
        return 0 if not codes else codes.pop() if len(codes) == 1 else 1


def run_batch(
    models: Sequence[str],
    out: str,
    options: Sequence[str],
    one: One,
    executor: Executor,
    *,
    workers: int,
    version: str,
    resume: bool = False,
    heard: Callable[[Row, int, int], None] = lambda row, done, all_of: None,
) -> Summary:
    """Optimize every model of `models` (see `places.expanded`) into the folder `out`, keeping how they lie.

    The manifest in `out` gets a row for each as it ends; with `resume` models stay undone whose input, options and
    version are those of a good row there. `heard` is told of each row. Raises UsageError for what cannot be.
    """
    start = time.monotonic()
    found = places.expanded(models)
    root = places.common_folder(found)
    tasks = [Task(model, out, str(places.place_of(model, root)), tuple(options), one) for model in found]
    _refuse_twins(tasks)
    manifest = Manifest(_folder(out) / NAME)
    rows: list[Row] = []
    try:
        left = []
        for task in tasks:
            old = manifest.before.get(task.model) if resume else None
            if old is not None and _stands(old, task, version):
                rows.append(old)
                heard(old, len(rows), len(tasks))
            else:
                left.append(task)
        kept = len(rows)
        for done in executor.each(work, left):
            row = replace(_row(left[done.place], done), version=version)
            manifest.add(row)
            rows.append(row)
            heard(row, len(rows), len(tasks))
    finally:
        manifest.close()
    order = {task.model: number for number, task in enumerate(tasks)}
    ordered = tuple(sorted(rows, key=lambda row: order[row.model]))
    return Summary(ordered, kept, time.monotonic() - start, str(manifest.path), workers)


def work(task: Task) -> dict[str, Any]:
    """Carry out a task, in whatever process: the facts of its row."""
    with tempfile.TemporaryDirectory(prefix="graphopt-batch-") as scratch:
        try:
            model = task.model
            if places.is_url(model):
                inside = Path(scratch) / "input"
                inside.mkdir()
                model = str(places.fetched(model, inside))
            facts = {"sha256": sha256(Path(model)) if Path(model).is_file() else None}
            if not places.is_url(task.out):
                target = Path(task.out) / task.place
                target.parent.mkdir(parents=True, exist_ok=True)
                return facts | task.one(model, str(target), list(task.options))
            base = Path(scratch) / "output"
            target = base / task.place
            target.parent.mkdir(parents=True)
            facts |= task.one(model, str(target), list(task.options))
            written = [one for one in base.rglob("*") if one.is_file()]
            if written:
                places.delivered(written, base, task.out)
                facts["output"] = f"{task.out.rstrip('/')}/{task.place}"
            return facts
        except GraphoptError as error:
            return {"exit_code": error.exit_code, "sentence": str(error).rstrip("."), "output": None}
        except OSError as error:
            return {
                "exit_code": UsageError.exit_code,
                "sentence": f"{error.strerror}: {error.filename}",
                "output": None,
            }


def sha256(path: Path) -> str:
    """Of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _row(task: Task, done: Done) -> Row:
    facts: dict[str, Any] = done.value if done.fault is None else {}
    if done.fault is not None:
        facts = {"exit_code": InternalError.exit_code, "sentence": done.fault, "output": None}
    row = Row(model=task.model, options=list(task.options), **facts)
    return replace(row, attempts=done.attempts, seconds=round(done.seconds, 3))


def _stands(old: Row, task: Task, version: str) -> bool:
    """Whether an earlier row makes its model's run superfluous; what is elsewhere is always made anew."""
    if old.exit_code or places.is_url(task.model) or places.is_url(task.out):
        return False
    if old.output is None or not Path(old.output).is_file() or not Path(task.model).is_file():
        return False
    return old.same_work(sha256(Path(task.model)), list(task.options), version)


def _folder(out: str) -> Path:
    """Where the manifest goes: the folder of the results, or for a URL the current one."""
    if places.is_url(out):
        places.filesystem(out)
        return Path()
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out-dir {shown_path(out)}: no folder can be made there ({error.strerror})") from None
    return folder


def _refuse_twins(tasks: Sequence[Task]) -> None:
    seen: dict[str, str] = {}
    for task in tasks:
        if task.place in seen:
            raise UsageError(
                f"{shown_path(seen[task.place])} and {shown_path(task.model)} would both be written to "
                f"{shown_path(task.place)}; run them apart"
            )
        seen[task.place] = task.model
        own = Path(task.out) / task.place
        if not places.is_url(task.out) and own.exists() and Path(task.model).exists() and own.samefile(task.model):
            raise UsageError(f"{shown_path(task.model)} would be replaced by its own result; name another --out-dir")


def ordered(summary: Summary) -> Iterator[Row]:
    """The rows of a batch, those that failed first."""
    yield from sorted(summary.rows, key=lambda row: row.exit_code == 0)
