"""Where candidates are measured: their error on feeds, their bytes, and their latency against float."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np

from graphopt.measure.latency import Latency, compare_latency, timed
from graphopt.runtime.client import Options, Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.validation.budget import Budget
from graphopt.validation.figures import figures
from graphopt.validation.judge import Pair
from graphopt.validation.metrics import Metric
from graphopt.validation.running import Outputs
from graphopt.validation.runs import OFF, ON
from graphopt.validation.values import Array, digest_of
from graphopt.validation.verdict import BudgetResult

_QUICK_SECONDS: Final = 0.4  # of running, for one look at the error of a model
_ALL_SECONDS: Final = 6.0  # the same, for the figures that decide
_ROUNDS: Final = 101
_RACE_SECONDS: Final = 1.0
_PARTS: Final = 4  # of the feeds, each of which has to keep the budget
_PART: Final = 3  # feeds in a part, at least
STANDS: Final = 30.0  # decibels that stand for a metric that cannot be measured

Feeds = Sequence[Mapping[str, Any]]
Keep = Callable[[str, Sequence[Array], Callable[[], Mapping[str, Array]]], Mapping[str, Array]]


@dataclass(frozen=True)
class Evidence:
    """What candidates are measured on: feeds, with labels for their rows where there are some.

    `timed` is the feed that latency is measured on, the first one where it is None.
    """

    feeds: Feeds
    labels: Array | None = None
    metric: Metric | None = None
    timed: Mapping[str, Any] | None = None


@dataclass
class Bench:
    """Measures models against the original. Outputs of the original are computed once.

    `counts` are the feeds that a quick look and the deciding figures take; as many as time allows where it is None,
    which is not the same on every machine. With `keep`, all that was measured but latency is asked of it first.
    Raises WorkerFailure where the original does not run.
    """

    worker: Worker
    original: bytes
    evidence: Evidence
    budgets: tuple[Budget, ...]
    runs: int = 0
    races: int = 0
    counts: tuple[int, int] | None = None
    keep: Keep | None = None
    _known: dict[Options, list[Outputs]] = field(default_factory=dict)
    _ground: list[Array] | None = None

    def __post_init__(self) -> None:
        total = len(self.evidence.feeds)
        if self.counts is not None:
            self.few, self.many = (min(total, one) for one in self.counts)
        else:
            found = self._kept("feeds to look at", b"", lambda: {"counts": np.array(self._affordable(total))})
            self.few, self.many = (min(total, int(one)) for one in found["counts"])
        for mode in (ON, OFF):
            self._known[mode] = self._outputs(self.original, mode, self.evidence.feeds[: self.many])

    def _affordable(self, total: int) -> tuple[int, int]:
        """How many feeds a quick look and the deciding figures can take."""
        start = time.perf_counter()
        self._outputs(self.original, ON, self.evidence.feeds[:1])
        once = max(time.perf_counter() - start, 1e-4)
        many = total if self.evidence.labels is not None else min(total, max(4, int(_ALL_SECONDS / once)))
        return min(total, max(2, int(_QUICK_SECONDS / once))), many

    def error(self, model: bytes) -> float:
        """Energy of the error over that of the original, of the worst output, on a few feeds."""
        self.runs += 1
        try:
            found = self._kept(f"error on {self.few}", model, lambda: {"error": np.array(self._error(model))})
        except WorkerFailure:
            return math.inf
        return float(found["error"])

    def _error(self, model: bytes) -> float:
        pair = self._pair(model, ON, self.few)
        found = [pair.summary(name).total for name in pair.names]
        floats = [one for one in found if one.kind in ("float", "mixed")] or found
        if any(one.problem or one.nonfinite for one in found):
            return math.inf
        return max((_share(one.noise, one.signal) for one in floats), default=0.0)

    def figures(self, model: bytes, both: bool = False) -> tuple[BudgetResult, ...]:
        """Every budget with what the model reaches, on the worst part of the feeds where it is a ratio; with `both`,
        with onnxruntime's optimizations off too."""
        self.runs += 1
        metric = self.evidence.metric
        if metric is not None and metric.function is not None:  # the user's, which may be another the next time
            return self._figures(model, both)
        question = repr(("figures", self.many, both, self.budgets, metric))
        found = self._kept(question, model, lambda: {"reached": _reached(self._figures(model, both))})
        budgets = [one for one in self.budgets if one.is_of_outputs]
        return tuple(BudgetResult(*one) for one in zip(budgets, *found["reached"].tolist(), strict=True))

    def _figures(self, model: bytes, both: bool) -> tuple[BudgetResult, ...]:
        pairs = [self._pair(model, mode, self.many) for mode in ((OFF, ON) if both else (ON,))]
        found = figures(pairs, self.budgets, self.evidence.labels, self.evidence.metric).budgets
        for part in self._parts():
            cut = [Pair(one.mode, one.reference[part], one.candidate[part], one.differences[part]) for one in pairs]
            others = figures(cut, self.graded, None, None).budgets
            worse = {one.budget: one for one in others}
            found = tuple(_worse(one, worse[one.budget]) if one.budget in worse else one for one in found)
        return found

    @property
    def graded(self) -> tuple[Budget, ...]:
        """The budgets whose figures mean something on a few feeds: those that are no counts of rows."""
        return tuple(one for one in self.budgets if one.metric in ("sqnr_db", "cosine"))

    def _parts(self) -> list[slice]:
        """The feeds in parts, in order: what follows them may be like any one of these more than like all."""
        count = min(_PARTS, self.many // _PART)
        if count < 2 or not self.graded:
            return []
        ends = [self.many * place // count for place in range(count + 1)]
        return [slice(start, stop) for start, stop in pairwise(ends)]

    def latency(self, one: bytes, other: bytes, seconds: float = _RACE_SECONDS) -> Latency:
        """Latency of `other` against that of `one`, on one feed; measured longer where it is noisy."""
        self.races += 1
        options = timed(Options())
        feed = self.evidence.feeds[0] if self.evidence.timed is None else self.evidence.timed
        with self.worker.load(one, options) as a, self.worker.load(other, options) as b:
            found = compare_latency(self.worker, a, b, feed, rounds=_ROUNDS, budget=seconds)
            if found.noisy:
                found = compare_latency(self.worker, a, b, feed, rounds=2 * _ROUNDS, budget=2 * seconds)
            return found

    def _kept(self, question: str, model: bytes, make: Callable[[], Mapping[str, Array]]) -> Mapping[str, Array]:
        """What `make` gives, or gave about that model before."""
        if self.keep is None:
            return make()
        if self._ground is None:
            feeds = [np.frombuffer(digest_of(one), np.uint8) for one in self.evidence.feeds]
            labels = [] if self.evidence.labels is None else [self.evidence.labels]
            self._ground = [np.frombuffer(self.original, np.uint8), *feeds, *labels]
        return self.keep(f"planning: {question}", [*self._ground, np.frombuffer(model, np.uint8)], make)

    def _pair(self, model: bytes, mode: Options, count: int) -> Pair:
        outputs = self._outputs(model, mode, self.evidence.feeds[:count])
        return Pair.of(mode, self._known[mode][:count], outputs)

    def _outputs(self, model: bytes, mode: Options, feeds: Feeds) -> list[Outputs]:
        with self.worker.load(model, mode, label="a candidate") as session:
            return [session.run(feed) for feed in feeds]


def _reached(found: Sequence[BudgetResult]) -> Array:
    return np.array([[one.off for one in found], [one.on for one in found]], np.float64)


def _worse(one: BudgetResult, other: BudgetResult) -> BudgetResult:
    budget = one.budget
    return BudgetResult(budget, budget.worse(one.off, other.off), budget.worse(one.on, other.on))


def kept(found: Sequence[BudgetResult]) -> bool:
    """Whether every budget holds."""
    return all(one.kept for one in found)


def shown(found: Sequence[BudgetResult]) -> str:
    """Such as `sqnr_db 31.2, agreement 0.99`."""
    return ", ".join(f"{one.budget.metric} {one.budget.shown(one.reached)}" for one in found)


def db_of(energy: float) -> float:
    """The SQNR that an energy relative to the signal's stands for."""
    if energy <= 0.0:
        return math.inf
    return -10.0 * math.log10(energy) if energy < math.inf else -math.inf


def stricter(budget: Budget, margin_db: float) -> Budget:
    """The budget that planning aims at: what was not planned on may come out a little worse."""
    if budget.metric == "sqnr_db":
        return dataclasses.replace(budget, limit=min(budget.limit + margin_db, 1000.0))
    if budget.metric == "cosine":
        return dataclasses.replace(budget, limit=1 - (1 - budget.limit) / 10 ** (margin_db / 10))
    if budget.metric == "max_error":
        return dataclasses.replace(budget, limit=budget.limit / 10 ** (margin_db / 20))
    return budget


def measurable(budget: Budget, evidence: Evidence) -> Budget:
    """The budget that stands for one that cannot be measured on the planning feeds.

    Whoever agrees with the original on all rows but a few is right on all but as many; where there is no
    metric to measure, thirty decibels stand for little harm.
    """
    agreeing = budget.needs_labels and evidence.labels is None
    if budget.needs_metric and evidence.metric is not None and evidence.metric.function is None:
        agreeing = evidence.labels is None
    if agreeing:
        return Budget("agreement", max(0.0, min(1.0, 1.0 - budget.limit)))
    return Budget("sqnr_db", STANDS) if budget.needs_metric and evidence.metric is None else budget


def _share(noise: float, signal: float) -> float:
    if noise == 0.0:
        return 0.0
    return noise / signal if signal > 0.0 else math.inf
