"""Samples to train on: the calibration feeds, and what the original gives for them, as onnxruntime computes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphopt.analysis.lesson import Array, Course, Feature
from graphopt.calibration.source import Feed, rows_of, some_rows
from graphopt.calibration.tapped import Running
from graphopt.runtime.failure import WorkerFailure
from graphopt.training.shelf import Arrays, Writer

BOUND: Final = 4 << 30
"""Bytes of samples and targets that are written; of more samples every so many are taken."""

_LABELS: Final = "\0labels"  # no value is called so
_ROWS: Final = 16  # that the original is run on at a time
_APART: Final = 1e-4  # of the energy of two samples that may change when they are run together


class Refused(Exception):
    """Nothing can be trained; the text says why, in a clause."""


@dataclass(frozen=True)
class Asked:
    """Which values are compared: outputs of both models, and features of the student with those of the original."""

    outputs: tuple[str, ...]
    features: tuple[Feature, ...] = ()

    @property
    def of_teacher(self) -> list[str]:
        return list(dict.fromkeys((*self.outputs, *(one.original for one in self.features))))

    @property
    def of_student(self) -> list[str]:
        return list(dict.fromkeys((*self.outputs, *(one.value.name for one in self.features))))


@dataclass
class Gathered:
    """What was written: terms of the loss as plain data, and notes on what is not as asked."""

    terms: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Gathering:
    """Feeds, and sessions of both models that give the values asked for. `any_rows`: both take any number of rows.
    `labels`: the class of each sample."""

    feeds: Sequence[Feed] | Any
    teacher: Running
    student: Running
    asked: Asked
    any_rows: bool
    labels: Array | None = None
    bound: int = BOUND

    def write(self, folder: Path, expected: Path, course: Course) -> Gathered:
        """Write samples with the original's values to one folder, and a few with the student's to another.
        Raises Refused, WorkerFailure."""
        found = Gathered()
        together = self.any_rows and self._together()
        first = next(iter(self.feeds))
        some = some_rows(first, 0, min(rows_of(first), 2)) if together else first
        mine, theirs = self._of(self.student, some, self.asked.of_student), self._wanted(some)
        outputs = self._outputs(mine, theirs)
        features = [one.value.name for one in self.asked.features if self._fits(one, mine, theirs, found)]
        names = [*outputs, *features]
        check = Writer(expected)
        check.add(_arrays(some), {name: mine[name] for name in names})
        check.close(together)
        probable = dict.fromkeys(outputs, True)
        writer, stride = Writer(folder), 1
        for index, sample in enumerate(self._samples(together)):
            if index % stride:
                continue
            inputs, targets = sample
            targets = {name: targets[name] for name in names}
            classes = self._classes(index, theirs[outputs[0]], together)
            for name, array in targets.items():
                if not np.isfinite(array.astype(np.float64)).all():
                    raise Refused(f"the original gives {name!r} with a NaN or infinity on the calibration feeds")
                if name in probable:
                    probable[name] &= are_probabilities(array)
            writer.add(inputs, targets | classes)
            if index == 0:
                total = self._count(together)
                stride = max(1, -(-total * writer.bytes // self.bound))
        writer.close(together)
        found.count = len(writer)
        if stride > 1:
            found.notes.append(f"one of {stride} samples was taken: all of them are more than {self.bound >> 20} MB")
        if found.count < 2:
            raise Refused("there is only one sample, and some must be held out: give more of them")
        found.terms = list(self._terms(course, theirs, probable, features))
        return found

    def _terms(
        self, course: Course, theirs: Arrays, probable: Mapping[str, bool], features: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """The parts of the loss, as plain data (see `graphopt.training.losses.Term`); `probable` are the outputs, and
        whether they are probabilities."""
        for name, is_probable in probable.items():
            kind = kind_of(course.loss, theirs[name], is_probable)
            of_kl = {"temperature": course.temperature, "probabilities": is_probable} if kind == "kl" else {}
            yield {"name": name, "kind": kind, "weight": 1 / len(probable), **of_kl}
        for name in features:
            yield {"name": name, "kind": "mse", "weight": course.features / len(features), "is_feature": True}
        if self.labels is not None:
            first, is_probable = next(iter(probable.items()))
            term = {"name": first, "against": _LABELS, "kind": "labels", "weight": course.labels}
            yield {**term, "probabilities": is_probable}

    def _count(self, together: bool) -> int:
        """How many samples there are. Raises Refused where there are not as many labels."""
        total = sum(rows_of(feed) if together else 1 for feed in self.feeds)
        if self.labels is not None and self.labels.shape != (total,):
            raise Refused(f"there are labels of shape {list(self.labels.shape)} for {total} samples, and not one each")
        return total

    def _classes(self, index: int, output: Array, together: bool) -> dict[str, Array]:
        """The label of a sample, for an output with a score for each class."""
        if self.labels is None:
            return {}
        if output.ndim != 2 or (output.shape[0] != 1 and not together):
            raise Refused("its first output has not one row of scores for each sample, so there is none for a label")
        label = self.labels[index : index + 1].astype(np.int64)
        if not ((label >= 0) & (label < output.shape[1])).all():
            raise Refused(f"the label {label.tolist()} is none of the {output.shape[1]} classes of its first output")
        return {_LABELS: label}

    def _outputs(self, mine: Arrays, theirs: Arrays) -> list[str]:
        """The outputs that can be compared. Raises Refused where there are none, or shapes differ."""
        found = [name for name in self.asked.outputs if is_float(theirs[name]) and theirs[name].size]
        if not found:
            raise Refused("the model has no output of floating point that could be compared")
        for name in found:
            if mine[name].shape != theirs[name].shape:
                shapes = f"{list(mine[name].shape)} and {list(theirs[name].shape)} in the original"
                raise Refused(f"its output {name!r} has another shape than the original's: {shapes}")
        return found

    def _fits(self, feature: Feature, mine: Arrays, theirs: Arrays, found: Gathered) -> bool:
        name = feature.value.name
        if name in theirs and theirs[name].shape == mine[name].shape and is_float(mine[name]) and mine[name].size:
            return True
        found.notes.append(f"the feature {name!r} is left out: it has not the shape of {feature.original!r}")
        return False

    def _of(self, running: Running, feed: Feed, names: Sequence[str]) -> dict[str, Array]:
        return {name: np.array(arrays[0]) for name, arrays in running.run(feed, names).items()}

    def _wanted(self, feed: Feed) -> dict[str, Array]:
        """What the original gives, by the names of the student's values."""
        values = self._of(self.teacher, feed, self.asked.of_teacher)
        found = {name: values[name] for name in self.asked.outputs}
        for feature in self.asked.features:
            array = values[feature.original]
            fits = all(axis < array.ndim and kept.max(initial=-1) < array.shape[axis] for axis, kept in feature.kept)
            for axis, kept in feature.kept if fits else ():
                array = np.take(array, kept, axis=axis)
            if fits:
                found[feature.value.name] = array
        return found

    def _samples(self, together: bool) -> Iterator[tuple[Arrays, Arrays]]:
        """Inputs and targets: of one row each where rows may be joined."""
        for feed in self.feeds:
            if not together:
                yield _arrays(feed), self._wanted(feed)
                continue
            for at in range(0, rows_of(feed), _ROWS):
                piece = some_rows(feed, at, min(at + _ROWS, rows_of(feed)))
                wanted = self._wanted(piece)
                for row in range(rows_of(piece)):
                    yield _arrays(some_rows(piece, row, row + 1)), _row(wanted, row)

    def _together(self) -> bool:
        """Whether two samples give the same together, one behind the other, as each alone, in both models."""
        pair = self._pair()
        if pair is None:
            return False
        one, two = pair
        both = {name: value if not value.ndim else np.concatenate([value, two[name]]) for name, value in one.items()}
        for running, names in ((self.teacher, self.asked.of_teacher), (self.student, self.asked.of_student)):
            values = [self._of(running, feed, names) for feed in (one, two)]
            try:
                values.append(self._of(running, both, names))
            except WorkerFailure:  # sizes on the way are written down for one
                return False
            if not all(_joined(values[0][name], values[1][name], values[2][name]) for name in names):
                return False
        return True

    def _pair(self) -> tuple[Feed, Feed] | None:
        """Two samples of one row each that have the same shapes."""
        known: dict[tuple[Any, ...], Feed] = {}
        for feed in itertools.islice(self.feeds, 64):
            if not all(isinstance(value, np.ndarray) for value in feed.values()):
                return None
            if rows_of(feed) > 1:
                return some_rows(feed, 0, 1), some_rows(feed, 1, 2)
            key = tuple((name, value.shape, value.tobytes() if not value.ndim else b"") for name, value in feed.items())
            if key in known:
                return known[key], feed
            known[key] = feed
        return None


