"""One run over all calibration feeds that holds few values at a time.

What values take is measured first, by a run that gives their shapes only. Where all of them together are more than
the bound, feeds of many samples are cut into fewer samples at a time; where even those are more, values are asked for
in groups, each in a run of its own over all feeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.activations import Array, Observation, Original
from graphopt.calibration.source import Feed, rows_of, some_rows
from graphopt.calibration.tapped import Tapped
from graphopt.runtime.client import Session
from graphopt.runtime.failure import WorkerFailure

BOUND: Final = 96 << 20
"""Bytes of values that are held at a time."""

_APART: Final = 1e-3  # of the energy of two samples that may change when they are run one by one

NO_NUMBERS: Final = "it is no tensor of numbers"

Place = tuple[bool, str]  # whether of the model as it was read, and the name


def places(one: Observation) -> list[Place]:
    """Where the values of an observation are."""
    return [(isinstance(value, Original), value.name) for value in one.values]


@dataclass
class Stream:
    """Feeds, and the models that they are run through: the graph as it is now and the model as it was read."""

    feeds: Iterable[Feed]
    largest: Feed
    models: Mapping[bool, Tapped]
    bound: int = BOUND

    def __post_init__(self) -> None:
        self.refused: dict[Place, str] = {}
        self.runs = 0
        """How often a model was run, shapes aside."""

    def run(self, asked: Sequence[Observation]) -> tuple[int, dict[Observation, str]]:
        """Let the accumulators see all feeds: how many there were, and a clause for each that could not."""
        refused: dict[Observation, str] = {}
        wanted = list(dict.fromkeys(place for one in asked for place in places(one)))
        try:
            sizes, rows = self._sizes(wanted)
        except WorkerFailure as failure:
            return 0, dict.fromkeys(asked, _not_run(failure))
        left = self._left(asked, refused)
        seen = 0
        for group in _groups(left, sizes, self.bound):
            try:
                seen = self._pass(group, rows, refused)
            except WorkerFailure as failure:
                refused.update(dict.fromkeys(group, _not_run(failure)))
        return seen, refused

    def _left(self, asked: Sequence[Observation], refused: dict[Observation, str]) -> list[Observation]:
        """The observations of which no value is refused; the others are, with the reason of that."""
        left = list[Observation]()
        for one in asked:
            why = next((self.refused[place] for place in places(one) if place in self.refused), None)
            if why is None:
                left.append(one)
            else:
                refused[one] = why
        return left

    def _pass(self, group: Sequence[Observation], rows: int | None, refused: dict[Observation, str]) -> int:
        """One run over all feeds for some observations; how many feeds there were."""
        wanted = list(dict.fromkeys(place for one in group for place in places(one)))
        seen = 0
        with ExitStack() as stack:
            sessions = self._sessions(stack, wanted)
            for old, session in sessions.items():
                numbers = _numbers(session)
                others = (port.name for port in session.outputs if port.name not in numbers)
                self.refused.update(((old, name), NO_NUMBERS) for name in others)
            group = self._left(group, refused)
            wanted = list(dict.fromkeys(place for one in group for place in places(one)))
            for feed in self.feeds:
                seen += 1
                for piece in _pieces(feed, rows):
                    values = self._values(sessions, piece, wanted)
                    for one in group:
                        one.accumulator.update(*(values[place] for place in places(one)))
                    del values
        return seen

    def _sessions(self, stack: ExitStack, wanted: Sequence[Place]) -> dict[bool, Session]:
        found = {}
        for old, model in self.models.items():
            names = [name for before, name in wanted if before == old and name not in model.inputs]
            if names:
                found[old] = stack.enter_context(model.values(names))
        return found

    def _values(self, sessions: Mapping[bool, Session], feed: Feed, wanted: Sequence[Place]) -> dict[Place, Array]:
        values: dict[Place, Array] = {}
        for old, session in sessions.items():
            self.runs += 1
            names = [name for before, name in wanted if before == old and name not in self.models[old].inputs]
            for name, value in session.run(_fed(session, feed), names).items():
                values[old, name] = _read_only(value)
        values.update((place, _read_only(feed[place[1]])) for place in wanted if place not in values)
        return values

    def _sizes(self, wanted: Sequence[Place]) -> tuple[dict[Place, int], int | None]:
        """The bytes of each value in a run, and how many samples of a feed one run is of (None: all of them).

        What cannot be had is in `refused`.
        """
        rows = rows_of(self.largest)
        if rows > 1 and all(model.takes_any_rows for model in self.models.values()):
            one = self._measured(wanted, some_rows(self.largest, 0, 1))
            each = max(sum(one.values()), 1)
            if each * rows <= self.bound:
                return {place: size * rows for place, size in one.items()}, None
            if self._apart(list(one), each):
                few = max(1, self.bound // each)
                return {place: size * few for place, size in one.items()}, few
        return self._measured(wanted, self.largest), None

    def _measured(self, wanted: Sequence[Place], feed: Feed) -> dict[Place, int]:
        """The bytes of each value on a feed."""
        sizes: dict[Place, int] = {}
        for old, model in self.models.items():
            names = [name for before, name in wanted if before == old and (old, name) not in self.refused]
            for name in names:
                if name in model.inputs:
                    if isinstance(feed.get(name), np.ndarray):
                        sizes[old, name] = 0  # it is there already
                    else:
                        self.refused[old, name] = "it is an input that is not fed"
                elif not model.makes(name):
                    constant = name in model.weights
                    none = f"the {'model as it was read' if old else 'graph'} has no such value"
                    self.refused[old, name] = "it is a constant" if constant else none
            made = [name for name in names if model.makes(name)]
            if made:
                for name, shape in self._shapes(old, model, made, feed).items():
                    sizes[old, name] = math.prod(shape) * 4
        return sizes

    def _shapes(self, old: bool, model: Tapped, names: list[str], feed: Feed) -> dict[str, tuple[int, ...]]:
        """The shapes of values on a feed. Those whose model does not load are found by halving."""
        found: dict[str, tuple[int, ...]] = {}
        pending = [names]
        while pending:
            batch = pending.pop()
            try:
                with model.shapes(batch) as session:
                    made = session.run(_fed(session, feed)).values()
                    found.update((name, tuple(np.asarray(one).tolist())) for name, one in zip(batch, made, strict=True))
            except WorkerFailure as failure:
                first = len(batch) == len(names)
                if failure.kind in ("hang", "memory") or (first and not self._runs(model, feed)):
                    raise
                if len(batch) == 1:
                    self.refused[old, batch[0]] = self._why_not(model, batch[0], failure)
                else:
                    pending += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
        return found

    def _why_not(self, model: Tapped, name: str, failure: WorkerFailure) -> str:
        """Why the shape of a value cannot be had, in a clause."""
        with suppress(WorkerFailure), model.values([name]) as session:
            if not _numbers(session):
                return NO_NUMBERS
        return f"onnxruntime does not give it: {str(failure).rstrip('. ')}"

    def _runs(self, model: Tapped, feed: Feed) -> bool:
        """Whether the model runs as it is."""
        try:
            with model.values(model.outputs) as session:
                session.run(_fed(session, feed))
        except WorkerFailure:
            return False
        return True

    def _apart(self, wanted: list[Place], each: int) -> bool:
        """Whether two samples give the same together as one by one, seen in as many values as the bound allows."""
        some = wanted[:: -(4 * each // self.bound + 1)]  # the last one, and others on the way to it
        two = some_rows(self.largest, 0, 2)
        with ExitStack() as stack:
            sessions = self._sessions(stack, some)
            parts = [self._values(sessions, some_rows(two, at, at + 1), some) for at in (0, 1)]
            whole = self._values(sessions, two, some)
        return all(_joined(whole[place], *(part[place] for part in parts)) for place in some)


def _numbers(session: Session) -> set[str]:
    """The outputs of a session that are tensors of numbers."""
    tensors = (port for port in session.outputs if port.type_text.startswith("tensor("))
    return {port.name for port in tensors if port.dtype is not None and port.dtype != object}


def _read_only(value: Any) -> Array:
    array = np.asarray(value).view()
    array.flags.writeable = False
    return array


def _joined(whole: Array, first: Array, second: Array) -> bool:
    """Whether a value of two samples is that of each, one after the other along some axis, or the same in both."""
    if whole.shape == first.shape == second.shape:
        return _near(whole, first) and _near(whole, second)
    for axis in range(whole.ndim):
        if first.ndim == second.ndim == whole.ndim:
            sizes = [list(one.shape) for one in (whole, first, second)]
            total, one, two = (size.pop(axis) for size in sizes)
            if sizes[0] == sizes[1] == sizes[2] and total == one + two:
                return _near(whole, np.concatenate([first, second], axis))
    return False


def _near(a: Array, b: Array) -> bool:
    if a.dtype.kind in "OSU":
        return bool(np.array_equal(a, b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        moved, energy = np.nansum(np.square(x - y)), np.nansum(np.square(x))
    return bool(moved <= _APART * energy or moved == 0)


def _groups(asked: Sequence[Observation], sizes: Mapping[Place, int], bound: int) -> Iterator[list[Observation]]:
    """Observations in order, as many together as the bound allows; those of the same values are together."""
    together: dict[tuple[Place, ...], list[Observation]] = {}
    for one in asked:
        together.setdefault(tuple(places(one)), []).append(one)
    group, held, total = list[Observation](), set[Place](), 0
    for values, several in together.items():
        more = sum(sizes[place] for place in set(values) - held)
        if group and total + more > bound:
            yield group
            group, held, total = [], set(), 0
            more = sum(sizes[place] for place in set(values))
        group += several
        held.update(values)
        total += more
    if group:
        yield group


def _pieces(feed: Feed, rows: int | None) -> Iterator[Feed]:
    count = rows_of(feed)
    if rows is None or count <= rows:
        yield feed
        return
    for start in range(0, count, rows):
        yield some_rows(feed, start, min(start + rows, count))


def _fed(session: Session, feed: Feed) -> dict[str, Any]:
    """What a session takes of a feed: a graph that passes have changed may have lost inputs."""
    known = {port.name for port in (*session.inputs, *session.overridable)}
    return {name: value for name, value in feed.items() if name in known}


def _not_run(failure: WorkerFailure) -> str:
    return f"the model does not run on the calibration feeds: {str(failure).rstrip('. ')}"
