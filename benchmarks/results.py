"""Results files: JSON lines of records, each run of them after a line of facts about its machine, where it has one.

A run that was cut off may leave half a line at the end, which counts as not written. What a later run measured again
takes the place of what was measured before.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.record import Record
from benchmarks.steady import LIMIT, NOISE
from graphopt.errors import UsageError
from graphopt.report.plain import cut, printable

Key = tuple[str, str, str]
_PASSING: Final = frozenset({"date", "time", "started", "ended", "load", "when"})
_LONGEST: Final = 80  # characters of a name in a sentence


@dataclass(frozen=True)
class Run:
    """The records of one run, and the facts of its machine, which are empty where it noted none."""

    machine: Mapping[str, Any]
    records: tuple[Record, ...]


def key(record: Record) -> Key:
    """What makes two records measurements of the same thing."""
    return record.suite, record.model, record.contender


def read(path: Path) -> list[Run]:
    """The runs of a results file, in order. Raises UsageError for what is none."""
    name = repr(cut(str(path), _LONGEST))
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"cannot read the results {name}: {(error.strerror or str(error)).lower()}") from None
    machines: list[Mapping[str, Any]] = [{}]
    records: list[list[Record]] = [[]]
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError:  # also for bytes that are no text
            if number == len(lines):
                break
            raise UsageError(f"{name} is no results file: line {number} is no JSON") from None
        where = f"{name} is no results file: line {number}"
        if not isinstance(data, dict):
            raise UsageError(f"{where} is no JSON object")
        if data.get("kind") == "machine":
            machines.append({key: value for key, value in data.items() if key != "kind"})
            records.append([])
        elif data.get("kind") == "record":
            records[-1].append(_record(data, where))
    runs = [Run(*each) for each in zip(machines, map(tuple, records), strict=True) if each[1]]
    if not runs:
        raise UsageError(f"{name} holds no records of a benchmark")
    return runs


def _record(data: Mapping[str, Any], where: str) -> Record:
    try:
        found = Record.from_json(data)
    except TypeError:
        fields = {field.name: field.default for field in dataclasses.fields(Record)}
        odd = [f"has an unknown field {printable(str(name))!r}" for name in data if name not in {*fields, "kind"}]
        odd += [f"has no {name!r}" for name in ("suite", "model", "contender", "version") if name not in data]
        raise UsageError(f"{where} {cut((odd or ['is no record'])[0], _LONGEST)}") from None
    texts = (found.suite, found.model, found.contender, found.version, found.failure)
    if not all(isinstance(each, str) for each in texts):
        raise UsageError(f"{where} has a name that is no text")
    if not isinstance(found.figures, dict) or not isinstance(found.words, dict):
        raise UsageError(f"{where} has figures or words that are no JSON object")
    for name, value in found.figures.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"{where} has a figure {cut(name, _LONGEST)!r} that is no number")
    if not all(isinstance(each, str) for each in found.words.values()):
        raise UsageError(f"{where} has a word that is no text")
    return found


def latest(runs: Iterable[Run]) -> list[Record]:
    """The records of all runs, each in the place where it came first, as it was measured last."""
    found: dict[Key, Record] = {}
    for run in runs:
        for record in run.records:
            found[key(record)] = record
    return list(found.values())


def machines(runs: Iterable[Run]) -> list[Mapping[str, Any]]:
    """The machines of runs that noted one, each once."""
    found: list[Mapping[str, Any]] = []
    for run in runs:
        if run.machine and lasting(run.machine) not in map(lasting, found):
            found.append(run.machine)
    return found


def lasting(machine: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a machine but for those that no two runs share, such as the date."""
    return {name: value for name, value in facts(machine).items() if name.split()[-1] not in _PASSING}


def facts(machine: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The facts of a machine as texts; those of a group are named with it: `versions onnx`."""
    found: dict[str, str] = {}
    for name, value in machine.items():
        full = f"{prefix}{printable(str(name)).replace('_', ' ')}"
        if isinstance(value, dict):
            found |= facts(value, f"{full} ")
        elif isinstance(value, list):
            found[full] = ", ".join(printable(str(one)) for one in value)
        elif name == "memory" and isinstance(value, int):
            found[full] = f"{value / 1e9:.1f} GB"
        elif value is not None:
            found[full] = f"{value:,}" if isinstance(value, float) else printable(str(value))
    return found


def versions(records: Iterable[Record]) -> dict[str, str]:
    """By tool, which is what stands before the colon of a contender, its version, or all of them."""
    found: dict[str, list[str]] = {}
    for record in records:
        tool = tool_of(record)
        if record.version and record.version not in found.setdefault(tool, []):
            found[tool].append(record.version)
    return {tool: ", ".join(some) for tool, some in found.items() if some}


def tool_of(record: Record) -> str:
    return record.contender.partition(":")[0]


def intervals(record: Record) -> dict[str, tuple[float, float]]:
    """By the name of a figure that has one, its interval."""
    figures = record.figures
    return {
        name: (figures[f"{name}_low"], figures[f"{name}_high"])
        for name in figures
        if f"{name}_low" in figures and f"{name}_high" in figures
    }


def flagged(records: Sequence[Record]) -> list[Record]:
    """The same records, those with an interval too wide for two runs to agree marked as noisy."""
    found = []
    for record in records:
        wide = any(high - low > LIMIT * abs(record.figures[name]) for name, (low, high) in intervals(record).items())
        if wide and "noise" not in record.words:
            record = dataclasses.replace(record, words={**record.words, "noise": NOISE})
        found.append(record)
    return found
