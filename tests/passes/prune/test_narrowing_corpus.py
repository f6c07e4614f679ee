"""Real models: half of the units of all groups that allow it, and what is left to say about the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from narrowed_models import data_of, grouped, silence

from graphopt.analysis.cost import macs
from graphopt.analysis.shapes import infer
from graphopt.testing.feeds import feeds_for
from graphopt.testing.running import outputs_of
from passes.prune.narrowing import Narrowing, why_not_narrow

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models"),
]

FREE = {  # groups that can be narrowed, and the share of multiply-accumulates that half of their units leaves
    "brainmaze_seizure_A": (3, 0.8),
    "mobilenet_v1_025_128_quant_qdq_tflite": (14, 0.32),
    "ppocrv4_rec": (23, 0.4),
    "resnet_4b_cifar10": (8, 0.28),
    "vit_cifar10_pgd_2_3_16": (5, 0.4),
}


def _model(name: str) -> onnx.ModelProto:
    assert _FOLDER is not None
    path = Path(_FOLDER) / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}.onnx")
    return onnx.load(path)


@pytest.mark.parametrize("name", FREE)
def test_half_of_all_units_of_real_models(name: str) -> None:
    proto = _model(name)
    wide, groups = grouped(proto)
    slim, others = grouped(proto)
    before = macs(slim, infer(slim)).count
    narrowing, free = Narrowing(), 0
    for one, other in zip(groups, others, strict=True):
        if why_not_narrow(one) is None:
            free += 1
            kept = np.arange(0, one.size, 2)
            silence(one, np.setdiff1d(np.arange(one.size), kept))
            narrowing.narrow(other, kept)
    count, share = FREE[name]
    assert free == count
    assert macs(slim, infer(slim)).count < share * before
    feeds: list[dict[str, Any]] = [feeds_for(proto)[0]]
    expected, found = outputs_of(data_of(wide), feeds)[0], outputs_of(data_of(slim), feeds)[0]
    for output, value in expected.items():
        np.testing.assert_allclose(found[output], value, rtol=1e-3, atol=1e-5 * float(np.abs(value).max() + 1))


def test_weights_that_callers_may_give_stay() -> None:
    _, groups = grouped(_model("mnist_cntk"))
    assert [why_not_narrow(one) for one in groups] == [
        "'Parameter5' is also a graph input, whose value callers may give",
        "'Parameter87' is also a graph input, whose value callers may give",
    ]