def are_probabilities(array: Array) -> bool:
    """Whether the vectors along the last axis are what softmax makes."""
    if array.ndim < 1 or array.shape[-1] < 2:
        return False
    exact = array.astype(np.float64)
    return bool((exact >= 0).all() and np.allclose(exact.sum(-1), 1, rtol=0, atol=1e-3))


def kind_of(loss: str, array: Array, probabilities: bool) -> str:
    """Which loss an output has: the one that the user names where the output has vectors to compare; unless one is
    named, KL for probabilities, and the mean square for everything else, logits and embeddings alike."""
    if loss == "auto":
        return "kl" if probabilities else "mse"
    has_vectors = array.ndim > 0 and array.shape[-1] > 1
    return loss if has_vectors else "mse"


def is_float(array: Array) -> bool:
    """Whether an array has numbers of floating point."""
    return bool(array.dtype.kind == "f" or array.dtype.name == "bfloat16")


def _arrays(feed: Mapping[str, Any]) -> Arrays:
    for name, value in feed.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            raise Refused(f"the input {name!r} is no tensor of numbers")
    return feed


def _row(values: Arrays, row: int) -> Arrays:
    return {name: array[row : row + 1] for name, array in values.items()}


def _joined(one: Array, two: Array, both: Array) -> bool:
    if not (both.ndim and one.shape == two.shape and one.shape[:1] == (1,) and both.shape == (2, *one.shape[1:])):
        return False
    apart = both.astype(np.float64) - np.concatenate([one, two]).astype(np.float64)
    moved, energy = float(np.square(apart).sum()), float(np.square(both.astype(np.float64)).sum())
    return bool(moved <= _APART * energy)
