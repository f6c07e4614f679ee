"""A random model with everything that pipelines are held to: its feeds, and what it makes of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from graphopt.contract import Contract
from graphopt.errors import GraphoptError
from graphopt.pipeline import Pipeline
from graphopt.testing.equality import draws
from graphopt.testing.feeds import SPECIAL, Feeds, feeds_at, feeds_for, sizes_of
from graphopt.testing.running import USUAL, Results, outputs_of
from graphopt.testing.trial import Trial
from graphopt.validation.signature import required_inputs


@dataclass
class Ground:
    """The model of a seed. What costs a run of it is made once, when first asked for."""

    seed: int
    model: ModelProto
    more: bool = True  # whether it is run at odd sizes too, of which onnxruntime's process dies at times
    given: list[Feeds] | None = None
    _memory: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def data(self) -> bytes:
        made: bytes = self.model.SerializeToString()
        return made

    @functools.cached_property
    def feeds(self) -> list[Feeds]:
        """The usual feeds, that of special numbers among them, and more where the model runs on them; or what
        was given."""
        if self.given is not None:
            return self.given
        return feeds_of(self.model, special=True) if self.more else feeds_for(self.model)

    @functools.cached_property
    def expected(self) -> Results:
        return outputs_of(self.data, self.feeds)

    @functools.cached_property
    def usual(self) -> bool:
        """Whether it runs when onnxruntime optimizes it, of which its process dies at times."""
        if not self.more:
            return False
        try:
            outputs_of(self.data, self.feeds[:2], USUAL)
        except GraphoptError:
            return False
        return True

    @functools.cached_property
    def halves(self) -> bool:
        return in_halves(self.model)

    @functools.cached_property
    def random(self) -> bool:
        """Whether it draws numbers that no seed fixes."""
        return draws(self.model)

    def run(self) -> None:
        """Run the model in all the ways that pipelines are compared with."""
        assert self.expected
        self._memory["usual"] = self.usual

    def trial(self, pipeline: Pipeline) -> Trial:
        """The pipeline on this model. Infinities and NaN are for EXACT ones; overridden defaults for those
        that leave defaults alone."""
        fits = pipeline.contract is Contract.EXACT
        kept = [at for at in range(len(self.feeds)) if fits or at != SPECIAL]
        if any("defaults" in one.changes for one in pipeline.passes()):
            required = {one.name for one in required_inputs(self.model)}
            kept = [at for at in kept if required.issuperset(self.feeds[at])]
        feeds, expected = [self.feeds[at] for at in kept], [self.expected[at] for at in kept]
        return Trial(pipeline, self.model, self.data, feeds, expected, self._memory)


def feeds_of(model: ModelProto, special: bool) -> list[Feeds]:
    """The usual feeds, with or without the one of special numbers, and more where the model runs on
    them: all symbolic dims 1, all the same, and each in turn 0."""
    usual = [one for at, one in enumerate(feeds_for(model)) if special or at != SPECIAL]
    sizes = sizes_of(model, 0)
    more = [dict.fromkeys(sizes, 1), dict.fromkeys(sizes, 3), *({**sizes, symbol: 0} for symbol in sizes)]
    data, found = model.SerializeToString(), list[Feeds]()
    for one in more if sizes else ():
        feeds = feeds_at(model, one)
        try:
            outputs_of(data, [feeds])
        except GraphoptError:
            continue
        found.append(feeds)
    return [*usual, *found]


def in_halves(model: ModelProto) -> bool:
    """Whether a model may compute in float16, which onnxruntime does in float32 as far as it can: where it
    rounds on the way depends on which operators stand side by side."""
    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return any(one.type.tensor_type.elem_type in halves for one in values)


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """All nodes of a model, those of bodies and functions too."""
    yield from _nodes(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _inner(node)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield from _inner(node)


def _inner(node: NodeProto) -> Iterator[NodeProto]:
    yield node
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from _nodes(graph)
