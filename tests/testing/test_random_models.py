"""Random models: the same for the same seed, valid, runnable, and full of what they are for."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from graphopt.testing import random_model
from graphopt.testing.feeds import feeds_for
from graphopt.testing.running import outputs_of

SEEDS = range(60)


@pytest.fixture(scope="module")
def models() -> list[ModelProto]:
    return [random_model(seed) for seed in SEEDS]


def graphs(proto: ModelProto) -> Iterator[GraphProto]:
    pending = [proto.graph]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            pending.extend(one.g for one in node.attribute if one.type == AttributeProto.GRAPH)


def nodes(proto: ModelProto) -> list[NodeProto]:
    return [node for graph in graphs(proto) for node in graph.node]


def read(proto: ModelProto) -> set[str]:
    names = {one.name for graph in graphs(proto) for one in graph.output}
    return names | {name for node in nodes(proto) for name in node.input}


def test_the_same_seed_is_the_same_model(models: list[ModelProto]) -> None:
    for seed, proto in zip(SEEDS, models, strict=True):
        assert random_model(seed).SerializeToString() == proto.SerializeToString()
    assert len({proto.SerializeToString() for proto in models}) == len(models)


def test_every_model_is_valid_and_runs(models: list[ModelProto]) -> None:
    for proto in models:
        data = proto.SerializeToString()
        onnx.checker.check_model(data, full_check=True)
        feeds = feeds_for(proto)
        assert len(outputs_of(data, feeds)) == len(feeds) >= 3


def test_they_hold_what_passes_must_see(models: list[ModelProto]) -> None:
    """Each construct stands in at least one model in twenty."""
    counts = {
        "dead nodes": sum(any(not set(n.output) & read(m) for n in m.graph.node) for m in models),
        "unread outputs": sum(any(0 < len(set(n.output) - read(m)) < len(n.output) for n in nodes(m)) for m in models),
        "unread initializers": sum(any(one.name not in read(m) for one in m.graph.initializer) for m in models),
        "initializers as outputs": sum(
            bool({one.name for one in m.graph.initializer} & {one.name for one in m.graph.output}) for m in models
        ),
        "overridable inputs": sum(
            bool({one.name for one in m.graph.initializer} & {one.name for one in m.graph.input}) for m in models
        ),
        "left out slots": sum(any("" in n.input for n in nodes(m)) for m in models),
        "captures": sum(_captures(m) for m in models),
        "bodies in bodies": sum(any(_depth(n) > 1 for n in m.graph.node) for m in models),
        "functions": sum(bool(m.functions) for m in models),
        "declared types": sum(bool(m.graph.value_info) for m in models),
        "named nodes": sum(any(n.name for n in m.graph.node) for m in models),
        "shared weights": sum(_shared(m) for m in models),
        "body weights": sum(any(g.initializer for g in graphs(m) if g is not m.graph) for m in models),
    }
    for op in ("Identity", "Dropout", "Constant", "If", "Loop", "TopK", "Split", "Conv", "Gemm", "MatMul"):
        counts[op] = sum(any(n.op_type == op for n in nodes(m)) for m in models)
    rare = {what: count for what, count in counts.items() if count < len(models) / 20}
    assert not rare


def _captures(proto: ModelProto) -> bool:
    outer = {name for node in proto.graph.node for name in node.output}
    return any(set(node.input) & outer for graph in graphs(proto) if graph is not proto.graph for node in graph.node)


def _depth(node: NodeProto) -> int:
    bodies = [one.g for one in node.attribute if one.type == AttributeProto.GRAPH]
    return 1 + max((_depth(inner) for body in bodies for inner in body.node), default=0) if bodies else 0


def _shared(proto: ModelProto) -> bool:
    reads = [name for node in nodes(proto) for name in node.input]
    return any(reads.count(one.name) > 1 for one in proto.graph.initializer)


def test_sizes_and_switches() -> None:
    assert len(random_model(3, nodes=60).graph.node) >= 60
    for seed in range(30):
        plain = random_model(seed, bodies=False, functions=False)
        assert not plain.functions
        assert {n.op_type for n in plain.graph.node}.isdisjoint(("If", "Loop"))
