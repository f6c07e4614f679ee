"""Suites: each measures one thing that the project claims, of any models, and writes its own tables.

A suite is a module here with `NAME`, `HELP` (one sentence), `contenders(only)`, which raises UsageError for a name that
it does not have, `measure(models, asked)`, which gives a `Record` as soon as it has one, and `tables(records)`, which
gives titles and Markdown tables. Modules are loaded when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, cast

from benchmarks.corpus_data.evidence import Corpus, Loader, Missing, Original, Rows
from benchmarks.judged import Halves, singles
from benchmarks.record import Record
from graphopt.errors import UsageError
from graphopt.runtime.client import Worker

SUITES: Final = ("simplification", "quantization", "pruning", "scale", "startup")
"""By name of the module, in the order in which they run and are reported."""


@dataclass(frozen=True)
class Model:
    """A model that was fetched or made. kind: such as `image classifier`.

    `loader` reads real data of it from `corpus`, of whose second half a measurement takes at most `most` samples (None:
    all); without one a suite feeds what it generates.
    """

    name: str
    path: Path
    kind: str
    corpus: Corpus | None = None
    loader: Loader | None = None
    most: int | None = 64

    def halves(self, *, samples: int = 32, whole: bool = False) -> Halves:
        """Its real data, `samples` of the first half to learn from; with `whole` all of the second to measure on.

        Raises UsageError where it has none; errors as of `Worker.load`.
        """
        if self.loader is None or self.corpus is None:
            raise UsageError(f"there are no data of {self.name}")
        with Worker() as worker:
            original = Original(self.path, worker)
            try:
                first = self.loader(self.corpus, original, Rows(0, samples))
                second = self.loader(self.corpus, original, Rows(1, None if whole else self.most))
            except Missing as missing:
                raise UsageError(str(missing)) from None
            finally:
                original.close()
        learn = singles(self.path, first.feeds)[:samples]
        sample = singles(self.path, second.feeds)[0]
        return Halves(self.path, learn, second.feeds, second.labels, second.metric, sample)


@dataclass(frozen=True)
class Asked:
    """How a suite is to measure.

    peers: the interpreters of other tools by name. only: the contenders that are wanted, all where it is empty. rounds:
    how often a whole process is repeated. seconds: of one latency ratio. threads: of onnxruntime. work: a folder for
    what is made meanwhile. quick: as little as still shows that everything works. done: (model, contender) pairs that
    are recorded already, which a suite may leave out; what it measures all the same is not recorded twice.
    """

    work: Path
    peers: Mapping[str, Path] = field(default_factory=dict)
    only: Sequence[str] = ()
    rounds: int = 3
    seconds: float = 6.0
    threads: int = 1
    quick: bool = False
    done: frozenset[tuple[str, str]] = frozenset()


class Suite(Protocol):
    """What the module of a suite has."""

    NAME: str
    HELP: str

    def contenders(self, only: Sequence[str] = ()) -> list[str]: ...

    def measure(self, models: Sequence[Model], asked: Asked) -> Iterator[Record]: ...

    def tables(self, records: Sequence[Record]) -> list[tuple[str, str]]: ...


def suite(name: str) -> Suite:
    """The suite of a name. Raises UsageError."""
    if name not in SUITES:
        raise UsageError(f"there is no suite {name!r}; there are {', '.join(SUITES)}")
    return cast(Suite, importlib.import_module(f"benchmarks.suites.{name}"))
