"""What `graphopt bench` found, as plain facts: the one source of the screen, the JSON and the plot."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from graphopt.measure.contest import Entry, Setting
from graphopt.report.summary import ModelRow
from graphopt.validation.verdict import Verdict


@dataclass(frozen=True)
class Contestant:
    """One model of a benchmark. `verdict` holds it against the first; None for the first itself, and where it was not
    asked for."""

    path: str
    row: ModelRow
    entry: Entry
    verdict: Verdict | None

    @property
    def sqnr_db(self) -> float | None:
        """Of the worst output against the first model's, with onnxruntime's optimizations; None where it has none."""
        if self.verdict is None:
            return None
        return min((one.sqnr_db for one in self.verdict.outputs if one.optimized and one.kind == "float"), default=None)


@dataclass(frozen=True)
class Benchmark:
    """What came out, the first model first; `metric` is the name of the figure of merit, None where none was asked
    for; `feeds` says what the models ran on."""

    contestants: tuple[Contestant, ...]
    setting: Setting
    feeds: str
    metric: str | None
    warnings: tuple[str, ...]
    machine: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """1 when a model could not be measured, else 0."""
        return 1 if any(one.entry.fault is not None for one in self.contestants) else 0


def to_json(found: Benchmark) -> dict[str, Any]:
    """Plain data for `json.dumps`."""
    return {
        "format": 1,
        "setting": dataclasses.asdict(found.setting),
        "feeds": found.feeds,
        "metric": found.metric,
        "machine": found.machine,
        "warnings": list(found.warnings),
        "exit_code": found.exit_code,
        "models": [_model(one) for one in found.contestants],
    }


def _model(one: Contestant) -> dict[str, Any]:
    row, entry = one.row, one.entry
    return {
        "path": one.path,
        "sha256": row.sha256,
        "bytes": row.bytes,
        "compressed_bytes": row.compressed,
        "nodes": row.facts.nodes,
        "parameters": row.facts.parameters,
        "macs": row.macs.count,
        "nodes_of_unknown_macs": row.macs.unknown,
        "fault": entry.fault,
        "latency_seconds": entry.seconds,
        "load_seconds": entry.load,
        "peak_memory_bytes": entry.memory,
        "against_first": None if entry.against is None else dataclasses.asdict(entry.against),
        "process_medians": entry.medians,
        "operators": None if entry.operators is None else [dataclasses.asdict(node) for node in entry.operators],
        "sqnr_db": one.sqnr_db,
        "verdict": None if one.verdict is None else one.verdict.to_json(),
    }
