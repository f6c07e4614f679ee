"""The corpus folder, the feeds and labels of one model, and the original model to ask things of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.runtime.client import Worker
from graphopt.runtime.options import Options, Value
from graphopt.storage.read import read
from graphopt.validation.feeds import gather
from graphopt.validation.plan import FeedPlan, Given

Array = np.ndarray[Any, np.dtype[Any]]


class Missing(Exception):
    """A model, a data file or a library that is not here; the message is one sentence."""


@dataclass(frozen=True)
class Corpus:
    """A folder with `models` and `data`; `more` are further folders to look for models in."""

    folder: Path
    more: tuple[Path, ...] = ()

    def model(self, name: str) -> Path:
        """The file of a model. Raises `Missing`."""
        for folder in (self.folder / "models", *self.more):
            if (folder / f"{name}.onnx").is_file():
                return folder / f"{name}.onnx"
        raise Missing(f"the model {name}.onnx is not in the corpus")

    def data(self, name: str) -> Path:
        """A data file. Raises `Missing`."""
        path = self.folder / "data" / name
        if not path.is_file():
            raise Missing(f"the data {name} are not in the corpus")
        return path

    def arrays(self, name: str) -> dict[str, Array]:
        """The arrays of an `.npz` data file. Raises `Missing`."""
        with np.load(self.data(name)) as archive:
            return {key: archive[key] for key in archive.files}


@dataclass(frozen=True)
class Rows:
    """Which samples to take: `part` 0 is the first half, 1 the second, None all; at most `most` of them."""

    part: int | None = 1
    most: int | None = None

    def of(self, total: int) -> Array:
        """Indices, evenly spaced, so that data sorted by class give every class."""
        half = total // 2
        start, stop = {None: (0, total), 0: (0, half), 1: (half, total)}[self.part]
        count = stop - start if self.most is None else min(self.most, stop - start)
        return start + np.arange(count) * (stop - start) // max(count, 1)


@dataclass(frozen=True)
class Evidence:
    """What to validate one model on. `about` says in a few words what the samples are."""

    feeds: Given
    about: str
    labels: Array | None = None
    metric: str | None = None


class Original:
    """The model as it came, run in the worker process with onnxruntime's defaults."""

    def __init__(self, path: Path, worker: Worker) -> None:
        self.path = path
        self.worker = worker
        self._source = read(path)
        self._session = worker.load(path, Options())

    def outputs(self, feeds: Given) -> dict[str, list[Value]]:
        """The outputs by name, one value a feed; `feeds` are cut as `graphopt.optimize` cuts them."""
        found: dict[str, list[Value]] = {}
        for feed in gather(FeedPlan(feeds), self._source.proto, lambda values: ""):
            for name, value in self._session.run(feed.values).items():
                found.setdefault(name, []).append(value)
        return found

    def once(self, feed: Mapping[str, Any]) -> dict[str, Value]:
        """The outputs of a single feed."""
        return self._session.run(feed)

    def property(self, key: str) -> str:
        """A metadata property of the model. Raises `Missing`."""
        for entry in self._source.proto.metadata_props:
            if entry.key == key:
                return str(entry.value)
        raise Missing(f"the model {self.path.name} has no metadata property {key!r}")

    def close(self) -> None:
        """Let go of the session."""
        self._session.close()


Loader = Callable[[Corpus, Original, Rows], Evidence]


@dataclass(frozen=True)
class Case:
    """One model of the corpus. Without a `loader` its feeds are generated.

    `most` bounds the samples of a run; `baseline` is the metric that its makers' data give with
    onnxruntime, None where there is none.
    """

    name: str
    about: str
    loader: Loader | None = None
    most: int = 64
    baseline: float | None = None


def batches(arrays: Mapping[str, Array], rows: int) -> Sequence[dict[str, Array]]:
    """Arrays cut into feeds of `rows` rows each, the last one shorter."""
    total = len(next(iter(arrays.values())))
    return [{name: array[at : at + rows] for name, array in arrays.items()} for at in range(0, total, rows)]
