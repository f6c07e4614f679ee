"""static-int8 on real models and real data: calibrated on some images, measured on others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.validation.plan import FeedPlan

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models"),
]


def _path(kind: str, name: str) -> Path:
    path = Path(_FOLDER or "") / kind / name
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}")
    return path


def _images(start: int, stop: int) -> Any:
    with np.load(_path("data", "cifar10_2000_u8.npz")) as archive:
        pixels = archive["x"][start:stop].astype(np.float32) / 255
    mean, spread = (np.array(one, np.float32) for one in ((0.4914, 0.4822, 0.4465), (0.225, 0.225, 0.225)))
    return [
        {"input.1": image[None]} for image in np.ascontiguousarray(((pixels - mean) / spread).transpose(0, 3, 1, 2))
    ]


def test_a_residual_network_in_integers() -> None:
    made = graphopt.optimize(
        _path("models", "resnet_4b_cifar10.onnx"),
        pipeline="initializers-from-inputs,opset{to=13},fold-batchnorm,static-int8{target=onnxruntime}",
        calibration=FeedPlan(_images(0, 32)),
        feeds=_images(1000, 1020),
        budget="sqnr_db>=27",
    )
    assert made.verdict.passed, made.verdict.sentence()
    assert {one.rule for one in made.report.remarks if one.kind == "applied" and one.pass_name == "static-int8"} == {
        "quantize",
        "correct-bias",
    }
    left = [one for one in made.report.remarks if one.kind == "missed" and one.pass_name == "static-int8"]
    assert not left


def test_what_was_quantized_by_others_is_left_to_the_byte() -> None:
    path = _path("models", "mobilenet_v1_025_128_quant_qdq_tflite.onnx")
    made = graphopt.optimize(path, pipeline="static-int8", validate="none", feeds={"x": np.zeros((1, 3, 128, 128))})
    assert not [one for one in made.report.remarks if one.kind == "applied"]
