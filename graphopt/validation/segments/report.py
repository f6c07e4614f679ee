"""What is known about the segments of a validation, as facts that print and go into the JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentRow:
    """A stretch of the result between two places where both models are cut.

    `first` and `last` are its nodes at the ends, `bytes` those of its weights. `born_db` is the SQNR of its outputs
    against the original's when it runs on the original's own tensors, `carried_db` when it runs on the result's; inf
    where equal, None where that was not compared, `why` saying so. `differing` counts elements that differ on the
    original's tensors, `problem` is a clause on how shapes or types do, or values stop being finite.
    """

    number: int
    first: str
    last: str
    nodes: int
    bytes: int
    born_db: float | None = None
    carried_db: float | None = None
    differing: int = 0
    problem: str = ""
    why: str = ""

    def sentence(self) -> str:
        """Such as `segment 7, from MatMul 'a' to Add 'b': 23.1 dB on the original's own tensors`."""
        where = f"segment {self.number}, from {self.first} to {self.last}"
        if self.problem:
            return f"{where}: {self.problem} on the original's own tensors"
        if self.born_db is None:
            return f"{where}: not compared ({self.why})"
        if not self.differing:
            return f"{where}: the same bits on the original's own tensors"
        if math.isinf(self.born_db):
            return f"{where}: {self.differing} elements differ on the original's own tensors"
        return f"{where}: {self.born_db:.1f} dB on the original's own tensors"


@dataclass(frozen=True)
class SegmentsReport:
    """How two models were run in segments.

    `original` and `result` count the segments of each, `largest` are the bytes of weights of the largest, of at most
    `allowed` where nodes let themselves be parted; `peak` the most memory that the worker had resident (0: unknown),
    `spilled` the most bytes of tensors between segments. `rows` are the stretches that were compared.
    """

    original: int
    result: int
    allowed: int
    largest: int
    peak: int
    spilled: int
    rows: tuple[SegmentRow, ...] = ()

    @property
    def worst(self) -> SegmentRow | None:
        """The stretch that adds the largest error of its own; None where none adds any."""
        wrong = [row for row in self.rows if row.problem or (row.born_db is not None and row.differing)]
        return min(wrong, key=_closeness, default=None)

    @property
    def first(self) -> SegmentRow | None:
        """The first stretch that adds an error of its own."""
        return next((row for row in self.rows if row.problem or row.differing), None)

    def sentence(self) -> str:
        """One line for the screen."""
        counted = f"{self.original}" if self.original == self.result else f"{self.original} and {self.result}"
        several = "one segment" if counted == "1" else f"{counted} segments, the largest"
        said = f"run in {several} with {sized(self.largest)} of weights"
        if self.peak:
            said += f", the worker at {sized(self.peak)} at most"
        return said


def sized(count: int) -> str:
    """Bytes for people, such as 12.3 KB or 1.07 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"


def _closeness(row: SegmentRow) -> tuple[bool, float]:
    return not row.problem, math.inf if row.born_db is None else row.born_db
