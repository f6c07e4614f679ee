"""Real models, made by others: what `clean` promises on all of them, and that lossy recipes say a figure.

The folder that GRAPHOPT_CORPUS names has `models/*.onnx`; without it these tests are skipped.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import graphopt
from graphopt.contract import Contract
from graphopt.validation.verdict import Outcome

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")

MODELS = (
    "basic_pitch_nmp",
    "bert_squad_keras2onnx_opset11",
    "brainmaze_seizure_A",
    "efficientnet_lite0_op13_bn",
    "magika_v3_3",
    "mnist_cntk",
    "mobilenet_v1_025_128_quant_qdq_tflite",
    "paraphrase_minilm_l3_fp32",
    "ppocrv4_rec",
    "resnet_4b_cifar10",
    "scan_1",
    "silero_vad",
    "tashkeel_bilstm_int8",
    "tiny_random_gpt2_fp32_past",
    "tract_lgbm_classifier",
    "vit_cifar10_pgd_2_3_16",
)
CHANGED = ("scan_1", "silero_vad")  # those in which `clean` finds something
QUICK = ("basic_pitch_nmp", "brainmaze_seizure_A", "resnet_4b_cifar10", "silero_vad")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models"),
]


def _model(name: str) -> Path:
    assert _FOLDER is not None
    path = Path(_FOLDER) / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}.onnx")
    return path


@pytest.mark.parametrize("name", MODELS)
def test_clean_keeps_every_bit_and_has_nothing_left_to_do(name: str, tmp_path: Path) -> None:
    path, once, twice = _model(name), tmp_path / "once.onnx", tmp_path / "twice.onnx"
    first = graphopt.optimize(path, recipe="clean", output=once)
    before, after = first.report.before, first.report.after
    assert after.facts.nodes <= before.facts.nodes
    assert after.bytes <= before.bytes
    assert first.report.skipped == []
    if first.report.changed:
        assert first.verdict.passed, first.verdict.sentence()
        assert all(one.differing == 0 for one in first.verdict.outputs if not one.optimized)
    else:
        assert first.verdict.outcome is Outcome.NOT_VALIDATED
        assert once.read_bytes() == path.read_bytes()
    assert first.report.changed == (name in CHANGED)

    second = graphopt.optimize(once, recipe="clean", output=twice)
    assert not second.report.changed
    assert twice.read_bytes() == once.read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_generated_feeds_are_accepted_and_a_model_equals_itself(name: str) -> None:
    path = _model(name)
    verdict = graphopt.validate(path, path, contract=Contract.EXACT)
    assert verdict.outcome is Outcome.EQUIVALENT, verdict.sentence()
    assert verdict.feeds is not None and verdict.feeds.generated and verdict.feeds.count >= 3
    assert all(one.elements and one.differing == 0 for one in verdict.outputs)


@pytest.mark.parametrize("recipe", ["int8-weights", "prune-50"])
@pytest.mark.parametrize("name", QUICK)
def test_a_lossy_recipe_keeps_its_budget_or_says_by_how_much_not(name: str, recipe: str, tmp_path: Path) -> None:
    path, out = _model(name), tmp_path / "out.onnx"
    result = graphopt.optimize(path, recipe=recipe, output=out)
    sentence = result.verdict.sentence()
    assert result.exit_code in (0, 1), sentence
    assert out.exists() == (result.exit_code == 0)
    if not any(row.applied for row in result.report.passes if row.contract is Contract.LOSSY):
        assert any(one.kind == "missed" and one.why for one in result.report.remarks)
        return
    assert result.verdict.contract is Contract.LOSSY
    assert re.search(r"sqnr_db\S* (kept: |reached )-?\d", sentence), sentence
    if result.exit_code == 0:
        assert graphopt.validate(path, out, budget="sqnr_db>=5").passed


@pytest.mark.parametrize(
    ("name", "recipe"), [("scan_1", "clean"), ("silero_vad", "clean"), ("brainmaze_seizure_A", "int8-weights")]
)
def test_the_bytes_do_not_depend_on_the_hash_seed(name: str, recipe: str, tmp_path: Path) -> None:
    path = _model(name)
    script = (
        "import graphopt, sys; graphopt.optimize(sys.argv[1], recipe=sys.argv[2], validate='none', output=sys.argv[3])"
    )
    written = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.onnx"
        subprocess.run(
            [sys.executable, "-c", script, str(path), recipe, str(out)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
        written.append(out.read_bytes())
    assert written[0] == written[1]
    assert written[0] != path.read_bytes()
