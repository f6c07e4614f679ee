"""What a run did, as plain facts: the one source of the screen, the JSON and the report file."""

from __future__ import annotations

import dataclasses
import functools
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from graphopt.analysis.cost import Facts, Macs
from graphopt.contract import Contract
from graphopt.instruments.size import Size
from graphopt.instruments.timing import Timing
from graphopt.pipeline.manager import Outcome, Skipped
from graphopt.pipeline.protocol import Remark
from graphopt.report.brief import brief, briefs, plain_data
from graphopt.validation.verdict import Verdict

if TYPE_CHECKING:
    from graphopt.measure.latency import Latency
    from graphopt.tune.plan import Plan

FORMAT = 1  # of the JSON; raised when a field changes its meaning


@dataclass(frozen=True)
class PassRow:
    """All runs of one pass together. `nodes` and `weight_bytes` are differences, seconds wall time."""

    name: str
    contract: Contract
    turns: int
    applied: int
    missed: int
    disabled: int
    nodes: int
    weight_bytes: int
    seconds: float


@dataclass(frozen=True)
class ModelRow:
    """One model: file bytes (external data included), counts, and multiply-accumulates.

    `count_macs` and `compress` are called when what they give is first asked for: it takes a while.
    """

    path: str | None
    bytes: int
    sha256: str
    facts: Facts
    count_macs: Callable[[], Macs]
    compress: Callable[[], int | None] = lambda: None

    @functools.cached_property
    def macs(self) -> Macs:
        """Multiply-accumulates of one run (see `graphopt.analysis.cost`)."""
        return self.count_macs()

    @functools.cached_property
    def compressed(self) -> int | None:
        """Bytes of the file compressed with DEFLATE, as archives and packages of programs have it; None where
        it is too large for that, or has external data."""
        return self.compress()


@dataclass
class Report:
    """Everything that is known about one run. `calibration` says what passes learned from, None where none did;
    `student` is the file that the pipeline started from, None where that was the input."""

    recipe: str | None
    pipeline: str
    seed: int
    before: ModelRow
    after: ModelRow
    changed: bool
    passes: list[PassRow]
    steps: list[dict[str, Any]]
    remarks: list[Remark]
    skipped: list[Skipped]
    verdict: Verdict
    step_verdicts: list[tuple[str, Verdict]] = field(default_factory=list)
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    latency: Latency | None = None
    calibration: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    written: tuple[str, ...] = ()
    kept_despite: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    plan: Plan | None = None
    student: str | None = None

    @property
    def exit_code(self) -> int:
        """The verdict's exit code: 0 done, 1 not equivalent or over budget, 6 could not tell."""
        return self.verdict.exit_code

    @property
    def lossy(self) -> bool:
        """Whether the result was made by LOSSY passes: how well it compresses is then worth its time."""
        return self.changed and self.verdict.contract is Contract.LOSSY

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`, with a `format` number."""
        return {
            "format": FORMAT,
            "versions": versions(),
            "recipe": self.recipe,
            "pipeline": self.pipeline,
            "student": self.student,
            "plan": None if self.plan is None else self.plan.to_json(),
            "seed": self.seed,
            "changed": self.changed,
            "exit_code": self.exit_code,
            "before": _model(self.before, self.lossy),
            "after": _model(self.after, self.lossy),
            "passes": [dataclasses.asdict(row) | {"contract": str(row.contract)} for row in self.passes],
            "steps": self.steps,
            "skipped": [dataclasses.asdict(one) for one in self.skipped],
            "verdict": self.verdict.to_json(),
            "step_verdicts": [{"step": step, "verdict": one.to_json()} for step, one in self.step_verdicts],
            "latency": None if self.latency is None else dataclasses.asdict(self.latency),
            "calibration": self.calibration,
            "warnings": self.warnings,
            "written": list(self.written),
            "kept_despite": self.kept_despite,
            "seconds": {key: round(value, 4) for key, value in self.seconds.items()},
            "remarks": [plain_data(one) for one in self.remarks],
            "origins": {brief(name): briefs(old) for name, old in self.origins.items()},
        }


def _model(row: ModelRow, lossy: bool) -> dict[str, Any]:
    facts = row.facts
    return {
        "path": row.path,
        "bytes": row.bytes,
        "compressed_bytes": row.compressed if lossy else None,
        "sha256": row.sha256,
        "nodes": facts.nodes,
        "operators": dict(sorted(facts.operators.items())),
        "initializers": facts.initializers,
        "parameters": facts.parameters,
        "weight_bytes": facts.weight_bytes,
        "macs": row.macs.count,
        "nodes_of_unknown_macs": row.macs.unknown,
    }


def versions() -> dict[str, str]:
    """Versions of graphopt, Python and the libraries that the result depends on."""
    found = {"python": platform.python_version()}
    for name in ("graphopt", "onnx", "onnxruntime", "onnx-graphsurgeon", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def pass_rows(outcome: Outcome, timing: Timing, size: Size) -> list[PassRow]:
    """One row for each pass that ran, in order of its first turn."""
    rows: dict[str, PassRow] = {}
    last = size.before
    for turn in outcome.turns:
        running = turn.place.pass_
        now = size.after.get(turn.place.turn, last)
        assert now is not None and last is not None
        old = rows.get(running.name)
        rows[running.name] = PassRow(
            running.name,
            running.contract,
            (old.turns if old else 0) + 1,
            (old.applied if old else 0) + turn.applied,
            (old.missed if old else 0) + turn.missed,
            (old.disabled if old else 0) + turn.disabled,
            (old.nodes if old else 0) + now.nodes - last.nodes,
            (old.weight_bytes if old else 0) + now.weight_bytes - last.weight_bytes,
            (old.seconds if old else 0.0) + timing.turns.get(turn.place.turn, 0.0),
        )
        last = now
    return list(rows.values())


def step_rows(outcome: Outcome) -> Sequence[dict[str, Any]]:
    """The steps of the pipeline as they ran: text, contract, rounds, whether anything changed."""
    return [dataclasses.asdict(one) | {"contract": str(one.contract)} for one in outcome.steps]
