"""Wild models are what they promise to be, and the driver finds what a faulty pass does to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from onnx import ModelProto, NodeProto

from graphopt import Context, Contract, Graph, Pass, Pipeline
from graphopt.pipeline import Registry
from graphopt.testing import fuzz, model
from graphopt.testing.feeds import feeds_for
from graphopt.testing.fuzz.__main__ import main
from graphopt.testing.running import outputs_of
from graphopt.testing.validity import invalid
from graphopt.testing.wild import wild_model
from graphopt.testing.wild.models import FORMS

SEEDS = range(0, 24 * FORMS, FORMS)


@pytest.fixture(scope="module")
def models() -> list[ModelProto]:
    return [wild_model(seed) for seed in SEEDS]


def nodes(every: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in every:
        yield node
        for attribute in node.attribute:
            yield from nodes(attribute.g.node)


def test_they_are_valid_and_run(models: list[ModelProto]) -> None:
    for proto in models:
        assert not invalid(proto.SerializeToString())
        outputs_of(proto.SerializeToString(), feeds_for(proto))


def test_a_seed_gives_one_model(models: list[ModelProto]) -> None:
    assert wild_model(3 * FORMS).SerializeToString() == models[3].SerializeToString()
    assert len({one.SerializeToString() for one in models}) == len(models)


def test_they_are_of_many_kinds(models: list[ModelProto]) -> None:
    found = {node.op_type for proto in models for node in nodes(proto.graph.node)}
    assert len(found) >= 50
    assert len({proto.opset_import[0].version for proto in models}) >= 4


@dataclass(frozen=True)
class Faulty(Pass):
    """Takes every Add for a Sub."""

    name = "faulty"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in graph.nodes:
            if node.is_op("Add") and ctx.rewrite("fault", node):
                node.op = "Sub"


ADD = model("g (float[N] x) => (float[N] y) { a = Add(x, k)  y = Neg(a) }", k=np.float32(1))


def test_a_fault_is_found_and_blamed() -> None:
    exact = Registry.load().get("identities")()
    pipeline = Pipeline((exact, Faulty()))
    changed, failure = fuzz.held(0, ADD, "both", pipeline)
    assert changed and failure is not None
    assert failure.law == "outputs" and failure.blamed.startswith("faulty")
    assert str(failure).startswith("seed 0: outputs: faulty")


def test_a_pass_that_holds() -> None:
    assert fuzz.held(0, ADD, "", Pipeline((Registry.load().get("identities")(),))) == (False, None)


def test_pipelines_of_a_seed_are_always_the_same() -> None:
    registry = Registry.load()
    for kind in fuzz.KINDS:
        words = [[word for word, _ in fuzz.pipelines(kind, 5, registry)] for _ in range(2)]
        assert words[0] == words[1] and words[0]
    (pair,) = fuzz.pipelines("identities,dead-nodes", 5, registry)
    assert pair[0] == "identities,dead-nodes"


def test_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0:2", "--pipeline", "identities,dead-nodes"]) == 0
    assert "graphs             2, seeds 0 to 1" in capsys.readouterr().out
    assert main(["--seeds", "0:2", "--minutes", "0"]) == 0
