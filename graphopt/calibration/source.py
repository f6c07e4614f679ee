"""The feeds to calibrate on, and the model as it was read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.storage.source import Source

Feed = Mapping[str, Any]
Feeds = Iterable[Feed]


@dataclass(frozen=True)
class Survey:
    """What is known of feeds once they were gone through: how many, a hash of them all, and the one that has most
    in a sample."""

    count: int
    sha256: str
    largest: Feed


@dataclass
class CalibrationData:
    """What a run calibrates with. `make` gives the feeds, gathered when a pass first asks for them.

    They can be gone through any number of times. It raises GraphoptError where no feeds can be made; passes
    then get its sentence as the reason. `folder` is where statistics are kept besides in memory; `notes` are
    sentences about what went wrong there. `training` says what was trained, by a hash, as plain data. `labels` gives
    the right answers for the feeds, one for each sample, or None; it raises GraphoptError where they do not fit.
    """

    make: Callable[[], Feeds]
    original: Source
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    training: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: Callable[[], np.ndarray[Any, Any] | None] = lambda: None
    _feeds: Feeds | None = field(default=None, repr=False)
    _survey: Survey | None = field(default=None, repr=False)

    def feeds(self) -> Feeds:
        """The feeds, the same ones each time."""
        if self._feeds is None:
            self._feeds = self.make()
        return self._feeds

    def survey(self) -> Survey:
        """What the feeds are, found the first time by going through them."""
        if self._survey is None:
            digest, largest, most, count = hashlib.sha256(), dict[str, Any](), -1.0, 0
            for feed in self.feeds():
                count += 1
                size = _digested(digest, feed) / rows_of(feed)
                if size > most or (size == most and rows_of(feed) > rows_of(largest)):
                    largest, most = dict(feed), size
            self._survey = Survey(count, digest.hexdigest(), largest)
        return self._survey


def rows_of(feed: Feed) -> int:
    """The leading size that all arrays of a feed share, scalars aside; one where they share none."""
    if not all(isinstance(value, np.ndarray) for value in feed.values()):
        return 1
    sizes = {value.shape[0] for value in feed.values() if value.ndim}
    return max(1, sizes.pop()) if len(sizes) == 1 else 1


def some_rows(feed: Feed, start: int, stop: int) -> Feed:
    """Some rows of a feed whose arrays share their leading size."""
    return {name: value[start:stop] if value.ndim else value for name, value in feed.items()}


def digest_of(feeds: Iterable[Feed]) -> str:
    """A hash of some feeds."""
    digest = hashlib.sha256()
    for feed in feeds:
        _digested(digest, feed)
    return digest.hexdigest()


def _digested(digest: Any, feed: Feed) -> int:
    """Add a feed to a hash; the bytes it has."""
    size = 0
    for name, value in sorted(feed.items()):
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, np.ndarray) and not one.dtype.hasobject:
                digest.update(f"{name}\0{one.dtype.str}{one.dtype.name}\0{one.shape}\0".encode())
                digest.update(np.ascontiguousarray(one).reshape(-1).view(np.uint8).data)
                size += one.nbytes
            else:
                said = repr(one.tolist() if isinstance(one, np.ndarray) else one)
                digest.update(f"{name}\0{said}\0".encode())
                size += len(said)
    digest.update(b"\1")
    return size
