"""The report file that `optimize --report` writes, and reading it back with a sentence for all that can be wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError
from graphopt.pipeline.protocol import Remark
from graphopt.report.brief import plain_data
from graphopt.report.plain import printable
from graphopt.report.summary import FORMAT
from graphopt.storage import files

MAX_FILE = 1 << 30  # bytes; a report of a million remarks has about a quarter of that
_TEXTS = ("kind", "pass_name", "rule", "node", "op", "why", "scope")
_KINDS = ("applied", "missed", "disabled")


@dataclass(frozen=True)
class Saved:
    """What of a report file can be asked about: remarks, and which old names each new one stands for."""

    model: str
    remarks: tuple[Remark, ...]
    origins: dict[str, tuple[str, ...]]


def check_place(path: Path, taken: Iterable[tuple[str, Path]] = ()) -> None:
    """See before a run that a report can be written to `path` and is none of the files in `taken`.

    `taken` pairs a name for the message with a path. Raises UsageError.
    """
    files.check_place(path, taken, flag="--report", what="the report")


def save(path: Path, data: dict[str, Any]) -> None:
    """Write a report (`Report.to_json()`), atomically: a reader finds the old file or the new one.

    Raises UsageError or OverLimit when it cannot be written.
    """
    with files.replacing(path, "the report") as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", write_through=True)
        json.dump(data, text, indent=1)
        text.write("\n")
        text.detach()


def save_remarks(path: Path, remarks: Iterable[Remark]) -> None:
    """Write remarks, each as a JSON object on a line of its own; raises as `save` does."""
    with files.replacing(path, "the remarks") as stream:
        for one in remarks:
            stream.write(json.dumps(plain_data(one)).encode() + b"\n")


def read_report(path: Path) -> Saved:
    """Read a report file. Raises UsageError with one sentence when it is none."""
    shown = f"report {printable(str(path))!r}"
    data = _json(path, shown)
    if not isinstance(data, dict) or "remarks" not in data or "origins" not in data:
        raise UsageError(f"{shown} is no report of `graphopt optimize`; write one with --report FILE")
    if data.get("format") != FORMAT:
        raise UsageError(
            f"{shown} has the format {data.get('format')!r} and this graphopt reads {FORMAT}; write it again"
        )
    before = data.get("before")
    model = before.get("path") if isinstance(before, dict) else None
    try:
        remarks = tuple(_remark(one) for one in _list(data["remarks"], "remarks"))
        return Saved(model if isinstance(model, str) else "the model", remarks, _origins(data["origins"]))
    except ValueError as error:
        raise UsageError(f"{shown} is damaged: {error}; write it again with --report FILE") from None


def _json(path: Path, shown: str) -> Any:
    try:
        if path.is_dir():
            raise UsageError(f"{shown} is a folder; name the file that `optimize --report FILE` wrote")
        if path.exists() and not path.is_file():
            raise UsageError(f"{shown} is not a regular file")
        if path.stat().st_size > MAX_FILE:
            raise UsageError(f"{shown} is larger than {MAX_FILE >> 20} MiB, which no report is")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{shown} is not text; name the file that `optimize --report FILE` wrote") from None
    except FileNotFoundError:
        raise UsageError(f"{shown} does not exist; `graphopt optimize --report FILE` writes one") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown} cannot be read: {files.reason(error)}") from None
    try:
        return json.loads(text)
    except RecursionError:
        raise UsageError(f"{shown} is nested too deeply to be a report") from None
    except ValueError as error:
        empty = "it is empty" if not text.strip() else printable(str(error))
        raise UsageError(f"{shown} is not JSON ({empty}); name the file that `optimize --report FILE` wrote") from None


def _remark(data: Any) -> Remark:
    if not isinstance(data, dict):
        raise ValueError("a remark is not an object")
    for key in _TEXTS:
        if not isinstance(data.get(key), str):
            raise ValueError(f"a remark has no text {key!r}")
    if data["kind"] not in _KINDS:
        raise ValueError(f"a remark has the kind {data['kind']!r}")
    number, step = data.get("number"), data.get("step")
    if not (number is None or type(number) is int) or type(step) is not int:  # and no bool
        raise ValueError("a remark has a number that is none")
    before, after = (_names(data.get(key), key) for key in ("before", "after"))
    values = _names(data.get("values", []), "values")
    texts = {key: data[key] for key in _TEXTS}
    return Remark(**texts, number=number, step=step, before=before, after=after, values=values)


def _origins(data: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(data, dict):
        raise ValueError("its origins are not an object")
    return {name: _names(old, "origins") for name, old in data.items()}


def _names(data: Any, what: str) -> tuple[str, ...]:
    names = tuple(_list(data, what))
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{what!r} holds something that is no name")
    return names


def _list(data: Any, what: str) -> list[Any]:
    if not isinstance(data, list):
        raise ValueError(f"{what!r} is not a list")
    return data
