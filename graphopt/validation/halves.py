"""The user's feeds in two halves: one to calibrate on, the other to validate on, and labels cut alike.

Several feeds are divided feed by feed. One array that holds many samples along a symbolic leading dim is
divided between two samples, wherever that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from graphopt.errors import UsageError
from graphopt.validation.feed_files import Feed
from graphopt.validation.signature import Input
from graphopt.validation.values import Array

ALONE: Final = (
    "there is only one sample, so the result was validated on what it was calibrated on; give more of them, "
    "or others with --calibration"
)


@dataclass(frozen=True)
class Part:
    """The samples `start` to `stop` of feeds that hold `sizes` samples each."""

    start: int
    stop: int
    sizes: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many samples there are in both halves."""
        return sum(self.sizes)

    @property
    def everything(self) -> bool:
        """Whether no sample is left out."""
        return self.stop - self.start == self.total

    def __str__(self) -> str:
        if self.everything:
            return "the only sample"
        return f"samples {self.start + 1} to {self.stop} of {self.total}"

    def of(self, feeds: Iterable[Feed]) -> Iterator[Feed]:
        """The feeds of the part, of all of them in order; one that belongs to both halves is cut."""
        at = 0
        for feed, count in zip(feeds, self.sizes, strict=True):
            first, last = max(self.start - at, 0), min(self.stop - at, count)
            at += count
            if first < last:
                yield feed if last - first == count else replace(feed, values=_rows(feed, first, last))

    def labels(self, labels: Array) -> Array:
        """The labels of the part, of one (or as many for each) a sample. Raises UsageError for another number."""
        each, rest = divmod(labels.shape[0], self.total)
        if rest or not each:
            raise UsageError(
                f"there are {labels.shape[0]} labels for {self.total} samples, which cannot be divided between "
                "calibration and validation; give one for each sample, or calibrate on others with --calibration"
            )
        return labels[self.start * each : self.stop * each]


def samples(feed: Feed, inputs: Sequence[Input]) -> int:
    """How many samples a feed holds: the leading size that all its arrays share (scalars aside) where that
    dim is symbolic in all `inputs`, so that it can be cut between any two of them; else one."""
    dims = {one.name: one.dims for one in inputs}
    counts: set[int] = set()
    for name, value in feed.values.items():
        declared = dims.get(name)
        if not isinstance(value, np.ndarray) or (value.ndim and not (declared and isinstance(declared[0], str))):
            return 1
        counts.update(value.shape[:1])
    return max(1, *counts) if len(counts) == 1 else 1


def halved(sizes: Sequence[int], one_source: bool) -> Mapping[str, Part]:
    """The `first` and the `second` half of feeds that hold so many samples each; the second has the odd one.

    They are divided between two feeds; those of one source, which are one array cut into feeds, between any
    two samples. Both are everything where that is one sample.
    """
    known = tuple(sizes)
    middle = sum(known) // 2 if one_source else sum(known[: len(known) // 2])
    if not middle:
        everything = Part(0, sum(known), known)
        return {"first": everything, "second": everything}
    return {"first": Part(0, middle, known), "second": Part(middle, sum(known), known)}


def _rows(feed: Feed, first: int, last: int) -> Mapping[str, Array]:
    return {
        name: value[first:last] if value.ndim else value
        for name, value in feed.values.items()
        if isinstance(value, np.ndarray)
    }
