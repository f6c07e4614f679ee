"""One run over all calibration feeds that holds few values at a time.

What values take is measured first, by a run that gives their shapes only. Where all of them together are more than
the bound, feeds of many samples are cut into fewer samples at a time; where even those are more, values are asked for
in groups, each in a run of its own over all feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphopt.analysis.activations import Array, Observation
from graphopt.calibration.inner import body_of
from graphopt.calibration.source import Feed, rows_of, some_rows
from graphopt.calibration.tapped import Running, Tapped, read_only
from graphopt.runtime.failure import WorkerFailure

BOUND: Final = 96 << 20
"""Bytes of values that are held at a time."""

_APART: Final = 1e-3  # of the energy of two samples that may change when they are run one by one

NO_NUMBERS: Final = "it is no tensor of numbers"

Place = tuple[bool, str]  # whether of the model as it was read, and the name


Values = Mapping[Place, Sequence[Array]]


@dataclass
class Stream:
    """Feeds, and the models that they are run through: the graph as it is now and the model as it was read.

    `places` says where the values of each observation are.
    """

    feeds: Iterable[Feed]
    largest: Feed
    models: Mapping[bool, Tapped]
    places: Mapping[Observation, Sequence[Place]]
    bound: int = BOUND

    def __post_init__(self) -> None:
        self.refused: dict[Place, str] = {}
        self._small = False

    def run(
        self, asked: Sequence[Observation], done: Callable[[Observation], None] = lambda _: None
    ) -> dict[Observation, str]:
        """Let the accumulators see all feeds; a clause for each that could not. `done` hears of each that has."""
        refused: dict[Observation, str] = {}
        wanted = list(dict.fromkeys(place for one in asked for place in self.places[one]))
        try:
            sizes, rows = self._sizes(wanted)
        except WorkerFailure as failure:
            return dict.fromkeys(asked, _not_run(failure))
        self._small = sum(sizes.values()) <= self.bound
        left = self._left(asked, refused)
        for group in self._groups(left, sizes):
            try:
                self._pass(group, rows, refused)
            except WorkerFailure as failure:
                refused.update(dict.fromkeys(group, _not_run(failure)))
            for one in group:
                if one not in refused:
                    done(one)
        return refused

    def _left(self, asked: Sequence[Observation], refused: dict[Observation, str]) -> list[Observation]:
        """The observations of which no value is refused; the others are, with the reason of that."""
        left = list[Observation]()
        for one in asked:
            why = next((self.refused[place] for place in self.places[one] if place in self.refused), None)
            if why is None:
                left.append(one)
            else:
                refused[one] = why
        return left

    def _pass(self, group: Sequence[Observation], rows: int | None, refused: dict[Observation, str]) -> None:
        """One run over all feeds for some observations."""
        wanted = list(dict.fromkeys(place for one in group for place in self.places[one]))
        with ExitStack() as stack:
            running = self._running(stack, wanted)
            for old, session in running.items():
                self.refused.update(((old, name), NO_NUMBERS) for name in session.others)
            group = self._left(group, refused)
            wanted = list(dict.fromkeys(place for one in group for place in self.places[one]))
            for feed in self.feeds:
                for piece in _pieces(feed, rows):
                    values = self._values(running, piece, wanted, lent=len(running) == 1)
                    for one in group:
                        self._update(one, values)
                    del values

    def _update(self, one: Observation, values: Values) -> None:
        """Show values to an accumulator as often as they were computed: those in a body once for each round, and
        not at all where they are empty, as in a branch that was not taken."""
        places = self.places[one]
        inner = any(body_of(name) for _, name in places)
        for index in range(max(len(values[place]) for place in places)):
            together = [values[place][index if len(values[place]) > 1 else 0] for place in places if values[place]]
            if len(together) == len(places) and not (inner and any(value.size == 0 for value in together)):
                one.accumulator.update(*together)

    def _running(self, stack: ExitStack, wanted: Sequence[Place]) -> dict[bool, Running]:
        found = {}
        for old, model in self.models.items():
            names = [name for before, name in wanted if before == old and name not in model.inputs]
            if names:
                found[old] = stack.enter_context(model.values(names, self._small))
        return found

    def _values(
        self, running: Mapping[bool, Running], feed: Feed, wanted: Sequence[Place], lent: bool = False
    ) -> Values:
        values: dict[Place, Sequence[Array]] = {}
        for old, one in running.items():
            names = [name for before, name in wanted if before == old and name not in self.models[old].inputs]
            values.update(((old, name), arrays) for name, arrays in one.run(feed, names, lent).items())
        values.update((place, [read_only(feed[place[1]])]) for place in wanted if place not in values)
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
            self.refused.update(((old, name), why) for name, why in model.hidden(names).items())
            made = [name for name in names if model.makes(name) and (old, name) not in self.refused]
            if made:
                for name, shapes in self._shapes(old, model, made, feed).items():
                    sizes[old, name] = sum(int(np.prod(shape)) for shape in shapes) * 4
        return sizes

    def _shapes(self, old: bool, model: Tapped, names: list[str], feed: Feed) -> dict[str, list[Array]]:
        """The shapes of values on a feed. Those whose model does not load are found by halving."""
        found: dict[str, list[Array]] = {}
        pending = [names]
        while pending:
            batch = pending.pop()
            try:
                with model.shapes(batch) as running:
                    found.update(running.run(feed, batch))
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
        with suppress(WorkerFailure), model.values([name]) as running:
            if running.others:
                return NO_NUMBERS
        return f"onnxruntime does not give it: {str(failure).rstrip('. ')}"

    def _runs(self, model: Tapped, feed: Feed) -> bool:
        """Whether the model runs as it is."""
        try:
            with model.values(model.outputs) as running:
                running.run(feed, model.outputs)
        except WorkerFailure:
            return False
        return True

    def _apart(self, wanted: list[Place], each: int) -> bool:
        """Whether two samples give the same together as one by one, seen in as many values as the bound allows."""
        some = wanted[:: -(4 * each // self.bound + 1)]  # the last one, and others on the way to it
        two = some_rows(self.largest, 0, 2)
        with ExitStack() as stack:
            running = self._running(stack, some)
            parts = [self._values(running, some_rows(two, at, at + 1), some) for at in (0, 1)]
            whole = self._values(running, two, some)
        return all(_joined(whole[place], *(part[place] for part in parts)) for place in some)

    def _groups(self, asked: Sequence[Observation], sizes: Mapping[Place, int]) -> Iterator[list[Observation]]:
        """Observations in order, as many together as the bound allows; those of the same values are together.

        Values in bodies are apart from others: a loop may turn out to give them in different shapes.
        """
        together: dict[tuple[str, ...], dict[tuple[Place, ...], list[Observation]]] = {}
        for one in asked:
            values = tuple(self.places[one])
            inner = tuple(sorted({body_of(name) for old, name in values if not old}))
            together.setdefault(inner, {}).setdefault(values, []).append(one)
        for apart in together.values():
            group, held, total = list[Observation](), set[Place](), 0
            for values, several in apart.items():
                more = sum(sizes[place] for place in set(values) - held)
                if group and total + more > self.bound:
                    yield group
                    group, held, total = [], set(), 0
                    more = sum(sizes[place] for place in set(values))
                group += several
                held.update(values)
                total += more
            if group:
                yield group


def _joined(whole: Sequence[Array], first: Sequence[Array], second: Sequence[Array]) -> bool:
    """Whether a value of two samples is that of each, one after the other along some axis, or the same in both."""
    if not len(whole) == len(first) == len(second):
        return False
    return all(_side_by_side(*three) for three in zip(whole, first, second, strict=True))


def _side_by_side(whole: Array, first: Array, second: Array) -> bool:
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


def _pieces(feed: Feed, rows: int | None) -> Iterator[Feed]:
    count = rows_of(feed)
    if rows is None or count <= rows:
        yield feed
        return
    for start in range(0, count, rows):
        yield some_rows(feed, start, min(start + rows, count))


def _not_run(failure: WorkerFailure) -> str:
    return f"the model does not run on the calibration feeds: {str(failure).rstrip('. ')}"
