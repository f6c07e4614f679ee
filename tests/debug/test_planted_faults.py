"""Real models, and passes that are wrong in one of their rewrites: bisection names that one each time.

The folder that GRAPHOPT_CORPUS names has `models/*.onnx`; without it these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import faulty_passes as faulty
import pytest

from graphopt.contract import Contract
from graphopt.debug.bisect import Answer
from graphopt.pipeline.pipeline import Pipeline
from graphopt.session.bisecting import bisect
from graphopt.session.job import Job
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

EVALUATIONS = 12

# A pass, a model, and which of the pass's rewrites there is wrong: a part of the way through them, or a node.
PLANTED: list[tuple[Any, str, float | str]] = [
    (faulty.SubtractionSwapped, "ppocrv4_rec", 0.0),
    (faulty.SubtractionSwapped, "bert_squad_keras2onnx_opset11", 1.0),
    (faulty.NegativeDropped, "resnet_4b_cifar10", 0.0),
    (faulty.NegativeDropped, "resnet_4b_cifar10", 0.5),
    (faulty.NegativeDropped, "resnet_4b_cifar10", 1.0),
    (faulty.NegativeDropped, "silero_vad", 0.5),
    (faulty.BetaDoubled, "resnet_4b_cifar10", 0.0),
    (faulty.BetaDoubled, "resnet_4b_cifar10", 1.0),
    (faulty.BiasDropped, "resnet_4b_cifar10", 0.0),
    (faulty.BiasDropped, "resnet_4b_cifar10", 0.5),
    (faulty.BiasDropped, "resnet_4b_cifar10", 1.0),
    (faulty.PermutationWrong, "vit_cifar10_pgd_2_3_16", 0.0),
    (faulty.PermutationWrong, "vit_cifar10_pgd_2_3_16", 0.5),
    (faulty.PermutationWrong, "vit_cifar10_pgd_2_3_16", 1.0),
    (faulty.AxisWrong, "vit_cifar10_pgd_2_3_16", 0.0),
    (faulty.AxisWrong, "vit_cifar10_pgd_2_3_16", 1.0),
    (faulty.ShapeStale, "basic_pitch_nmp", 0.0),
    (faulty.ShapeStale, "basic_pitch_nmp", 0.5),
    (faulty.ZeroPointOffByOne, "mobilenet_v1_025_128_quant_qdq_tflite", 0.0),
    (faulty.ZeroPointOffByOne, "mobilenet_v1_025_128_quant_qdq_tflite", 0.5),
    (faulty.ScaleWrong, "mobilenet_v1_025_128_quant_qdq_tflite", 0.5),
    (faulty.ScaleWrong, "mobilenet_v1_025_128_quant_qdq_tflite", 1.0),
    (faulty.BranchWrong, "silero_vad", 0.125),
    (faulty.BranchWrong, "silero_vad", 0.625),
    (faulty.BoundDropped, "efficientnet_lite0_op13_bn", 0.5),
    (faulty.MeanForgotten, "efficientnet_lite0_op13_bn", 0.0),
    (faulty.KeptAxisWrong, "bert_squad_keras2onnx_opset11", 0.5),
    (faulty.FoldPermuted, "efficientnet_lite0_op13_bn", 0.5),
    (faulty.AttributeIgnored, "scan_1", "ElementTimes16595.body/Slice16547"),
    (faulty.AttributeIgnored, "scan_1", "ElementTimes16623.body/Slice16529"),
    (faulty.ValuesIgnored, "vit_cifar10_pgd_2_3_16", 0.32),
    (faulty.ValuesIgnored, "silero_vad", 0.0),
    (faulty.StepWrong, "resnet_4b_cifar10", 0.0),
    (faulty.StepWrong, "resnet_4b_cifar10", 1.0),
]


def test_there_are_enough_of_them() -> None:
    assert len({planted for planted, _, _ in PLANTED}) >= 12
    assert len({name for _, name, _ in PLANTED}) >= 8


def _source(name: str) -> Source:
    assert _FOLDER is not None
    path = Path(_FOLDER) / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}.onnx")
    return read(path)


def _pipeline(planted: Any, at: str) -> Pipeline:
    """The faulty pass among others that have something to do."""
    merging = ",common-subexpressions" if planted is not faulty.AttributeIgnored else ""
    before = Pipeline.parse(f"identities,dead-nodes{merging}").steps
    storing = "duplicate-initializers," if planted is not faulty.ValuesIgnored else ""
    after = Pipeline.parse(f"{storing}dead-nodes,unused-initializers").steps
    return Pipeline((*before, planted(at=at), *after))


def _place(source: Source, planted: Any, part: float | str) -> str:
    """Where the wrong rewrite is."""
    if isinstance(part, str):
        return part
    result = run(source, Job(_pipeline(planted, ""), validate="none"))
    mine = [one for one in result.report.remarks if one.kind == "applied" and one.pass_name == planted.name]
    one = mine[round(part * (len(mine) - 1))]
    return f"{one.scope}/{one.node}"


@pytest.mark.parametrize(
    ("planted", "name", "part"), PLANTED, ids=[f"{one.name}-{name}-{part}" for one, name, part in PLANTED]
)
def test_the_one_wrong_rewrite_is_named(planted: Any, name: str, part: float | str) -> None:
    source = _source(name)
    at = _place(source, planted, part)
    budgets = parse_budgets(["sqnr_db>=20"]) if planted.contract is Contract.LOSSY else ()
    found = bisect(source, Job(_pipeline(planted, at), budgets=budgets))
    guilty = found.guilty
    assert guilty is not None, found.why
    assert (guilty.pass_name, f"{guilty.scope}/{guilty.node}") == (planted.name, at)
    assert found.evaluations <= EVALUATIONS
    assert found.rest is Answer.GOOD
    assert found.after or found.before
    assert found.go_on.endswith(f"--disable {planted.name}:{guilty.number}")


@pytest.mark.parametrize(
    ("planted", "name", "contract"),
    sorted({(one, name, one.contract) for one, name, _ in PLANTED}, key=lambda each: (each[0].name, each[1])),
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_without_the_fault_the_pass_holds(planted: Any, name: str, contract: Contract) -> None:
    source = _source(name)
    budgets = parse_budgets(["sqnr_db>=20"]) if contract is Contract.LOSSY else ()
    verdict = run(source, Job(_pipeline(planted, ""), budgets=budgets)).verdict
    assert verdict.passed, verdict.sentence()
