"""No fact is wrong: what is said of every value of many models is what onnxruntime makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from real_shapes import known_share, wrong_facts

from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model, random_model
from graphopt.testing.feeds import feeds_for

CHUNK = 20


@pytest.mark.parametrize("start", range(0, 120, CHUNK))
def test_random_models(start: int) -> None:
    for seed in range(start, start + CHUNK):
        proto = random_model(seed, nodes=20)
        assert wrong_facts(proto, feeds_for(proto)) == [], f"random_model({seed}, nodes=20)"


def test_random_models_are_mostly_known() -> None:
    shares = [known_share(random_model(seed, bodies=False)) for seed in range(30)]
    assert np.mean(shares) > 0.9


CORPUS = {
    "basic_pitch_nmp": 1.0,
    "bert_squad_keras2onnx_opset11": 1.0,
    "brainmaze_seizure_A": 1.0,
    "efficientnet_lite0_op13_bn": 1.0,
    "magika_v3_3": 0.7,
    "mnist_cntk": 0.6,
    "mobilenet_v1_025_128_quant_qdq_tflite": 1.0,
    "paraphrase_minilm_l3_fp32": 1.0,
    "ppocrv4_rec": 0.5,
    "resnet_4b_cifar10": 1.0,
    "scan_1": 1.0,
    "tract_lgbm_classifier": 0.9,
    "vit_cifar10_pgd_2_3_16": 1.0,
}


@pytest.mark.corpus
@pytest.mark.parametrize("name", CORPUS)
def test_real_models(name: str) -> None:
    if "GRAPHOPT_CORPUS" not in os.environ:
        pytest.skip("GRAPHOPT_CORPUS does not say where the real models are")
    path = Path(os.environ["GRAPHOPT_CORPUS"]) / "models" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    proto = onnx.load(path)
    feeds = feeds_for(proto)[:2]
    for given in feeds:
        for key, array in given.items():
            if array.dtype.kind in "iu":  # indices, mostly
                given[key] = np.ones_like(array)
    assert wrong_facts(proto, feeds) == []
    assert known_share(proto) >= CORPUS[name]


def test_time_is_linear_and_little() -> None:
    import time

    def seconds(length: int) -> float:
        nodes = " ".join(f"a{i + 1} = {'Relu' if i % 2 else 'Neg'}(a{i})" for i in range(length))
        proto = model(f"g (float[N, 4] x) => (float[N, 4] y) {{ a0 = Abs(x) {nodes} y = Neg(a{length}) }}")
        root = decode(proto, Store())
        start = time.process_time()
        assert infer(root).shape(root.nodes[-1].outputs[0]) == ("N", 4)
        return time.process_time() - start

    one, four = seconds(2_000), seconds(8_000)
    assert four < 10 * one + 0.2 and four < 2.0
