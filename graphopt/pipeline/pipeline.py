"""Passes in order: the value that a pipeline text, a recipe or Python code stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.pipeline.declaration import fault
from graphopt.pipeline.options import check_values
from graphopt.pipeline.protocol import Pass

if TYPE_CHECKING:
    from graphopt.pipeline.registry import Registry

__all__ = ["DEFAULT_ROUNDS", "MAX_ROUNDS", "NESTED", "Pipeline", "Repeat", "Step", "repeat_fault"]

DEFAULT_ROUNDS = 8
MAX_ROUNDS = 1000
NESTED = (
    "a repeat group cannot stand inside another; put its passes into the outer group, "
    "which runs until nothing changes anyway"
)


@dataclass(frozen=True)
class Repeat:
    """A group of passes, run over and over until a round changes nothing, at most `max` rounds.

    Groups hold passes only: a group inside a group would reach the same fix point as one group
    does. LOSSY passes are refused, they run once. Raises `UsageError`.
    """

    max: int
    steps: tuple[Pass, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if isinstance(self.max, bool) or not isinstance(self.max, int) or not 1 <= self.max <= MAX_ROUNDS:
            raise UsageError(f"the max of repeat must be a whole number from 1 to {MAX_ROUNDS}, not {self.max!r}")
        if not self.steps:
            raise UsageError("a repeat group holds at least one pass")
        for one in self.steps:
            if isinstance(one, Repeat):
                raise UsageError(NESTED)
            _check_pass(one, "a repeat group")
            if (reason := repeat_fault(one)) is not None:
                raise UsageError(reason)

    @property
    def contract(self) -> Contract:
        """The loosest contract in the group."""
        return max(one.contract for one in self.steps)


Step: TypeAlias = Pass | Repeat


@dataclass(frozen=True)
class Pipeline:
    """Passes in order, some of them in `repeat` groups. Equal when steps and options are equal.

    Every pipeline has a text: `str(pipeline)`, which `Pipeline.parse` reads back as an equal
    pipeline as long as the registry knows its passes. The steps may be passes that no registry
    knows. Raises `UsageError` for a step that is neither a pass nor a group, for an option whose
    value is not of its declared type, and for two different classes of one name.
    """

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        for step in self.steps:
            if not isinstance(step, Repeat):
                _check_pass(step, "a pipeline")
        classes: dict[str, type[Pass]] = {}
        for one in self.passes():
            if classes.setdefault(one.name, type(one)) is not type(one):
                raise UsageError(f"the pipeline has two different passes of the name {one.name}; rename one of them")

    @classmethod
    def of(cls, *steps: Step) -> Pipeline:
        """The pipeline of these steps."""
        return cls(steps)

    @classmethod
    def parse(cls, text: str, registry: Registry | None = None) -> Pipeline:
        """Read a pipeline text, with the installed passes unless a registry is given.

        Raises `UsageError`, one sentence that gives line and column, for anything it cannot read.
        """
        from graphopt.pipeline.spec import parse

        return parse(text, registry)

    def passes(self) -> Iterator[Pass]:
        """All passes in order, those of groups in place."""
        for step in self.steps:
            if isinstance(step, Repeat):
                yield from step.steps
            else:
                yield step

    @property
    def contract(self) -> Contract:
        """The loosest contract of the passes; EXACT for the empty pipeline."""
        return max((one.contract for one in self.passes()), default=Contract.EXACT)

    def text(self, *, full: bool = False) -> str:
        """The pipeline as text: with the options that differ from their defaults, or with all of them."""
        from graphopt.pipeline.spec import render

        return render(self, full=full)

    def __str__(self) -> str:
        return self.text()


def repeat_fault(one: Pass) -> str | None:
    """Why this pass cannot be repeated, as a sentence; None when it can."""
    if one.contract is not Contract.LOSSY:
        return None
    return (
        f"{one.name} cannot stand in a repeat group, because it is LOSSY and every round would move "
        "the outputs further; put it outside the group"
    )


def _check_pass(step: object, place: str) -> None:
    if isinstance(step, type) and issubclass(step, Pass):
        raise UsageError(f"{place} holds passes, and {step.__name__} is the class of one; write {step.__name__}()")
    if not isinstance(step, Pass):
        raise UsageError(f"{place} holds passes, and {type(step).__name__} is no subclass of Pass")
    reason = fault(type(step))
    if reason is not None:
        raise UsageError(f"the pass {type(step).__name__} {reason}")
    check_values(step)
