"""The values inside a model, looked at in groups: each group is the output of a part that is run and let go.

`Model` is a model that can be looked into, on anything that loads and runs model files (`Engine`; the
worker is one). Groups keep memory bounded: a group holds what fits into a number of bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from graphopt.debug.parts import write_part
from graphopt.debug.wiring import Wiring
from graphopt.errors import CouldNotTell
from graphopt.limits import current, how_to_move, size_text
from graphopt.runtime.elements import bits_of, element_of
from graphopt.runtime.failure import WorkerFailure
from graphopt.runtime.options import Options, Port
from graphopt.storage.source import Source
from graphopt.validation.likes import Like
from graphopt.validation.runs import OFF
from graphopt.validation.values import Array

GROUP_BYTES: Final = 96 << 20
ALL_BYTES: Final = 1 << 30  # of the values of a model on all feeds; what makes more is looked at on fewer feeds
Values = Mapping[str, Any]
Shape = tuple[int, ...]


class Loaded(Protocol):
    """A model file that can be run."""

    inputs: tuple[Port, ...]
    overridable: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, feeds: Values) -> dict[str, Any]:
        """All outputs by name."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Engine(Protocol):
    """What loads model files. Raises WorkerFailure where one does not load or run."""

    def load(self, model: Path, options: Options, *, label: str = "") -> Loaded:
        """The model at `model`, to be run under `options` and called `label` in messages."""
        ...


class Tap:
    """A part that is loaded: `run` gives the wanted values under their own names."""

    def __init__(self, loaded: Loaded, names: Mapping[str, str], path: Path, inputs: Mapping[str, str]) -> None:
        self._loaded, self._path, self._inputs = loaded, path, inputs
        self._names = {made: name for name, made in names.items()}
        self._fed = {port.name for port in (*loaded.inputs, *loaded.overridable)}
        self.types = {self._names[port.name]: port.type_text for port in loaded.outputs}

    def run(self, feed: Values, given: Values | None = None) -> dict[str, Any]:
        """The wanted values on one feed, with the given values given."""
        named = {name: feed[old] for name, old in self._inputs.items() if old in feed}
        fed = {name: value for name, value in {**feed, **named, **(given or {})}.items() if name in self._fed}
        return {self._names[made]: value for made, value in self._loaded.run(fed).items()}

    def close(self) -> None:
        """Let go of the part and its file."""
        self._loaded.close()
        self._path.unlink(missing_ok=True)


class Model:
    """A model and what is inside it.

    `inputs` says what the reference calls an input that has another name here. `tensors` are the
    values, in graph order, that are tensors: their element types. What is not a tensor (a sequence,
    an optional) is passed over. Raises CouldNotTell where the model cannot be tapped.
    """

    _numbers = itertools.count()

    def __init__(
        self, source: Source, engine: Engine, folder: Path, name: str, inputs: Mapping[str, str] | None = None
    ) -> None:
        self.wiring, self.name = Wiring.of(source), name
        self._inputs = inputs or {}
        self._engine, self._folder = engine, folder
        self.tensors = self._types()

    @contextlib.contextmanager
    def tap(
        self, wanted: Iterable[str], given: Mapping[str, Like] | None = None, *, mode: Options = OFF,
        weights: Mapping[str, Array] | None = None, shapes: bool = False, shifted: Mapping[str, Like] | None = None,
    ) -> Iterator[Tap]:  # fmt: skip
        """A part of the model, loaded within the block. Raises WorkerFailure, OverLimit."""
        path = self._folder / f"part-{next(self._numbers)}.onnx"
        try:
            part = write_part(self.wiring, wanted, given or {}, path, weights=weights, shapes=shapes, shifted=shifted)
            tap = Tap(self._engine.load(path, mode, label=self.name), part.names, path, self._inputs)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        try:
            yield tap
        finally:
            tap.close()

    def called(self, name: str) -> str:
        """What the reference calls an input of this model."""
        return self._inputs.get(name, name)

    def within(self, source: Source, inputs: Mapping[str, str] | None = None) -> Model:
        """A part of this model that was made a model of its own, on the same engine."""
        return Model(source, self._engine, self._folder, self.name, inputs)

    def shapes(self, feeds: Sequence[Values]) -> dict[str, tuple[Shape, ...]]:
        """The shapes of every tensor, one a feed; one run a feed, which gives shapes only.

        There are those of the first feeds only where values would take more than `ALL_BYTES` on all of them.
        """
        found: dict[str, list[Shape]] = {name: [] for name in self.tensors}
        made = 0
        try:
            with self.tap(self.tensors, shapes=True) as tap:
                for number, feed in enumerate(feeds, 1):
                    for name, shape in tap.run(feed).items():
                        found[name].append(tuple(int(size) for size in shape))
                        made += self.size(name, found[name][-1:])
                    if made + made // number > ALL_BYTES:  # with one more feed
                        break
        except WorkerFailure as failure:
            raise self._failed(failure) from None
        return {name: tuple(shapes) for name, shapes in found.items()}

    def pass_over(self, shapes: Mapping[str, Sequence[Shape]]) -> str:
        """Leave out the values that take more than the limit `value_bytes`, outputs excepted: a sentence on them,
        "" where there are none."""
        most = current().value_bytes
        sizes = {name: self.size(name, shapes[name]) for name in self.tensors if name not in self.wiring.outputs}
        large = sorted((name for name, size in sizes.items() if size > most), key=sizes.__getitem__)
        for name in large:
            del self.tensors[name]
        if not large:
            return ""
        values = "a value" if len(large) == 1 else f"{len(large)} values"
        return (
            f"{values} of {self.name} cannot be compared, the largest {large[-1]!r} with {sizes[large[-1]] / 1e6:.4g} "
            f"MB where {size_text(most)} are allowed; {how_to_move('value_bytes')}"
        )

    def size(self, name: str, shapes: Sequence[Shape]) -> int:
        """Most bytes that a value takes on one feed."""
        bits = bits_of(self.tensors[name]) or 64
        return max((math.prod(shape) for shape in shapes), default=0) * bits // 8

    def _failed(self, failure: WorkerFailure) -> CouldNotTell:
        return CouldNotTell(f"{self.name} cannot be looked into: {str(failure).rstrip('. ')}")

    def _types(self) -> dict[str, int]:
        order = self.wiring.order
        if not order:
            return {}
        try:
            with self.tap(order) as tap:
                types = tap.types
        except WorkerFailure as failure:
            raise self._failed(failure) from None
        elements = {name: element_of(types[name]) for name in order if types[name].startswith("tensor(")}
        return {name: element for name, element in elements.items() if element is not None}


def groups(names: Iterable[str], sizes: Mapping[str, int], most: int = GROUP_BYTES) -> Iterator[list[str]]:
    """The names in their order, cut into groups of at most `most` bytes (or of one name)."""
    group: list[str] = []
    held = 0
    for name in names:
        if group and held + sizes[name] > most:
            yield group
            group, held = [], 0
        group.append(name)
        held += sizes[name]
    if group:
        yield group


def tensor(value: Any) -> Array:
    """A value of a tensor's type as an array."""
    return np.asarray(value)
