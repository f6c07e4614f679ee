"""A real model on real images: the order of its layers is predicted for images that were not used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphopt

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")
pytestmark = pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models")


def images(start: int, count: int) -> Any:
    path = Path(_FOLDER or "") / "data" / "cifar10_2000_u8.npz"
    if not path.is_file():
        pytest.skip("the corpus that GRAPHOPT_CORPUS names has no images of CIFAR-10")
    with np.load(path) as archive:
        pixels = archive["x"][start : start + count].astype(np.float32) / 255
    return ((pixels - np.float32(0.47)) / np.float32(0.225)).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.parametrize(("name", "least"), [("resnet_4b_cifar10", 0.8), ("vit_cifar10_pgd_2_3_16", 0.8)])
def test_the_order_of_layers_is_predicted(name: str, least: float) -> None:
    path = Path(_FOLDER or "") / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}.onnx")
    proto = graphopt.load(path)
    (fed,) = [one.name for one in proto.inputs]
    halves = [[{fed: images(at + i, 1)} for i in range(6)] for at in (0, 1000)]
    found = graphopt.sensitivity(path, calibration=halves[0], feeds=halves[1], verify=99, quick=True)
    checks = {one.compression: one for one in found.checks}
    assert checks["int8-channel"].spearman >= least
    assert checks["channels-25"].spearman >= 0.7  # six images a side are few; with sixteen it is above 0.8
    assert checks["int8-channel"].off_db < 3.0
