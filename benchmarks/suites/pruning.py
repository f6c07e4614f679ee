"""Pruned and distilled models, technique by technique: bytes, MACs, error and score on held-out data, latency.

No tool of PyPI prunes ONNX files; what published methods do (the least by magnitude, by weights times activations) is
therefore the same passes told to choose so, and without what repairs the layers behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import graphopt
from benchmarks.cells import by_model, table
from benchmarks.judged import Halves, ours, worth, written
from benchmarks.record import Record
from benchmarks.studies import STUDIES, Study
from benchmarks.suites import Asked, Model
from graphopt.errors import GraphoptError, UsageError
from graphopt.pipeline.recipe import Recipe

NAME: Final = "pruning"
HELP: Final = (
    "pruning and distilling on held-out data: bytes, MACs, paired latency, SQNR, agreement, metric, CPU seconds"
)
RECIPES: Final = ("prune-50", "prune-sparse", "prune-structured", "drop-blocks", "low-rank")
_SAMPLES: Final = 100  # that are learned from where a study does not say
_COLUMNS: Final = (
    "bytes", "of the original", "MACs", "SQNR dB", "agreement", "metric", "latency", "CPU s",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A contender: the study that it belongs to, None for a recipe, and the pipeline behind the recipe `default`."""

    name: str
    study: Study | None
    pipeline: str = ""

    @property
    def contender(self) -> str:
        return f"graphopt:{self.name}"

    def samples(self, model: str) -> int:
        """How many samples of a model it learns from."""
        return _SAMPLES if self.study is None else self.study.samples.get(model, _SAMPLES)

    def options(self) -> list[str]:
        """As the command line takes it."""
        if self.study is None:
            return ["--recipe", self.name]
        return ["--pipeline", f"{Recipe.load('default').pipeline},{self.pipeline}"]


def entries(only: Sequence[str] = ()) -> list[Entry]:
    """Those of these names, all for none: a contender with or without `graphopt:`, or a study. Raises UsageError."""
    every = [Entry(recipe, None) for recipe in RECIPES]
    every += [Entry(name, study, text) for study in STUDIES.values() for name, text in study.rows.items()]
    found: list[Entry] = []
    for name in only:
        plain = name.removeprefix("graphopt:")
        own = [one for one in every if plain == one.name or (one.study is not None and plain == one.study.name)]
        if not own and name != "graphopt":
            known = ", ".join(one.contender for one in every)
            raise UsageError(f"the suite {NAME} has no contender {name!r}; it has {known} and the studies {_studies()}")
        found += [one for one in own or every if one not in found]
    return found if only else every


def contenders(only: Sequence[str] = ()) -> list[str]:
    """The contenders of `entries`."""
    return [one.contender for one in entries(only)]


def _studies() -> str:
    return ", ".join(STUDIES)


def measure(models: Sequence[Model], asked: Asked) -> Iterator[Record]:
    """Every recipe on every model, every study on the models that it is about; what fails is a record."""
    wanted = entries(asked.only)
    for model in models:
        own = [one for one in wanted if one.study is None or model.name in one.study.models]
        own = [one for one in own if (model.name, one.contender) not in asked.done]
        kept: dict[tuple[int, bool], Halves] = {}
        with tempfile.TemporaryDirectory(dir=asked.work, prefix="pruning-") as work:
            for entry in own:
                key = (entry.samples(model.name), entry.study is not None and entry.study.most is None)
                folder = Path(work) / f"calibration-{key[0]}"
                try:
                    if key not in kept:
                        kept[key] = model.halves(samples=key[0], whole=key[1])
                        if not folder.exists():
                            written(kept[key].learn, folder)
                except GraphoptError as error:
                    yield Record(NAME, model.name, entry.contender, graphopt.__version__, failure=str(error))
                    continue
                yield _record(model.name, entry, kept[key], folder, asked)


def _record(model: str, entry: Entry, halves: Halves, calibration: Path, asked: Asked) -> Record:
    study = {} if entry.study is None else {"study": entry.study.name}
    with tempfile.TemporaryDirectory(dir=asked.work, prefix="tool-") as folder:
        out = Path(folder) / "made.onnx"
        figures, words, failure = worth(ours(halves, calibration, out, entry.options()), halves, out, asked)
    return Record(NAME, model, entry.contender, graphopt.__version__, figures, {**words, **study}, failure)


def tables(records: Sequence[Record]) -> list[tuple[str, str]]:
    """A table for each model."""
    return [(f"Pruning of {model}", table(some, _COLUMNS)) for model, some in by_model(records, NAME).items()]
