"""Later generations: what is worth trying next to a pipeline, by what came of it.

A pipeline that keeps the budgets is made stronger, one that does not is made gentler, in one way at a time: how much
goes, bits, the size of blocks, what shares a scale, the smallest tensors that are taken. Two pipelines are joined where
one prunes and the other quantizes, and one that is too strong is fitted: nodes are left to what is gentler, one by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any, Final

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.pipeline.options import options_of
from graphopt.pipeline.pipeline import Pipeline, Step
from graphopt.pipeline.protocol import Pass
from graphopt.tune.levers import levers
from graphopt.tune.strength import MOST, strength_of
from graphopt.tune.trial import Candidate

STRONGER: Final = (1.5, 1.2)
GENTLER: Final = (0.5, 0.75)
_BLOCKS: Final = (16, 32, 64, 128, 256)
_LEAST: Final = 16  # elements; smaller tensors are never worth it
_FINER: Final = {"tensor": "channel", "channel": "block", "auto": "block"}
_COARSER: Final = {"auto": "channel", "block": "channel", "channel": "tensor"}
_OPSETS: Final = {4: 21, 2: 25}  # that codes of so few bits need

Change = tuple[str, Pipeline]
"""A pipeline, and in a few words what it is against the one that it was made from."""


def changed(pipeline: Pipeline, kept: bool) -> list[Change]:
    """The pipeline made stronger in each way where it kept the budgets, gentler where it did not."""
    makers: tuple[Callable[[Pipeline, bool], Iterator[Change]], ...] = (
        _strengths, _bits, _floors, _blocks, _granularities, _ways,
    )  # fmt: skip
    found: dict[str, Change] = {}
    for words, one in chain.from_iterable(make(pipeline, kept) for make in makers):
        if one != pipeline:
            found.setdefault(str(one), (words, one))
    return list(found.values())


def joined(pruning: Pipeline, quantizing: Pipeline) -> Pipeline | None:
    """What the one takes out, then what the other quantizes; None where one does not prune, or both do."""
    takes = [step for step in pruning.steps if isinstance(step, Pass) and (strength_of(step) or step.repairs)]
    if not any(strength_of(one) for one in takes) or any(strength_of(one) for one in quantizing.steps):
        return None
    at = _head(quantizing)
    if at == len(quantizing.steps):
        return None
    return Pipeline((*quantizing.steps[:at], *takes, *quantizing.steps[at:]))


def fitting(strong: Pipeline, gentle: Pipeline | None) -> Pipeline | None:
    """The pipeline to be fitted: the strong one, whose levers leave nodes to those of the gentle one.

    None where it has no lever that chooses among nodes.
    """
    mine = [step for step in levers(strong) if not strength_of(strong.steps[step])]
    if not mine:
        return None
    theirs = [] if gentle is None else [gentle.steps[step] for step in levers(gentle)]
    more = [one for one in theirs if not strength_of(one) and one not in strong.steps]
    last = mine[-1] + 1
    try:
        return Pipeline((*strong.steps[:last], *more, *strong.steps[last:]))
    except UsageError:
        return strong


def proposals(
    parents: Sequence[tuple[Candidate, str, bool]], skipped: Callable[[Candidate], bool], count: int
) -> list[Candidate]:
    """At most `count` new candidates of these parents, the best ones first: each a candidate, the pipeline that it
    came to, and whether that kept the budgets. What is `skipped` was tried before, or is not worth it."""
    queues = [_of_parent(parents, number) for number in range(len(parents))]
    found: dict[str, Candidate] = {}
    for one in chain.from_iterable(zip_longest(*queues)):
        if one is not None and not skipped(one):
            found.setdefault(one.pipeline, one)
        if len(found) == count:
            break
    return list(found.values())


def _of_parent(parents: Sequence[tuple[Candidate, str, bool]], number: int) -> list[Candidate]:
    parent, text, kept = parents[number]
    pipeline = Pipeline.parse(text)
    found = [
        Candidate(f"{parent.name}, {words}", str(one), parent.technique, parent.name)
        for words, one in changed(pipeline, kept)
    ]
    for other, theirs, _ in parents:
        both = joined(Pipeline.parse(theirs), pipeline) if other is not parent else None
        if both is not None:
            name = f"{other.name} then {parent.name}"
            found.insert(1, Candidate(name, str(both), f"{other.technique}, {parent.technique}", parent.name))
    return found


def _strengths(pipeline: Pipeline, kept: bool) -> Iterator[Change]:
    """All that is taken out by one factor, then each by itself."""
    turnable = [step for step in pipeline.steps if strength_of(step)]
    for factor in STRONGER if kept else GENTLER:
        yield _told(pipeline, lambda one, f=factor: _turned(one, f), f"{factor:g} times as much")  # type: ignore[misc]
    if len(turnable) > 1:
        for step in turnable:
            factor = STRONGER[0] if kept else GENTLER[0]
            name = getattr(step, "name", "")
            yield _told(
                pipeline,
                lambda one, s=step, f=factor: _turned(one, f) if one is s else one,  # type: ignore[misc]
                f"{name} {factor:g} times as much",
            )


def _turned(step: Pass, factor: float) -> Pass:
    if not strength_of(step):
        return step
    return _with(step, **{step.strength: min(float(f"{strength_of(step) * factor:.3g}"), MOST)})


def _bits(pipeline: Pipeline, kept: bool) -> Iterator[Change]:
    """The next number of bits that the passes know, and the opset that it needs."""
    for place, step in _turnable(pipeline, "bits"):
        words = sorted(int(str(one)) for one in _words(step, "bits"))
        now = int(getattr(step, "bits"))  # noqa: B009
        near = [one for one in words if (one < now if kept else one > now)]
        if near:
            bits = max(near) if kept else min(near)
            made = Pipeline((*pipeline.steps[:place], _with(step, bits=bits), *pipeline.steps[place + 1 :]))
            yield f"{step.name} of {bits} bits", _raised(made, _OPSETS.get(bits, 0))


def _raised(pipeline: Pipeline, version: int) -> Pipeline:
    """The pipeline whose passes that raise the opset raise it to that at least."""
    return _told(pipeline, lambda one: _with(one, to=max(version, one.to)) if _raises(one) else one, "")[1]  # type: ignore[attr-defined]


def _raises(step: Pass) -> bool:
    return bool(step.changes) and type(getattr(step, "to", None)) is int


def _floors(pipeline: Pipeline, kept: bool) -> Iterator[Change]:
    """Smaller tensors too, or only larger ones."""
    for factor in (0.25, 0.0625) if kept else (4.0,):

        def moved(one: Pass, factor: float = factor) -> Pass:
            least = getattr(one, "min_elements", 0)
            return _with(one, min_elements=max(_LEAST, int(least * factor))) if least else one

        yield _told(pipeline, moved, "smaller tensors too" if kept else "large tensors only")


def _blocks(pipeline: Pipeline, kept: bool) -> Iterator[Change]:
    """More or fewer weights that share a scale."""
    for place, step in _turnable(pipeline, "block"):
        if getattr(step, "granularity", "") not in ("block", "auto"):
            continue
        now = int(getattr(step, "block"))  # noqa: B009
        near = [one for one in _BLOCKS if (one > now if kept else one < now)]
        for block in near[:2] if kept else near[-1:]:
            words = f"blocks of {block}"
            yield words, Pipeline((*pipeline.steps[:place], _with(step, block=block), *pipeline.steps[place + 1 :]))


def _granularities(pipeline: Pipeline, kept: bool) -> Iterator[Change]:
    """What shares a scale, coarser or finer."""
    ways = _COARSER if kept else _FINER
    for place, step in _turnable(pipeline, "granularity"):
        way = ways.get(str(getattr(step, "granularity")))  # noqa: B009
        if way is not None and way in _words(step, "granularity"):
            made = _with(step, granularity=way)
            yield f"{step.name} by {way}", Pipeline((*pipeline.steps[:place], made, *pipeline.steps[place + 1 :]))


def _ways(pipeline: Pipeline, kept: bool) -> Iterator[Change]:
    """Other ways to the same size: grids with or without a zero point, how ranges are found."""
    for place, step in _turnable(pipeline, "symmetric"):
        other = not getattr(step, "symmetric")  # noqa: B009
        made = _with(step, symmetric=other)
        words = "symmetric" if other else "with zero points"
        yield f"{step.name} {words}", Pipeline((*pipeline.steps[:place], made, *pipeline.steps[place + 1 :]))
    if kept:
        return
    for place, step in _turnable(pipeline, "range"):
        now = getattr(step, "range")  # noqa: B009
        for way in [one for one in _words(step, "range") if one != now][:1]:
            made = _with(step, range=way)
            yield f"{step.name} range {way}", Pipeline((*pipeline.steps[:place], made, *pipeline.steps[place + 1 :]))


def _head(pipeline: Pipeline) -> int:
    """Where a pipeline begins to be more than a clean-up."""
    for place, step in enumerate(pipeline.steps):
        if isinstance(step, Pass) and (step.contract is Contract.LOSSY or step.calibrates or _raises(step)):
            return place
    return len(pipeline.steps)


def _turnable(pipeline: Pipeline, option: str) -> Iterator[tuple[int, Pass]]:
    """The LOSSY steps that have an option of this name."""
    for place, step in enumerate(pipeline.steps):
        if isinstance(step, Pass) and step.contract is Contract.LOSSY and hasattr(step, option):
            yield place, step


def _words(step: Pass, option: str) -> tuple[Any, ...]:
    """What an option of a few words may be."""
    kind = next((one.kind for one in options_of(type(step)) if one.field == option), None)
    return () if kind is None else tuple(value for _, value in kind.choices)


def _with(step: Pass, **options: Any) -> Pass:
    """The pass with other options; as it is where they do not go together."""
    try:
        return dataclasses.replace(step, **options)
    except (TypeError, ValueError):
        return step


def _told(pipeline: Pipeline, change: Callable[[Pass], Pass], words: str) -> Change:
    def of(step: Step) -> Step:
        lossy = isinstance(step, Pass) and (step.contract is Contract.LOSSY or _raises(step))
        return change(step) if lossy else step  # type: ignore[arg-type]

    return words, Pipeline(tuple(of(step) for step in pipeline.steps))
