"""The record of a search: one line of JSON for each verdict, so that a search that was stopped goes on behind it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from graphopt.errors import OverLimit, UsageError
from graphopt.ir.wording import shown_path
from graphopt.tune.trial import Candidate, Trial

_FORMAT: Final = 1


@dataclass(frozen=True)
class Subject:
    """What all verdicts of a journal are about: hashes of the model and of the feeds (with their labels)."""

    model: str
    feeds: str

    def to_json(self) -> dict[str, Any]:
        """The first line of the journal."""
        return {"format": _FORMAT, "model": self.model, "feeds": self.feeds}


@dataclass(frozen=True)
class Entry:
    """One verdict: the trial, and the hash of the model that came of the candidate, empty where none did.

    `lasting`: whether it would be the same again; not so where a worker died.
    """

    trial: Trial
    sha256: str = ""
    lasting: bool = True


class Journal:
    """The file of a search, open for appending.

    A verdict is found again by `key`: what was tried on how much, and all that it depends on. With `resume` what
    the file has is used; without, a file that is there is refused, unless it may be `replaced`. A last line that was
    cut short is left out. Raises UsageError where the file is of another model or of other feeds, is damaged, or
    cannot be written.
    """

    def __init__(self, path: Path, subject: Subject, depends: str, *, resume: bool, replaced: bool = False) -> None:
        self.path, self._depends = path, depends
        self._known: dict[str, Entry] = {}
        self.reused = 0
        there = path.exists()
        if there and resume:
            self._known = _read(path, subject)
        elif there and not replaced:
            raise UsageError(
                f"the journal {shown_path(path)} is there already; give --resume to go on from it, or name another"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if there and resume:
                _cut(path)
            fresh = not (there and resume) or path.stat().st_size == 0
            self._stream = path.open("w" if fresh else "a", encoding="utf-8")
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise UsageError(f"the journal {shown_path(path)} cannot be written ({why})") from None
        if fresh:
            self._write(subject.to_json())

    def __len__(self) -> int:
        return len(self._known)

    def get(self, candidate: Candidate, rung: int, rows: int) -> Entry | None:
        """The verdict on a candidate, if it is known; under the name that the candidate has now."""
        found = self._known.get(self.key(candidate, rows))
        if found is None:
            return None
        self.reused += 1
        return replace(found, trial=replace(found.trial, candidate=candidate, rung=rung))

    def add(self, entry: Entry) -> None:
        """Append a verdict and see that it is on the disk. Raises OverLimit where that is full."""
        if not entry.lasting:
            return
        key = self.key(entry.trial.candidate, entry.trial.rows)
        self._known[key] = entry
        self._write({"key": key, "sha256": entry.sha256, "trial": entry.trial.to_json()})

    def key(self, candidate: Candidate, rows: int) -> str:
        """What names a verdict: the pipeline, how it is made to keep the budgets, the rows, and all else."""
        told = json.dumps([self._depends, candidate.pipeline, candidate.fit, rows])
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, data: Mapping[str, Any]) -> None:
        try:
            self._stream.write(json.dumps(data) + "\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise OverLimit(f"the journal {shown_path(self.path)} cannot be written ({why})") from None


def _read(path: Path, subject: Subject) -> dict[str, Entry]:
    damaged = "move it away, or name another with --journal"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # behind the last end of a line is what was cut short
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"the journal {shown_path(path)} cannot be read; {damaged}") from None
    found: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            if number == 1:
                _refuse_others(path, data, subject)
                continue
            found[data["key"]] = Entry(Trial.from_json(data["trial"]), data["sha256"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UsageError(f"line {number} of the journal {shown_path(path)} is damaged; {damaged}") from None
    return found


def _refuse_others(path: Path, data: Mapping[str, Any], subject: Subject) -> None:
    if data["format"] != _FORMAT:
        raise UsageError(
            f"the journal {shown_path(path)} has format {data['format']!r}, which this version does not read; "
            "name another with --journal"
        )
    for what, mine in (("model", subject.model), ("feeds", subject.feeds)):
        if data[what] != mine:
            others = "another model" if what == "model" else "other feeds or labels"
            raise UsageError(f"the journal {shown_path(path)} is of {others}; name another with --journal")


def _cut(path: Path) -> None:
    """Take off a last line that a death cut short."""
    whole = path.read_bytes()
    if not whole.endswith(b"\n"):
        os.truncate(path, whole.rfind(b"\n") + 1)
