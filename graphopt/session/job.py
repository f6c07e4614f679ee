"""Everything that one run depends on besides the model: a value that can be kept and repeated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.limits import Limits, current
from graphopt.pipeline.gate import Gate, Open
from graphopt.pipeline.manager import OnError
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.recipe import Planner
from graphopt.validation.budget import Budget
from graphopt.validation.plan import FeedPlan

if TYPE_CHECKING:
    from graphopt.validation.labels import Labels
    from graphopt.validation.metrics import Function

Validate = Literal["end", "segments", "each", "none"]

GENERATED = 8
"""Feeds that are made to calibrate on where the user gives none."""


@dataclass(frozen=True)
class Job:
    """What to do with a model, and how to judge the result.

    `budgets` are only needed for LOSSY passes. `worker_seconds` bounds each request to the worker
    process, `worker_memory` (bytes) its memory; `custom_ops` are operator libraries that only the
    worker loads. `validate` says when outputs are compared: at the `end` (models that would not fit in memory are
    run by segments), by `segments` in any case, after `each` step, too, or not at all. `latency` measures input
    against output, interleaved.
    `calibration` are the feeds that passes may learn from; None takes the first half of `feeds`, whose second
    half then validates, where a pass of the pipeline calibrates at all. With a `planner`, which learns too, the
    pipeline that runs is the one that it emits; then it was `planned`. `cache_dir` is a folder in which what was
    learned is kept for other runs. `student` is the file of a smaller model with the same interface: the pipeline
    starts from that, and what comes of it is held against the model. `sensitivity` is the file of a table of what
    each layer tolerates, which spares a planner measurements and tells passes
    where little is lost. `limits` bound what a model may make the run hold or do.
    """

    pipeline: Pipeline
    recipe: str | None = None
    budgets: tuple[Budget, ...] = ()
    feeds: FeedPlan = field(default_factory=FeedPlan)
    labels: Labels | None = None
    metric: str | Function | None = None
    validate: Validate = "end"
    on_error: OnError = "stop"
    gate: Gate = field(default_factory=Open)
    only: tuple[str, ...] = ()
    until: str | None = None
    check: bool = True
    snapshots: Path | None = None
    latency: bool = False
    seed: int = 0
    custom_ops: tuple[Path, ...] = ()
    worker_seconds: float = 600.0
    worker_memory: int | None = None
    progress: bool = False
    calibration: FeedPlan | None = None
    planner: Planner | None = None
    planned: bool = False
    cache_dir: Path | None = None
    student: Path | None = None
    sensitivity: Path | None = None
    limits: Limits = field(default_factory=current)

    def __post_init__(self) -> None:
        if self.validate not in ("end", "segments", "each", "none"):
            raise UsageError(f"validate expects end, segments, each or none, not {self.validate!r}")
        if self.on_error not in ("stop", "skip"):
            raise UsageError(f"on-error expects stop or skip, not {self.on_error!r}")
        reads = self.planner is not None or self.planned or any(one.predicts for one in self.pipeline.passes())
        if self.sensitivity is not None and not reads:
            raise UsageError(
                "a table of sensitivities is for recipes that plan, such as int8-auto, and for the pass channels; "
                "leave it out"
            )
        judged = any(budget.is_of_outputs for budget in self.budgets)
        if self.pipeline.contract is Contract.LOSSY and not judged and self.validate != "none":
            lossy = next(one.name for one in self.pipeline.passes() if one.contract is Contract.LOSSY)
            raise UsageError(f"the pass {lossy} is LOSSY and needs a budget, for example --budget 'sqnr_db>=30'")
        if self.student is not None:
            self._check_student(judged)

    def _check_student(self, judged: bool) -> None:
        if not judged and self.validate != "none":
            raise UsageError("a student is another model and needs a budget, for example --budget 'sqnr_db>=20'")
        if self.validate == "each":
            raise UsageError("the first step from a student has no model before it to compare with; use --validate end")
        if self.planner is not None:
            raise UsageError("a recipe that plans starts from the model itself; give --student with a pipeline")

    @property
    def contract(self) -> Contract:
        """The loosest that the run may come to."""
        return self.pipeline.contract if self.student is None else Contract.LOSSY

    @property
    def calibrates(self) -> bool:
        """Whether a pass of the pipeline learns from feeds, or planning does."""
        return self.planned or self.planner is not None or any(one.calibrates for one in self.pipeline.passes())

    @property
    def learning(self) -> FeedPlan:
        """The feeds that passes learn from; generated ones are others than those that validate."""
        if self.calibration is not None:
            return self.calibration
        if self.feeds.feeds is None:
            return replace(self.feeds, generate=GENERATED)
        return replace(self.feeds, half="first")

    @property
    def learning_seed(self) -> int:
        """Of generated feeds that passes learn from."""
        return self.seed if self.learning.feeds is not None else self.seed + 1

    @property
    def judging(self) -> FeedPlan:
        """The feeds that the result is validated on: none of those that passes learn from."""
        given = self.calibration is None and self.feeds.feeds is not None
        return replace(self.feeds, half="second") if given and self.calibrates else self.feeds


@dataclass(frozen=True)
class Target:
    """Where the result goes. `keep` writes it whatever the verdict says; `ort` is where it goes in onnxruntime's own
    format, too."""

    path: Path
    in_place: bool = False
    keep: bool = False
    require_change: bool = False
    ort: Path | None = None
