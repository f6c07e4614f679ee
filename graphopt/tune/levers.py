"""The levers of a pipeline: passes that take nodes one by one and can be told to leave some of them.

A lever is a LOSSY pass with the option `skip`. Which levers may take a node is the choice that planners
make; it is spelled as `skip` and `only` lists, so that what comes out is an ordinary pipeline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from graphopt.contract import Contract
from graphopt.pipeline.pipeline import Pipeline, Repeat
from graphopt.pipeline.protocol import Pass

Subset = frozenset[int]  # the levers, by their step in the pipeline, that may take a node

_MOST_LEVERS: Final = 3  # of which every combination is tried


@dataclass(frozen=True)
class Choice:
    """What a lever may take of the nodes that it can: all but those of `skip`, given by their names."""

    taken: tuple[str, ...]
    skip: tuple[str, ...]


def levers(pipeline: Pipeline) -> tuple[int, ...]:
    """The steps of a pipeline that are levers."""
    return tuple(index for index, step in enumerate(pipeline.steps) if _is_lever(step))


def subsets(pipeline: Pipeline) -> tuple[Subset, ...]:
    """The combinations of levers worth trying, from all of them to none.

    All combinations of up to three levers; of more, those with all but one, with one, and with none.
    A lever that has `only` is there for activations and may find the weights done already: it is not tried
    without any of those that come before it and do weights.
    """
    found = levers(pipeline)
    sizes = range(len(found), -1, -1)
    if len(found) > _MOST_LEVERS:
        sizes = [len(found), len(found) - 1, 1, 0]  # type: ignore[assignment]
    weights = {one for one in found if not has_only(pipeline.steps[one])}
    chosen = [frozenset(some) for size in sizes for some in combinations(found, size)]
    return tuple(one for one in chosen if not one or not weights or one & weights)


def with_levers(pipeline: Pipeline, subset: Subset) -> tuple[Pipeline, tuple[int, ...]]:
    """The pipeline with these of its levers, and the step of the whole pipeline that each step is."""
    every = levers(pipeline)
    kept = tuple(index for index in range(len(pipeline.steps)) if index not in every or index in subset)
    return Pipeline(tuple(pipeline.steps[index] for index in kept)), kept


def chosen(pipeline: Pipeline, choices: Mapping[int, Choice]) -> Pipeline:
    """The pipeline whose levers take what `choices` say; a lever that is to take nothing is left out.

    What a lever's own options skip already stays skipped.
    """
    steps = []
    for index, step in enumerate(pipeline.steps):
        choice = choices.get(index)
        if choice is None or isinstance(step, Repeat):
            steps.append(step)
        elif choice.taken or not choice.skip:
            steps.append(_told(step, choice))
    return Pipeline(tuple(steps))


def exactly(name: str) -> str:
    """The pattern that a name alone fits."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def has_only(step: object) -> bool:
    """Whether a pass has the option `only`."""
    return _has(step, "only")


def _told(step: Pass, choice: Choice) -> Pass:
    skip = _patterns(choice.skip)
    if not skip:
        return step
    only = _patterns(choice.taken)
    if has_only(step) and len(only) < len(skip) and not getattr(step, "only"):  # noqa: B009
        return dataclasses.replace(step, only=only)  # type: ignore[call-arg]
    own: tuple[str, ...] = getattr(step, "skip")  # noqa: B009
    return dataclasses.replace(step, skip=tuple(dict.fromkeys((*own, *skip))))  # type: ignore[call-arg]


def _patterns(names: Collection[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(exactly(name) for name in names))


def _is_lever(step: object) -> bool:
    return isinstance(step, Pass) and step.contract is Contract.LOSSY and _has(step, "skip")


def _has(step: object, option: str) -> bool:
    return isinstance(step, Pass) and any(
        field.name == option and isinstance(getattr(step, option), tuple) for field in dataclasses.fields(step)
    )
