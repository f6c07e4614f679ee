"""What a planner decided and from which figures: plain facts for the report."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from graphopt.measure.latency import Latency
from graphopt.pipeline.pipeline import Pipeline
from graphopt.tune.levers import levers


@dataclass(frozen=True)
class Stayed:
    """Nodes that not every pass that could take them takes, what takes them instead (None: they stay as they
    were), and in a clause why."""

    nodes: tuple[str, ...]
    op: str
    instead: str | None
    why: str


@dataclass(frozen=True)
class Tried:
    """One candidate, fitted: the pipeline that came of it, and what that reached on the planning feeds.

    `pipeline` is None where nothing came of it, and `why` says in a clause why it was not taken. `reached` are
    the budgets' figures in words; `latency` is against the model as it was read, `bytes` are of the
    whole file.
    """

    candidate: Pipeline
    pipeline: Pipeline | None
    why: str = ""
    reached: str = ""
    bytes: int = 0
    ratio_of_bytes: float = 1.0
    latency: Latency | None = None
    units: int = 0
    stayed: tuple[Stayed, ...] = ()
    notes: tuple[str, ...] = ()
    runs: int = 0
    races: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The candidate by its passes that choose among nodes, which is what tells it from others."""
        steps = levers(self.candidate)
        return str(Pipeline(tuple(self.candidate.steps[step] for step in steps))) or str(self.candidate)

    @property
    def score(self) -> float:
        """What candidates are compared by, less being better: latency times bytes, each against float."""
        ratio = 1.0 if self.latency is None else self.latency.ratio
        return ratio * self.ratio_of_bytes

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "candidate": str(self.candidate),
            "pipeline": None if self.pipeline is None else str(self.pipeline),
            "why": self.why,
            "reached": self.reached,
            "bytes": self.bytes,
            "ratio_of_bytes": round(self.ratio_of_bytes, 4),
            "latency": None if self.latency is None else dataclasses.asdict(self.latency),
            "units": self.units,
            "stayed": [dataclasses.asdict(one) for one in self.stayed],
            "notes": list(self.notes),
            "runs": self.runs,
            "races": self.races,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Plan:
    """The pipeline that a planner emits, the candidates it comes from, and which of them it is.

    `taken` is None where every candidate was refused and nothing is quantized.
    """

    planner: str
    pipeline: Pipeline
    tried: tuple[Tried, ...]
    taken: int | None
    feeds: str
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def stayed(self) -> tuple[Stayed, ...]:
        """What stayed as it was, and why."""
        return () if self.taken is None else self.tried[self.taken].stayed

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "planner": self.planner,
            "pipeline": str(self.pipeline),
            "taken": self.taken,
            "tried": [one.to_json() for one in self.tried],
            "feeds": self.feeds,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }
