"""The outputs of one model on all feeds, computed once a mode and kept on disk where they are large."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphopt.errors import NotEquivalent, UsageError
from graphopt.runtime.failure import WorkerFailure
from graphopt.runtime.options import Options
from graphopt.validation.compare import same_bits
from graphopt.validation.feed_files import Feed
from graphopt.validation.running import Key, Outputs, Results, Runner, Values, Whole
from graphopt.validation.values import Array

if TYPE_CHECKING:
    from graphopt.runtime.client import Worker
    from graphopt.runtime.options import Value

OFF: Final = Options(optimize=False, prepack=False, threads=1)
ON: Final = Options(optimize=True, prepack=True, threads=1)
LARGE: Final = 1 << 20  # bytes; larger arrays are kept in files and mapped


class Spill:
    """Keeps values, the large arrays of them in files of `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._files: list[Path] = []

    def keep(self, value: Value) -> Value:
        """The same value, independent of the memory it came in; large arrays are mapped, read-only."""
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, dict):
            entries: dict[Any, Any] = value
            return {key: self.keep(item) if isinstance(item, np.ndarray) else item for key, item in entries.items()}
        if isinstance(value, (list, tuple)):
            return [self.keep(item) for item in value]
        return value

    def clear(self) -> None:
        """Remove the files."""
        for file in self._files:
            file.unlink(missing_ok=True)
        self._files.clear()

    def _array(self, array: Array) -> Array:
        if array.nbytes < LARGE or array.dtype.hasobject:
            return np.array(array, copy=True)
        file = self._folder / f"{next(self._numbers)}.bin"
        self._files.append(file)
        with file.open("wb") as stream:
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape)


class Runs:
    """One model on a set of feeds. `outputs(mode)` runs it the first time it is asked.

    Raises `WorkerFailure` where the model does not load or run; the next call tries again. With
    `like`, `NotEquivalent` where its inputs or outputs are not those of the other model.
    `repeats` is how many feeds are run a second time with optimizations off; `unsteady` are the
    outputs that came out differently then. `runner` runs the model, as a whole unless given.
    """

    def __init__(
        self, path: Path, worker: Worker, feeds: Iterable[Feed], folder: Path, like: Runs | None = None,
        runner: Runner | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self.runner = Whole(worker) if runner is None else runner
        self.feeds = feeds
        self._like = like
        self.repeats = 0
        self.unsteady: frozenset[str] = frozenset()
        folder.mkdir(parents=True, exist_ok=True)
        self._spill = Spill(folder)
        self._kept: dict[Options, list[Outputs]] = {}
        self._failed: dict[Options, WorkerFailure | UsageError] = {}
        self._ports: tuple[dict[str, str], dict[str, str]] = ({}, {})

    def outputs(self, mode: Options, also: Sequence[Options] = ()) -> list[Outputs]:
        """The outputs by name, one mapping a feed, in the order of the feeds. `also` are modes that are asked for
        next: they are run at once where that takes less, and what they raise is raised when they are asked for."""
        if mode in self._failed:
            raise self._failed.pop(mode)
        if mode not in self._kept:
            self._run([mode, *(one for one in also if one != mode and one not in self._kept)])
        return self._kept[mode]

    def close(self) -> None:
        """Forget the outputs."""
        self._kept.clear()
        self._failed.clear()
        self._spill.clear()

    def _run(self, modes: Sequence[Options]) -> None:
        """Run under the first mode, and under others as the runner thinks fit."""
        with self.runner.open(self.path, modes[0]) as model:
            self._ports = (dict(model.inputs), dict(model.outputs))
            if self._like is not None:
                _same("input", self._like._ports[0], self._ports[0])
                _same("output", self._like._ports[1], self._ports[1])
            asked = [(mode, partial(self._given, mode)) for mode in modes]
            for results, mode in zip(model.several(asked), modes, strict=False):
                try:
                    self._kept[mode] = self._taken(results)
                except (WorkerFailure, UsageError) as error:
                    if mode == modes[0]:
                        raise
                    self._failed[mode] = error

    def _taken(self, results: Results) -> list[Outputs]:
        kept: list[Outputs] = []
        for (_, again), values in results:
            if not again:
                kept.append({name: self._spill.keep(value) for name, value in values.items()})
                continue
            moved = (name for name, value in values.items() if not same_bits(kept[-1][name], value))
            self.unsteady = self.unsteady.union(moved)
        return kept

    def _given(self, mode: Options) -> Iterator[tuple[Key, Values]]:
        for index, feed in enumerate(self.feeds):
            yield (index, 0), feed.values
            if mode == OFF and index < self.repeats:
                yield (index, 1), feed.values


def _same(what: str, original: Mapping[str, str], result: Mapping[str, str]) -> None:
    """Raise `NotEquivalent` unless the result has the same names and types, as far as these are known; outputs in
    the same order too."""
    for name, kind in original.items():
        if name not in result:
            raise NotEquivalent(f"the result has lost the {what} {name!r} of the original")
        if "" not in (kind, result[name]) and result[name] != kind:
            raise NotEquivalent(f"the {what} {name!r} is {result[name]} in the result and {kind} in the original")
    for name in result:
        if name not in original:
            raise NotEquivalent(f"the result has an {what} {name!r} that the original has not")
    if what == "output" and list(original) != list(result):
        raise NotEquivalent("the result gives its outputs in another order than the original")
