"""channels on real networks, calibrated on the first half of their data and measured on the second."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import graphopt
from graphopt.analysis.cost import macs
from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.storage.read import read

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")
pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models"),
]

Array = np.ndarray[Any, Any]


def corpus(*parts: str) -> Path:
    path = Path(str(_FOLDER), *parts)
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {path.name}")
    return path


def cost(path: Path) -> int:
    source = read(path)
    graph = decode(source.proto, source.store)
    return macs(graph, infer(graph)).count


def classes(path: Path, name: str, samples: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.array([int(np.argmax(session.run(None, {name: one[None]})[0])) for one in samples])


@pytest.mark.slow
def test_a_residual_network_loses_a_fifth_and_little_else(tmp_path: Path) -> None:
    with np.load(corpus("data", "cifar10_2000_u8.npz")) as data:
        x = (data["x"][:1600:4] / np.float32(255) - np.float32(0.473)) / np.float32(0.2)
    images = np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32)
    clean, pruned = tmp_path / "clean.onnx", tmp_path / "pruned.onnx"
    graphopt.optimize(corpus("models", "resnet_4b_cifar10.onnx"), output=clean, validate="none")
    (name,) = [one.name for one in read(clean).proto.graph.input]
    known = {name: images[:64]}
    graphopt.optimize(clean, pipeline="channels{share=0.2}", calibration=known, output=pruned, validate="none")
    assert cost(pruned) <= 0.8 * cost(clean)
    before, after = (classes(one, name, images[200:]) for one in (clean, pruned))
    assert (before == after).mean() > 0.75


def test_digits_behind_overridable_weights(tmp_path: Path) -> None:
    source = corpus("models", "mnist_cntk.onnx")
    with np.load(corpus("data", "mnist_2000_u8.npz")) as data:
        x = data["x"][:64, None].astype(np.float32)
    feeds = [{"Input3": one[None]} for one in x]
    left = graphopt.optimize(source, pipeline="channels{share=0.2}", calibration=feeds, validate="none")
    assert left.report.passes[0].applied == 0
    assert left.report.passes[0].missed > 0
    text = "initializers-from-inputs,channels{share=0.2 multiple=2}"
    out = tmp_path / "pruned.onnx"
    graphopt.optimize(source, pipeline=text, calibration=feeds, output=out, validate="none")
    assert cost(out) <= 0.81 * cost(source)
