"""The record of a batch: one line of JSON for each model that ended, appended as it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from graphopt.errors import UsageError
from graphopt.ir.wording import shown_path

NAME: Final = "manifest.jsonl"


@dataclass(frozen=True)
class Row:
    """How one model of a batch ended.

    `exit_code` is what `graphopt optimize` would have exited with for it alone, `sentence` what it said; `output` is
    None where nothing was written. `sha256` is the input's, `options` the command line without the models: a row
    with the same of both need not be made again. `attempts` counts those that workers died over too.
    """

    model: str
    output: str | None
    exit_code: int
    sentence: str
    sha256: str | None = None
    options: list[str] = field(default_factory=list)
    version: str = ""
    bytes_before: int | None = None
    bytes_after: int | None = None
    nodes_before: int | None = None
    nodes_after: int | None = None
    changed: bool = False
    attempts: int = 1
    seconds: float = 0.0

    def same_work(self, sha256: str, options: list[str], version: str) -> bool:
        """Whether doing it again would give what this row has: the same input, options and version."""
        return (self.sha256, self.options, self.version) == (sha256, options, version)


class Manifest:
    """The file of a batch, open for appending. Raises UsageError where it cannot be written or is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = read_manifest(path) if path.exists() else {}
        try:
            if path.exists():
                whole = path.read_bytes()
                if not whole.endswith(b"\n"):  # a line that a death cut short
                    os.truncate(path, whole.rfind(b"\n") + 1)
            self._stream = path.open("a", encoding="utf-8")
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise UsageError(f"the manifest {shown_path(path)} cannot be written ({why})") from None

    def add(self, row: Row) -> None:
        """Append a row and see that it is on the disk: a batch that is killed goes on behind it."""
        self._stream.write(json.dumps(asdict(row)) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_manifest(path: Path) -> dict[str, Row]:
    """The last row of each model. A last line that a death cut short is left out; any other damage is a UsageError."""
    rows: dict[str, Row] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"the manifest {shown_path(path)} cannot be read; name another --out-dir") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _row(json.loads(line))
        except (ValueError, RecursionError):
            if number == len(lines):  # nothing follows, not even the end of its line
                break
            raise UsageError(
                f"line {number} of the manifest {shown_path(path)} is damaged; move it away, or name another --out-dir"
            ) from None
        rows[row.model] = row
    return rows


_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (bool,),
    "float": (int, float),
    "list[str]": (list,),
}


def _row(data: Any) -> Row:
    if not isinstance(data, dict):
        raise ValueError("no object")
    known = {one.name: one for one in fields(Row)}
    for name, value in data.items():
        if name not in known or not isinstance(value, _KINDS[str(known[name].type)]):
            raise ValueError(f"{name} is not what it should be")
    try:
        return Row(**data)
    except TypeError as error:
        raise ValueError(str(error)) from None
