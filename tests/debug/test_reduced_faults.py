"""Real models, and passes that are wrong in one of their rewrites: five nodes or fewer are left each time.

The folder that GRAPHOPT_CORPUS names has `models/*.onnx`; without it these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import faulty_passes as faulty
import pytest

from graphopt.contract import Contract
from graphopt.ir import Node
from graphopt.pipeline.pipeline import Pipeline
from graphopt.session.job import Job
from graphopt.session.reducing import reduce
from graphopt.session.run import run
from graphopt.storage.read import read
from graphopt.storage.source import Source
from graphopt.validation.budget import parse_budgets

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.slow,
    pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models"),
]

MOST = 5

# A pass, a model, and which of the pass's rewrites there is wrong: a part of the way through them, or a node.
PLANTED: list[tuple[Any, str, float | str]] = [
    (faulty.SubtractionSwapped, "ppocrv4_rec", 0.0),
    (faulty.NegativeDropped, "resnet_4b_cifar10", 0.5),
    (faulty.NegativeDropped, "silero_vad", 0.5),
    (faulty.BetaDoubled, "resnet_4b_cifar10", 1.0),
    (faulty.BiasDropped, "resnet_4b_cifar10", 0.5),
    (faulty.PermutationWrong, "vit_cifar10_pgd_2_3_16", 0.5),
    (faulty.AxisWrong, "vit_cifar10_pgd_2_3_16", 1.0),
    (faulty.ShapeStale, "basic_pitch_nmp", 0.5),
    (faulty.ZeroPointOffByOne, "mobilenet_v1_025_128_quant_qdq_tflite", 0.5),
    (faulty.ScaleWrong, "mobilenet_v1_025_128_quant_qdq_tflite", 1.0),
    (faulty.BranchWrong, "silero_vad", 0.125),
    (faulty.BoundDropped, "efficientnet_lite0_op13_bn", 0.5),
    (faulty.MeanForgotten, "efficientnet_lite0_op13_bn", 0.0),
    (faulty.KeptAxisWrong, "bert_squad_keras2onnx_opset11", 0.5),
    (faulty.FoldPermuted, "efficientnet_lite0_op13_bn", 0.5),
    (faulty.AttributeIgnored, "scan_1", "Slice16547"),
    (faulty.AttributeIgnored, "scan_1", "Slice16529"),
    (faulty.ValuesIgnored, "vit_cifar10_pgd_2_3_16", 0.32),
    (faulty.StepWrong, "resnet_4b_cifar10", 1.0),
]


def test_there_are_enough_of_them() -> None:
    assert len({planted for planted, _, _ in PLANTED}) >= 12
    assert len({name for _, name, _ in PLANTED}) >= 8


def _pipeline(planted: Any, at: str) -> Pipeline:
    before = Pipeline.parse("identities,dead-nodes").steps
    after = Pipeline.parse("dead-nodes,unused-initializers").steps
    return Pipeline((*before, planted(at=at), *after))


def _place(source: Source, planted: Any, part: float) -> str:
    whole = run(source, Job(_pipeline(planted, ""), validate="none"))
    mine = [one for one in whole.report.remarks if one.kind == "applied" and one.pass_name == planted.name]
    return mine[round(part * (len(mine) - 1))].node


@pytest.mark.parametrize(
    ("planted", "name", "part"), PLANTED, ids=[f"{one.name}-{name}-{part}" for one, name, part in PLANTED]
)
def test_few_nodes_are_left(planted: Any, name: str, part: float | str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is wrong is wrong at a node of that name, in whatever part of the model it is found.
    monkeypatch.setattr(faulty, "place", lambda one: one.label if isinstance(one, Node) else one.name)
    assert _FOLDER is not None
    path = Path(_FOLDER) / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}.onnx")
    source = read(path)
    at = part if isinstance(part, str) else _place(source, planted, part)
    budgets = parse_budgets(["sqnr_db>=20"]) if planted.contract is Contract.LOSSY else ()
    found = reduce(source, Job(_pipeline(planted, at), budgets=budgets))
    assert found.outcome == "reduced"
    assert found.after <= MOST, "\n".join(found.text)
    assert found.smallest
