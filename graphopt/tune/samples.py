"""The samples that a search sees: which of them are learned from, which are measured on, and how many at each rung."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import ModelProto

from graphopt.calibration.source import digest_of, some_rows
from graphopt.validation.feed_files import Feed
from graphopt.validation.halves import samples
from graphopt.validation.signature import default_inputs, required_inputs
from graphopt.validation.values import Array

MOST: Final = 2048
"""Samples that are looked at in all; more are taken evenly."""
LEAST: Final = 32
"""Samples that a rung has at least, where there are as many: fewer tell little, and making a model takes longer than
running it on them."""
_SHARES: Final = (4, 2, 1)  # of the samples, the part that the rungs have
_FEEDS: Final = 16  # that the measured samples are put in, where they can be put together

Values = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Rung:
    """What candidates are tried on: feeds to learn from with their labels, feeds to measure on with theirs."""

    learning: Sequence[Values]
    learned: Array | None
    measuring: Sequence[Values]
    labels: Array | None
    rows: int


@dataclass(frozen=True, eq=False)
class Samples:
    """Feeds with the number of samples in each that can be cut apart, and the labels of all of them."""

    feeds: Sequence[Values]
    counts: tuple[int, ...]
    labels: Array | None = None

    @classmethod
    def of(cls, feeds: Sequence[Feed], proto: ModelProto, labels: Array | None = None) -> Samples:
        """The samples of the feeds of a model."""
        inputs = (*required_inputs(proto), *default_inputs(proto))
        return cls([one.values for one in feeds], tuple(samples(one, inputs) for one in feeds), labels)

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def places(self) -> list[int]:
        """The samples that are looked at, evenly taken where there are too many."""
        return [place * len(self) // min(len(self), MOST) for place in range(min(len(self), MOST))]

    def rungs(self) -> tuple[int, ...]:
        """How many samples are measured on at each rung, the fewest first."""
        whole = len(self.places) - (len(self.places) + 1) // 2 or 1
        return tuple(whole // share for share in _SHARES if share == 1 or whole // share >= LEAST)

    def rung(self, rows: int) -> Rung:
        """What a rung of so many samples has: others to learn from than to measure on, where there are two.

        Every second sample is for learning, so that both are alike where samples come in an order.
        """
        places = self.places
        learn, measure = (places[::2], places[1::2]) if len(places) > 1 else (places, places)
        learn, measure = _evenly(learn, rows), _evenly(measure, rows)
        return Rung(
            self.taken(learn), self._labels(learn),
            self.taken(measure, max(1, -(-len(measure) // _FEEDS))), self._labels(measure), len(measure),
        )  # fmt: skip

    def taken(self, places: Sequence[int], together: int | None = None) -> list[Values]:
        """These samples in feeds of at most so many, of one feed each."""
        found: list[Values] = []
        start, at = 0, 0
        for feed, count in zip(self.feeds, self.counts, strict=True):
            inside = []
            while at < len(places) and places[at] < start + count:
                inside.append(places[at] - start)
                at += 1
            start += count
            if count == 1:
                found += [feed] * len(inside)
                continue
            size = together or len(inside) or 1
            found += [_rows(feed, inside[first : first + size]) for first in range(0, len(inside), size)]
        return found

    def first(self) -> Values:
        """The first sample alone, which latency is measured on."""
        return self.feeds[0] if self.counts[0] == 1 else some_rows(self.feeds[0], 0, 1)

    def fingerprint(self) -> str:
        """A hash of all feeds and labels."""
        digest = hashlib.sha256(digest_of(self.feeds).encode())
        if self.labels is not None:
            shown = self.labels.tolist() if self.labels.dtype.hasobject else self.labels.tobytes()
            digest.update(f"{self.labels.dtype.str}{self.labels.shape}{shown!r}".encode())
        return digest.hexdigest()

    def _labels(self, places: Sequence[int]) -> Array | None:
        if self.labels is None:
            return None
        each, rest = divmod(len(self.labels), len(self))
        if rest or not each:
            return None
        return np.concatenate([self.labels[place * each : (place + 1) * each] for place in places])


def _evenly(places: Sequence[int], count: int) -> list[int]:
    count = min(count, len(places))
    return [places[place * len(places) // count] for place in range(count)]


def _rows(feed: Values, rows: Sequence[int]) -> Values:
    return {name: value[list(rows)] if value.ndim else value for name, value in feed.items()}
