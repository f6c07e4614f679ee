"""A failure is reduced to what it needs, and a second opinion says when there was none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from graphopt import Context, Contract, Graph, Pass, Pipeline
from graphopt.pipeline import Registry
from graphopt.testing import model
from graphopt.testing.fuzz import saving
from graphopt.testing.fuzz.ground import Ground
from graphopt.testing.fuzz.holding import Failure, tried
from graphopt.testing.fuzz.opinion import alike, second_opinion

LONG = """g (float[N, 4] x, float[N, 4] z) => (float[N, 4] y, float[N, 4] o) {
    a = Neg(x)  b = Relu(a)  c = Add(b, z)  d = Tanh(c)  y = Sigmoid(d)  o = Neg(z)
}"""


@dataclass(frozen=True)
class Swapped(Pass):
    """Takes every Add for a Sub."""

    name = "swapped"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in graph.nodes:
            if node.is_op("Add") and ctx.rewrite("fault", node):
                node.op = "Sub"


def test_a_failure_becomes_a_small_model_and_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, before = Pipeline((Swapped(),)), model(LONG)
    made, failure = tried(Ground(3, before), "swapped", pipeline)
    assert made is not None and failure is not None and failure.law == "outputs"
    monkeypatch.setattr(saving, "wild_model", lambda seed, nodes: before)
    monkeypatch.setattr(saving, "_pipeline", lambda failure, registry: pipeline)
    line = saving.save(failure, tmp_path / "found", Registry.load())
    assert line == f"seed 3: saved in {tmp_path / 'found' / '3-swapped'} (1 nodes)"
    small = onnx.load(str(tmp_path / "found" / "3-swapped" / "part" / "repro.onnx"))
    assert [node.op_type for node in small.graph.node] == ["Add"]
    text = (tmp_path / "found" / "3-swapped" / "case.txt").read_text()
    assert "seed: 3\npipeline: swapped\nlaw: outputs" in text and "Add (" in text
    assert "apply(Pipeline.parse('swapped'), before)" in text


def test_what_cannot_be_reduced_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model(LONG)
    monkeypatch.setattr(saving, "wild_model", lambda seed, nodes: before)
    line = saving.save(Failure(4, "dead-nodes", "outputs", "", "?"), tmp_path, Registry.load())
    assert line.endswith("(6 nodes)")
    assert (tmp_path / "4-together" / "whole.onnx").read_bytes() == before.SerializeToString()


def feeds() -> dict[str, np.ndarray]:
    return {"x": np.ones((2, 4), np.float32), "z": np.full((2, 4), 2, np.float32)}


def test_two_evaluators_agree_on_what_is_plain() -> None:
    assert second_opinion(model(LONG), feeds()).agrees


def test_an_operator_about_which_they_do_not_agree_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.testing.fuzz import opinion

    class Other(opinion.ReferenceEvaluator):  # type: ignore[misc]
        def __init__(self, proto: ModelProto) -> None:
            changed = ModelProto.FromString(proto.SerializeToString())
            changed.graph.node[3].op_type = "Softsign"
            super().__init__(changed)

    monkeypatch.setattr(opinion, "ReferenceEvaluator", Other)
    found = second_opinion(model(LONG), feeds())
    assert not found.agrees and found.operator == "Tanh"


def test_what_one_of_them_cannot_run_tells_nothing() -> None:
    unknown = model("""<ir_version: 10, opset_import: ["": 21, "acme": 1]> g (float[4] x) => (float[4] y)
                       { y = acme.Odd(x) }""")
    assert not second_opinion(unknown, {"x": np.ones(4, np.float32)}).told


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (np.float32([1, 2]), np.float32([1, 2.0001]), True),
        (np.float32([1, 2]), np.float32([1, 2.1]), False),
        (np.float32([np.nan, np.inf]), np.float32([np.nan, np.inf]), True),
        (np.float32([np.nan]), np.float32([0]), False),
        (np.int64([1]), np.int64([2]), False),
        (np.float32([1]), np.float64([1]), False),
        ([np.float32([1])], [np.float32([1])], True),
        ([np.float32([1])], [], False),
        (np.array(["a"], object), np.array(["a"]), True),
    ],
)
def test_what_is_alike(one: object, other: object, same: bool) -> None:
    assert alike(one, other) is same


def test_what_gives_one_thing_and_then_another_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import Counter

    from graphopt.testing.fuzz import campaign, opinion
    from graphopt.testing.fuzz.tally import UNSURE, Tally

    ground, counts = Ground(3, model(LONG)), Counter[str]()
    failure = Failure(3, "swapped", "outputs", "swapped", "it differs")
    assert campaign._judged(failure, ground, counts) == failure
    turns = iter(range(100))
    monkeypatch.setattr(opinion, "outputs_of", lambda *_: [{"y": np.full(2, next(turns))}])
    unsure = campaign._judged(failure, ground, counts)
    assert unsure.law == UNSURE and counts["unsure failures, not twice the same"] == 1
    tally = Tally(3)
    assert tally.add({}, [unsure.as_dict()]) == [unsure] and not tally.failures
