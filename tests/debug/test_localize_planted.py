"""Faults planted in the middle of real models: the first value that is wrong is named, and nothing else.

The folder that GRAPHOPT_CORPUS names has `models/*.onnx`; without it these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from planted import Fault, attribute, dropped, freshly_named, in_bodies, negated_weight, other_operator, swapped

import graphopt
from graphopt.debug.localize import localize as search
from graphopt.debug.taps import Model
from graphopt.report.saved import save
from graphopt.runtime.client import Worker
from graphopt.session.comparing import localize
from graphopt.storage.read import read
from graphopt.validation.runs import OFF

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models"),
]

CASES: dict[str, tuple[str, Fault]] = {
    "one weight of a convolution negated": ("efficientnet_lite0_op13_bn", negated_weight("Conv")),
    "a Clip left out": ("efficientnet_lite0_op13_bn", dropped("Clip", rewired=True, share=0.7)),
    "a residual connection lost": ("efficientnet_lite0_op13_bn", dropped("Add", rewired=True)),
    "a bias of a normalization negated": (
        "efficientnet_lite0_op13_bn",
        negated_weight("BatchNormalization", slot=2, whole=True),
    ),
    "one weight in a Constant negated": ("ppocrv4_rec", negated_weight("Conv")),
    "a Sigmoid replaced": ("ppocrv4_rec", dropped("Sigmoid")),
    "operands swapped": ("ppocrv4_rec", swapped("Sub")),
    "a Softmax over the wrong axis": ("ppocrv4_rec", attribute("Softmax", "axis", lambda _: 1)),
    "a Relu left out": ("ppocrv4_rec", dropped("Relu", rewired=True)),
    "an attention without Softmax": ("bert_squad_keras2onnx_opset11", dropped("Softmax")),
    "an attention over the wrong axis": ("bert_squad_keras2onnx_opset11", attribute("Softmax", "axis", lambda _: 1)),
    "one weight of a MatMul negated": ("bert_squad_keras2onnx_opset11", negated_weight("MatMul")),
    "a Mul mistaken for an Add": ("bert_squad_keras2onnx_opset11", other_operator("Mul", "Add")),
    "a Relu between residual blocks left out": ("resnet_4b_cifar10", dropped("Relu", rewired=True)),
    "a matrix negated": ("resnet_4b_cifar10", negated_weight("Gemm", whole=True)),
    "one weight of a large kernel negated": ("basic_pitch_nmp", negated_weight("Conv")),
    "a vision transformer without Softmax": ("vit_cifar10_pgd_2_3_16", dropped("Softmax")),
    "a fused activation replaced": ("tiny_random_gpt2_fp32_past", dropped("FastGelu")),
    "Max mistaken for Min": ("magika_v3_3", other_operator("Max", "Min")),
    "a recurrence with a negated matrix": ("brainmaze_seizure_A", negated_weight("LSTM", slot=2, whole=True)),
    "a quantized model that pools otherwise": (
        "mobilenet_v1_025_128_quant_qdq_tflite",
        other_operator("AveragePool", "MaxPool"),
    ),
    "a Tanh replaced": ("tashkeel_bilstm_int8", dropped("Tanh")),
    "digits without Relu": ("mnist_cntk", dropped("Relu")),
}


def _model(name: str) -> Path:
    assert _FOLDER is not None
    path = Path(_FOLDER) / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}.onnx")
    return path


@pytest.mark.parametrize("what", CASES)
def test_the_exact_first_value_is_named(what: str, tmp_path: Path) -> None:
    name, fault = CASES[what]
    broken, value = fault(onnx.load(_model(name)))
    onnx.save(broken, tmp_path / "broken.onnx")
    found = localize(_model(name), tmp_path / "broken.onnx")
    assert found.first is not None
    assert found.first.value == value
    assert found.first.reading.is_born


@pytest.mark.parametrize(
    ("name", "fault", "around"),
    [
        ("silero_vad", in_bodies("If", "Relu", "Identity", which=2), "then_branch"),
        ("scan_1", in_bodies("Scan", "Tanh", "Sigmoid", holders=slice(1, 2)), "body"),
    ],
)
def test_the_exact_value_in_a_body_is_named(name: str, fault: Fault, around: str, tmp_path: Path) -> None:
    broken, value = fault(onnx.load(_model(name)))
    onnx.save(broken, tmp_path / "broken.onnx")
    found = localize(_model(name), tmp_path / "broken.onnx")
    assert found.first is not None
    assert found.first.value == value
    (inside,) = found.first.within
    assert inside.endswith(around)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("resnet_4b_cifar10", negated_weight("Gemm", whole=True)),
        ("vit_cifar10_pgd_2_3_16", dropped("Softmax")),
        ("magika_v3_3", other_operator("Max", "Min")),
    ],
)
def test_it_is_named_when_nothing_else_is_called_the_same(name: str, fault: Fault, tmp_path: Path) -> None:
    broken, value = fault(onnx.load(_model(name)))
    onnx.save(freshly_named(broken), tmp_path / "broken.onnx")
    found = localize(_model(name), tmp_path / "broken.onnx")
    assert found.first is not None
    assert found.first.value == value


@pytest.mark.parametrize("name", ["resnet_4b_cifar10", "vit_cifar10_pgd_2_3_16", "magika_v3_3"])
@pytest.mark.parametrize("recorded", [True, False])
def test_what_the_default_recipe_rewrites_diverges_nowhere(name: str, recorded: bool, tmp_path: Path) -> None:
    result = graphopt.optimize(_model(name), output=tmp_path / "new.onnx", validate="none")
    report = tmp_path / "report.json"
    save(report, result.report.to_json())
    found = localize(_model(name), tmp_path / "new.onnx", report=report if recorded else None)
    assert found.first is None


@pytest.mark.parametrize(("most", "times"), [(8 << 20, 2.0), (1 << 40, 1000.0)])
def test_memory_is_that_of_a_group_and_not_of_all_values(most: int, times: float, tmp_path: Path) -> None:
    path = _model("efficientnet_lite0_op13_bn")
    feeds = [{"input": np.random.default_rng(1).standard_normal((4, 3, 224, 224)).astype(np.float32)}]
    with Worker() as worker:
        worker.run_model(path, feeds[0], OFF)
        one_run = worker.peak_memory()
        old, new = (Model(read(path), worker, tmp_path, name) for name in "ab")
        assert search(old, new, feeds, group_bytes=most).first is None
        peak = worker.peak_memory()
    assert one_run is not None
    assert peak is not None
    assert peak < times * one_run
    if most > 1 << 30:
        assert peak > 2 * one_run  # all values at once would be far more
