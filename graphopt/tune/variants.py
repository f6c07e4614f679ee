"""One pipeline run with some of its levers: the models that a planner chooses from, node by node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from onnx import ModelProto

from graphopt.ir import decode, encode
from graphopt.pipeline import manager
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.services import Services
from graphopt.storage.source import Source
from graphopt.storage.wire import join
from graphopt.tune.levers import Subset, with_levers


@dataclass(frozen=True)
class Taken:
    """One rewrite of a lever: the step of the whole pipeline, what the rewrite was announced on, and (of no
    matter when two are compared) the names of what it put in place."""

    step: int
    scope: str
    node: str
    made: tuple[str, ...] = field(default=(), compare=False)

    @property
    def key(self) -> tuple[int, str, str]:
        """What tells it from other rewrites, in whichever variant."""
        return self.step, self.scope, self.node


@dataclass(frozen=True)
class Variant:
    """What a pipeline with a subset of its levers makes of a model. `data` is the whole model."""

    subset: Subset
    data: bytes
    taken: tuple[Taken, ...]
    outcome: manager.Outcome

    @property
    def proto(self) -> ModelProto:
        """The model, parsed anew."""
        made: ModelProto = ModelProto.FromString(self.data)
        return made


@dataclass(frozen=True)
class Workshop:
    """Where pipelines run: the model, and what its passes may ask for."""

    source: Source
    services: Callable[[], Services]

    def run(self, pipeline: Pipeline) -> tuple[manager.Outcome, bytes]:
        """Run a pipeline; the outcome, and the whole model that it makes. Raises GraphoptError subclasses."""
        outcome = manager.run(lambda: decode(self.source.proto, self.source.store), pipeline, services=self.services())
        encoded = encode(outcome.graph)
        return outcome, b"".join(join(encoded.proto, encoded.store))

    def variant(self, pipeline: Pipeline, subset: Subset) -> Variant:
        """Run a pipeline with a subset of its levers. Raises GraphoptError subclasses."""
        some, steps = with_levers(pipeline, subset)
        outcome, data = self.run(some)
        taken = tuple(
            dict.fromkeys(
                Taken(steps[one.step], one.scope, one.node, one.after)
                for one in outcome.remarks
                if one.kind == "applied" and steps[one.step] in subset
            )
        )
        return Variant(subset, data, taken, outcome)
