"""Runs a model with other weights in one layer: only what is behind the layer, fed with what was recorded before it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from graphopt.debug.parts import write_part
from graphopt.debug.wiring import Wiring
from graphopt.ir import encode
from graphopt.runtime.client import Worker
from graphopt.runtime.session import Session
from graphopt.storage.source import Source
from graphopt.storage.wire import join
from graphopt.tolerance.layers import Layer
from graphopt.validation.likes import Like
from graphopt.validation.runs import ON

Array = np.ndarray[Any, Any]
Values = Mapping[str, Any]

BOUND: Final = 96 << 20
"""Bytes of recorded values that are held at a time."""


class Rig(Protocol):
    """A layer whose weights can be set. `data` are the values that were recorded, one mapping a feed."""

    data: Sequence[Values]

    def run(self, changed: Mapping[str, Array], seen: Sequence[str] = ()) -> Iterator[Values]:
        """The outputs that depend on the layer (and the values `seen`), feed by feed, with some stored tensors
        changed, by name."""
        ...


@dataclass
class Bench:
    """A model, and the feeds that it is run on. `runs` counts runs of parts of it on one feed, and `work` what they
    amount to in whole models, by the nodes in them."""

    source: Source
    worker: Worker
    feeds: Sequence[Values]
    folder: Path
    bound: int = BOUND
    runs: int = 0
    work: float = 0.0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.wiring = Wiring.of(self.source)
        self.fed = _fed(self.wiring)

    @contextmanager
    def part(self, wanted: Sequence[str], given: Mapping[str, Like]) -> Iterator[tuple[Session, dict[str, str]]]:
        """A part of the model, loaded, and the names under which it gives what is wanted. Raises WorkerFailure."""
        path = self.folder / f"part-{next(self._numbers)}.onnx"
        try:
            names = write_part(self.wiring, wanted, given, path).names
            with self.worker.load(path, ON, label="a part of the model") as session:
                yield session, names
        finally:
            path.unlink(missing_ok=True)

    def counted(self, nodes: int) -> None:
        """One run of so many nodes."""
        self.runs += 1
        self.work += nodes / max(1, len(self.wiring.reads))


@dataclass(frozen=True)
class Behind:
    """What is behind a stored tensor of the main graph: the nodes that depend on it, the `outputs` among what they
    make, and the values on the border that they read besides."""

    nodes: tuple[int, ...]
    outputs: tuple[str, ...]
    border: tuple[str, ...]

    @classmethod
    def of(cls, bench: Bench, names: Sequence[str]) -> Behind:
        """What is behind some stored tensors."""
        wiring, nodes = bench.wiring, bench.source.proto.graph.node
        reached: set[int] = set()
        pending = list(names)
        while pending:
            for position in wiring.readers.get(pending.pop(), ()):
                if position not in reached:
                    reached.add(position)
                    pending.extend(name for name in nodes[position].output if name)
        made = {name for position in reached for name in nodes[position].output if name}
        outputs = tuple(name for name in wiring.outputs if name in made)
        border = dict.fromkeys(
            name for position in sorted(reached) for name in wiring.reads[position]
            if name not in made and name not in names and name in wiring.makers and name in bench.fed
        )  # fmt: skip
        return cls(tuple(sorted(reached)), outputs, tuple(border))


@dataclass
class Tail:
    """A rig that runs what is behind the layer."""

    bench: Bench
    behind: Behind
    stored: Mapping[str, Array]
    data: Sequence[Values]
    seen: Sequence[str]
    _session: Session | None = None
    _names: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def loaded(self) -> Iterator[Tail]:
        """Keep the part loaded within the block."""
        given = {name: Like.of(array) for name, array in self.stored.items()}
        for name in self.behind.border:
            like = [Like.of(one[name]) for one in self.data]
            ranks = {one.rank for one in like}
            given[name] = Like(like[0].element, ranks.pop() if len(ranks) == 1 else None)
        wanted = tuple(dict.fromkeys((*self.behind.outputs, *self.seen)))
        with self.bench.part(wanted, given) as (self._session, self._names):
            yield self

    def run(self, changed: Mapping[str, Array], seen: Sequence[str] = ()) -> Iterator[Values]:
        """See `Rig`."""
        assert self._session is not None, "it is loaded"
        session = self._session
        takes = {port.name for port in (*session.inputs, *session.overridable)}
        wanted = dict.fromkeys((*self.behind.outputs, *seen))
        names = {self._names[name]: name for name in wanted}
        for feed, recorded in zip(self.bench.feeds, self.data, strict=True):
            fed = {
                name: value for name, value in {**feed, **recorded, **self.stored, **changed}.items() if name in takes
            }
            self.bench.counted(len(self.behind.nodes))
            found = session.run(fed, list(names))
            yield {names[made]: value for made, value in found.items()}


@dataclass
class Anew:
    """A rig that writes and loads the whole model each time: for layers in bodies and functions."""

    bench: Bench
    layer: Layer
    data: Sequence[Values] = ()

    def run(self, changed: Mapping[str, Array], seen: Sequence[str] = ()) -> Iterator[Values]:
        """See `Rig`."""
        constants = {one.tensor.name: one.constant for one in (self.layer.weight, *self.layer.biases)}
        kept = {name: constants[name].values for name in changed}
        for name, values in changed.items():
            constants[name].values = values
        try:
            encoded = encode(self.layer.weight.home.root)
            data = b"".join(join(encoded.proto, encoded.store))
        finally:
            for name, values in kept.items():
                constants[name].values = values
        with self.bench.worker.load(data, ON, label="the model") as session:
            for feed in self.bench.feeds:
                self.bench.counted(len(self.bench.wiring.reads))
                yield session.run(feed)


def _fed(wiring: Wiring) -> set[str]:
    """The values that depend on what is fed, or on chance."""
    nodes = wiring.source.proto.graph.node
    found = set(wiring.inputs)
    for position, reads in enumerate(wiring.reads):
        stored = nodes[position].op_type == "Constant" and not nodes[position].domain
        if not stored and (not reads or found.intersection(reads)):
            found.update(name for name in nodes[position].output if name)
    return found
