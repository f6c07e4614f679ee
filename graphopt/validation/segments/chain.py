"""One model as a chain of segments: each is loaded, run on all feeds and ended before the next one is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import CouldNotTell
from graphopt.validation.likes import Like
from graphopt.validation.running import Feeds, Key, Values
from graphopt.validation.segments.net import Net
from graphopt.validation.segments.piece import loaded
from graphopt.validation.segments.plan import Segment, joined
from graphopt.validation.segments.shelf import Shelf

if TYPE_CHECKING:
    from graphopt.runtime.client import Session, Worker
    from graphopt.runtime.options import Options, Value


class Watch:
    """What looks on while a chain runs; this one does not."""

    def ran(self, key: Key, segment: Segment, given: Values, outputs: Mapping[str, Value], session: Session) -> None:
        """A segment, which is loaded, has run on what it was given of a feed."""

    def ended(self, number: int, segment: Segment) -> None:
        """A segment has run on all feeds, and is not loaded any more."""


class Chain:
    """A net and the segments that it is run in. `name` is what messages call the model.

    `peak` is the most memory that the worker has been seen to have resident, `spilled` the most bytes of values
    between segments.
    """

    def __init__(self, net: Net, segments: Sequence[Segment], worker: Worker, folder: Path, name: str) -> None:
        self.net, self.segments, self.name = net, list(segments), name
        self._worker, self._folder = worker, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.peak = self.spilled = 0

    def run(
        self, mode: Options, feeds: Feeds, watch: Watch, seconds: float | None = None
    ) -> Iterator[tuple[Key, dict[str, Value]]]:
        """The outputs on each feed, in the feeds' order, once all segments have run.

        Each run of a segment may take `seconds`, those of the worker unless given. Raises WorkerFailure, UsageError
        where a feed does not fit, CouldNotTell where there is no room for what lies between, or the disk fails.
        """
        shelf = Shelf(self._folder / "between")
        keys: list[Key] = []
        try:
            number = 0
            while number < len(self.segments):
                keys = self._segment(number, mode, feeds, watch, shelf, seconds)
                if not keys:
                    continue  # it was joined with the next one
                self.spilled = max(self.spilled, shelf.peak)
                number += 1
            for key in keys:
                yield key, {name: shelf[key, name] for name in self.net.outputs}
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise CouldNotTell(f"segments need room for temporary files, which cannot be written ({reason})") from None
        finally:
            shelf.clear()

    def _segment(
        self, number: int, mode: Options, feeds: Feeds, watch: Watch, shelf: Shelf, seconds: float | None
    ) -> list[Key]:
        """Run one segment on all feeds; no keys where it cannot end where it should."""
        segment = self.segments[number]
        what = f"segment {number + 1} of {len(self.segments)} of {self.name}"
        later = {name for one in self.segments[number + 1 :] for name in one.takes}
        likes = self._likes(segment, shelf)
        keys: list[Key] = []
        with loaded(self.net, segment, likes, self._worker, mode, self._folder, what) as session:
            if any(not _fits(port.type_text, port.dtype) for port in session.outputs if port.name in later):
                self._join(number)
                return []
            for key, feed in feeds():
                given = {name: feed[name] for name in segment.inputs if name in feed}
                given.update((name, shelf[key, name]) for name in segment.takes)
                outputs = session.run(given, seconds=seconds)
                for name, value in outputs.items():
                    shelf.keep((key, name), value)
                keys.append(key)
                watch.ran(key, segment, given, outputs, session)
            self.peak = max(self.peak, self._worker.peak_memory() or 0)
        watch.ended(number, segment)
        for key, name in shelf.held():
            if name not in later and name not in self.net.outputs:
                shelf.drop((key, name))
        return keys

    def _join(self, number: int) -> None:
        """What would cross is no tensor: the segment and the next one are one."""
        one, other = self.segments[number : number + 2]
        later = {name for each in self.segments[number + 2 :] for name in each.takes}
        self.segments[number : number + 2] = [joined(one, other, self.net, later)]

    def _likes(self, segment: Segment, shelf: Shelf) -> dict[str, Like]:
        wanted, arrays = set(segment.takes), dict[str, list[Any]]()
        for key, name in shelf.held():
            if name in wanted:
                arrays.setdefault(name, []).append(np.asarray(shelf[key, name]))
        return {name: Like.of_all(several) for name, several in arrays.items()}


def _fits(type_text: str, dtype: object) -> bool:
    """Whether a value of that type can be kept and fed."""
    return type_text.startswith("tensor(") and dtype is not None
