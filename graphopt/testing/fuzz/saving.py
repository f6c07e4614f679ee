"""A failure on a random model, reduced to the few nodes that it needs and written down as a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from graphopt.debug.bisect import Answer
from graphopt.debug.extract import Part, Whole
from graphopt.errors import GraphoptError
from graphopt.pipeline import Pipeline, Registry
from graphopt.runtime.client import WorkerFailure
from graphopt.session.failing import Told
from graphopt.session.job import Job
from graphopt.session.reducing import reduce
from graphopt.storage.read import from_proto
from graphopt.storage.wire import join
from graphopt.testing.breach import LawBroken
from graphopt.testing.fuzz.ground import Ground, feeds_of
from graphopt.testing.fuzz.holding import Failure, tried
from graphopt.testing.wild import wild_model

_PARTS = 400


class ByLaw:
    """Whether the pipeline still breaks the same law on a part of the model."""

    shrinks = True

    def __init__(self, pipeline: Pipeline) -> None:
        self.how = f"the laws of {pipeline}"
        self._pipeline = pipeline

    def judge(self, part: Part, folder: Path) -> Told:
        data = b"".join(join(part.proto, part.source.store))
        ground = Ground(0, ModelProto.FromString(data), given=[part.feeds])
        try:
            assert ground.expected
        except GraphoptError as error:
            return Told(Answer.SKIP, str(error))
        _, failure = tried(ground, "", self._pipeline, all_laws=True, blaming=False)
        if failure is None:
            return Told(Answer.GOOD, "it holds")
        return Told(Answer.SKIP if failure.law == "model" else Answer.BAD, failure.sentence, failure.law)

    def unfit(self, whole: Whole) -> frozenset[str]:
        return frozenset()


def save(failure: Failure, folder: Path, registry: Registry, nodes: int = 14) -> str:
    """Reduce a failure and write a model, its text and how to run it; a line that says where."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{failure.seed}-{re.sub('[^a-z0-9]+', '-', failure.blamed.lower())[:40].strip('-') or 'together'}"
    model = wild_model(failure.seed, nodes=nodes)
    pipeline = _pipeline(failure, registry)
    place.mkdir(exist_ok=True)
    (place / "whole.onnx").write_bytes(model.SerializeToString())
    why = ""
    small: ModelProto = model
    try:
        found = reduce(
            from_proto(model), Job(Pipeline()), folder=place / "part", most=_PARTS,
            judge=lambda worker: ByLaw(pipeline), feeds=feeds_of(model, special=True),
        )  # fmt: skip
        if found.outcome == "reduced":
            small = onnx.load(str(place / "part" / "repro.onnx"))
        why = found.why
    except (GraphoptError, LawBroken, WorkerFailure) as error:
        why = f"not reduced: {error}"
    (place / "case.txt").write_text(_text(failure, small, why), encoding="utf-8")
    return f"seed {failure.seed}: saved in {place} ({len(small.graph.node)} nodes)"


def _pipeline(failure: Failure, registry: Registry) -> Pipeline:
    from graphopt.pipeline import Recipe

    return (
        Recipe.load("default").pipeline if failure.pipeline == "default" else Pipeline.parse(failure.pipeline, registry)
    )


def _text(failure: Failure, model: ModelProto, why: str) -> str:
    """What a unit test needs."""
    shown: Any = onnx.printer.to_text(model)
    return (
        f"seed: {failure.seed}\npipeline: {failure.pipeline}\nlaw: {failure.law}\nblamed: {failure.blamed}\n"
        f"sentence: {failure.sentence}\nreduced: {why}\n\n"
        f'before = model("""\n{shown}\n""")\napply(Pipeline.parse({failure.pipeline!r}), before)\n'
    )


__all__ = ["ByLaw", "save"]
