"""One model as a chain of segments: each is loaded, run on all feeds and ended before the next one is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import CouldNotTell, UsageError
from graphopt.runtime.failure import WorkerFailure
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


@dataclass
class _Run:
    """One of the runs that go through a chain together: on which feeds it is, or why it has ended."""

    number: int
    mode: Options
    feeds: Feeds
    watch: Watch
    keys: list[Key] = field(default_factory=list)
    failure: Exception | None = None


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
        self, asked: Sequence[tuple[Options, Feeds, Watch]], seconds: float | None = None
    ) -> Iterator[Iterator[tuple[Key, dict[str, Value]]]]:
        """For each run that is asked for the outputs on its feeds, in the feeds' order, once all segments have run.

        While the weights of a segment are at hand it is run under all modes, so that all runs go over the weights once.
        Each run of a segment may take `seconds`, those of the worker unless given. Raises CouldNotTell where there is
        no room for what lies between, or the disk fails; the outputs of a run raise, when they are read, WorkerFailure,
        and UsageError where a feed does not fit.
        """
        shelf = Shelf(self._folder / "between")
        runs = [_Run(number, *one) for number, one in enumerate(asked)]
        try:
            number = 0
            while number < len(self.segments) and any(one.failure is None for one in runs):
                if self._segment(number, runs, shelf, seconds):  # else it was joined with the next one
                    self.spilled = max(self.spilled, shelf.peak)
                    number += 1
            for one in runs:
                yield self._outputs(one, shelf)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise CouldNotTell(f"segments need room for temporary files, which cannot be written ({reason})") from None
        finally:
            shelf.clear()

    def _outputs(self, run: _Run, shelf: Shelf) -> Iterator[tuple[Key, dict[str, Value]]]:
        if run.failure is not None:
            raise run.failure
        for key in run.keys:
            yield key, {name: shelf[run.number, key, name] for name in self.net.outputs}

    def _segment(self, number: int, runs: Sequence[_Run], shelf: Shelf, seconds: float | None) -> bool:
        """Run one segment on all feeds of all runs; False where it cannot end where it should."""
        segment = self.segments[number]
        later = {name for one in self.segments[number + 1 :] for name in one.takes}
        for run in [one for one in runs if one.failure is None]:
            try:
                if not self._run(number, run, later, shelf, seconds):
                    self._join(number)
                    return False
            except (WorkerFailure, UsageError) as error:
                run.failure = error
                if isinstance(error, WorkerFailure) and error.kind == "hang":  # nor would those after it end
                    for other in runs[run.number + 1 :]:
                        other.failure = other.failure or error
                    break
        for held, key, name in shelf.held():
            if runs[held].failure is not None or (name not in later and name not in self.net.outputs):
                shelf.drop((held, key, name))
        for run in runs:
            if run.failure is None:
                run.watch.ended(number, segment)
        return True

    def _run(self, number: int, run: _Run, later: set[str], shelf: Shelf, seconds: float | None) -> bool:
        """One run of a segment; False where what it gives is needed later and cannot be kept."""
        segment = self.segments[number]
        what = f"segment {number + 1} of {len(self.segments)} of {self.name}"
        likes = self._likes(segment, run, shelf)
        run.keys = []
        with loaded(self.net, segment, likes, self._worker, run.mode, self._folder, what) as session:
            if any(not _fits(port.type_text, port.dtype) for port in session.outputs if port.name in later):
                return False
            for key, feed in run.feeds():
                given = {name: feed[name] for name in segment.inputs if name in feed}
                given.update((name, shelf[run.number, key, name]) for name in segment.takes)
                outputs = session.run(given, seconds=seconds)
                for name, value in outputs.items():
                    shelf.keep((run.number, key, name), value)
                run.keys.append(key)
                run.watch.ran(key, segment, given, outputs, session)
            self.peak = max(self.peak, self._worker.peak_memory() or 0)
        return True

    def _join(self, number: int) -> None:
        """What would cross is no tensor: the segment and the next one are one."""
        one, other = self.segments[number : number + 2]
        later = {name for each in self.segments[number + 2 :] for name in each.takes}
        self.segments[number : number + 2] = [joined(one, other, self.net, later)]

    def _likes(self, segment: Segment, run: _Run, shelf: Shelf) -> dict[str, Like]:
        wanted, arrays = set(segment.takes), dict[str, list[Any]]()
        for held, key, name in shelf.held():
            if held == run.number and name in wanted:
                arrays.setdefault(name, []).append(np.asarray(shelf[held, key, name]))
        return {name: Like.of_all(several) for name, several in arrays.items()}


def _fits(type_text: str, dtype: object) -> bool:
    """Whether a value of that type can be kept and fed."""
    return type_text.startswith("tensor(") and dtype is not None
