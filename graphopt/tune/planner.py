"""Chooses among candidate pipelines: each is fitted to the model, and the best of what comes out is emitted."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from graphopt.errors import GraphoptError, NotEquivalent
from graphopt.pipeline.goal import Goal
from graphopt.pipeline.pipeline import Pipeline
from graphopt.tune.bench import Bench, Evidence, kept, measurable, stricter
from graphopt.tune.fit import SLOWER, Fit, Limits
from graphopt.tune.levers import levers
from graphopt.tune.plan import Plan, Tried
from graphopt.tune.strength import Strengthening
from graphopt.tune.variants import Workshop
from graphopt.validation.budget import Budget

TIE: Final = 0.02
"""A candidate has to be better by this part than one that is preferred to it."""

MARGIN_DB: Final = 1.0
"""By how much planning aims above a budget: other feeds come out a little worse than those planned on."""


@dataclass(frozen=True)
class Question:
    """What a planner is asked: candidates in order of preference, and what the result must keep.

    `known` are errors of nodes that were predicted before, see `Fit`.
    """

    planner: str
    candidates: tuple[Pipeline, ...]
    budgets: tuple[Budget, ...]
    bytes: int | None
    timed: bool = True
    known: Mapping[str, float] = field(default_factory=dict)


def planned(
    question: Question, workshop: Workshop, evidence: Evidence, bench: Callable[[Evidence, tuple[Budget, ...]], Bench],
    original_bytes: int, feeds: str, say: Callable[[str], None] = lambda text: None, goal: Goal | None = None,
) -> Plan:  # fmt: skip
    """The best pipeline that comes of the candidates, or the first one with nothing quantized; with a goal, the
    first one as strong as that takes.

    Raises NotEquivalent where the budget asks for fewer bytes than any candidate reaches within it, or where the
    goal cannot be had within it.
    """
    start = time.perf_counter()
    asked = tuple(measurable(budget, evidence) for budget in question.budgets)
    warnings = [
        f"{old} was planned for as {new}" for old, new in zip(question.budgets, asked, strict=True) if old != new
    ]
    measuring = bench(evidence, tuple(dict.fromkeys(stricter(budget, MARGIN_DB) for budget in asked)))
    if goal is not None:
        plan = Strengthening(workshop, measuring, question.candidates[0], goal, original_bytes, say).run(feeds)
        return dataclasses.replace(plan, warnings=tuple(warnings))
    tried: list[Tried] = []
    for number, candidate in enumerate(question.candidates, 1):
        say(f"planning: candidate {number} of {len(question.candidates)}")
        limits = Limits(question.bytes, question.timed)
        tried.append(Fit(workshop, measuring, candidate, limits, original_bytes, question.known).run())
    taken = best(tried)
    if taken is None and question.bytes is not None and original_bytes > question.bytes:
        whys = "; ".join(dict.fromkeys(one.why for one in tried))
        raise NotEquivalent(f"no candidate keeps the budget with at most {question.bytes} bytes: {whys}")
    pipeline = tried[taken].pipeline if taken is not None else None
    if pipeline is None:
        pipeline = _plain(question, workshop, measuring)
        warnings.append("nothing is quantized: " + "; ".join(dict.fromkeys(one.why for one in tried)))
    return Plan(question.planner, pipeline, tuple(tried), taken, feeds, tuple(warnings), time.perf_counter() - start)


def _plain(question: Question, workshop: Workshop, measuring: Bench) -> Pipeline:
    """A candidate with nothing quantized that is not slower for the rest of its passes; nothing at all failing that."""
    for pipeline in dict.fromkeys(without_levers(one) for one in question.candidates):
        try:
            _, data = workshop.run(pipeline)
            holds = kept(measuring.figures(data, both=True))
            if holds and not (question.timed and measuring.latency(measuring.original, data).ratio > 1.0 + SLOWER):
                return pipeline
        except GraphoptError:
            continue
    return Pipeline(())


def best(tried: Sequence[Tried]) -> int | None:
    """The candidate with the least latency times bytes; an earlier one unless a later one is surely better."""
    found: int | None = None
    for index, one in enumerate(tried):
        if one.pipeline is not None and (found is None or one.score < tried[found].score * (1.0 - TIE)):
            found = index
    return found


def without_levers(pipeline: Pipeline) -> Pipeline:
    """The pipeline with nothing in it that quantizes."""
    gone = set(levers(pipeline))
    return Pipeline(tuple(step for index, step in enumerate(pipeline.steps) if index not in gone))
