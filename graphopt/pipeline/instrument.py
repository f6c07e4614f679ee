"""Observers of a pipeline: they watch, time, check and veto, but never edit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.contract import Contract
from graphopt.errors import GraphoptError

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Tensor
    from graphopt.pipeline.protocol import Pass, Remark


@dataclass(frozen=True)
class Place:
    """Where in a run a pass is: its step of the pipeline, its round of a repeat group (1, 2 ...),
    and its turn, which counts every run of every pass from 1."""

    step: int
    round: int
    turn: int
    pass_: Pass


@dataclass(frozen=True)
class Turn:
    """What one run of one pass did.

    `replayed`: it ran before, in an attempt that a later pass made fail, and nothing was said
    against it then.
    """

    place: Place
    applied: int
    missed: int
    disabled: int
    replayed: bool = False

    @property
    def changed(self) -> bool:
        return self.applied > 0


@dataclass(frozen=True)
class StepDone:
    """One step of the pipeline, a repeat group being one, after its last round.

    `replayed` as of a `Turn`.
    """

    step: int
    text: str
    contract: Contract
    rounds: int
    changed: bool
    replayed: bool = False


class Veto(GraphoptError):
    """An instrument rejects what a pass made: the pass is rolled back."""

    exit_code = 1


class Instrument:
    """Base of observers. Hooks of all instruments run in order before, in reverse after, so that
    they nest like brackets.

    `begins` also runs before a replay from the input, and all hooks run again for what is
    replayed, marked as such, so an observer may forget what it knew. A pass that fails is closed
    by `skipped` where the run goes on, by nothing where it stops.
    """

    hears_rewrites: ClassVar[bool] = False
    """Whether `rewritten` is called; a run in which nobody asks for it pays nothing for it."""

    def begins(self, graph: Graph) -> None:
        """A run starts on this graph."""

    def should_run(self, place: Place) -> bool:
        """Whether the pass runs at all; every instrument is asked."""
        return True

    def before_pass(self, place: Place, graph: Graph) -> None:
        """A pass is about to run."""

    def rewritten(self, remark: Remark, subject: Node | Tensor, names: Iterable[str]) -> None:
        """One rewrite of the running pass has been carried out: its remark, what it was announced on, and
        the names of all values that its edits took away, put in place or touched."""

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        """A pass has run. Raise `Veto` to reject what it did."""

    def after_step(self, done: StepDone, graph: Graph) -> None:
        """A whole step has run. Raise `Veto` to reject all of it."""

    def skipped(self, place: Place, error: Exception) -> None:
        """A pass failed and the run goes on without it."""

    def ends(self, graph: Graph) -> None:
        """The pipeline is through."""
