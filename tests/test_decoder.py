"""The generated decoder models: valid, the same every time, and what passes find in real ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.decoder import byte_count, shape_of, write
from graphopt.session.api import optimize
from graphopt.validation.plan import FeedPlan


def _size(model: Path) -> int:
    return sum(one.stat().st_size for one in model.parent.iterdir())


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({}, 1),
        ({"tied": True, "past": False}, 3),
        ({"dtype": "float16", "opset": 21}, 1),
        ({"dtype": "bfloat16", "opset": 21}, 2),
        ({"opset": 23, "fused": True}, 1),
        ({"hidden": 96, "heads": 6, "kv_heads": 6, "vocab": 300}, 1),
    ],
)
def test_a_decoder_is_a_valid_model(tmp_path: Path, options: dict[str, Any], files: int) -> None:
    shape = shape_of(byte_count("1.2MB"), layers=2, **options)
    model = write(tmp_path / "a", shape, files=files)
    onnx.checker.check_model(str(model), full_check=True)
    assert len(list(model.parent.glob("model.onnx.data*"))) == files


def test_the_same_options_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    shape = shape_of(byte_count("1MB"), layers=1)
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        model = write(tmp_path / name, shape, seed)
        digests.append([hashlib.sha256(one.read_bytes()).digest() for one in sorted(model.parent.iterdir())])
    assert digests[0] == digests[1]
    assert digests[0][0] == digests[2][0], "the graph does not depend on the seed"
    assert digests[0][1] != digests[2][1]


@pytest.mark.parametrize("size", ["2MB", "20MB", "100MB"])
def test_a_decoder_has_about_the_size_that_was_asked_for(size: str) -> None:
    shape = shape_of(byte_count(size))
    assert sum(one.elements for one in shape.weights()) * 4 == pytest.approx(byte_count(size), rel=0.05)
    assert shape_of(byte_count("10GB")).hidden == 4096


def test_weights_are_spread_by_fan_in_with_a_few_loud_channels(tmp_path: Path) -> None:
    shape = shape_of(byte_count("4MB"), layers=1, hidden=256)
    model = onnx.load(str(write(tmp_path / "a", shape)))
    found = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    matrix = found["model.layers.0.mlp.gate_proj.weight"]
    rows = matrix.std(axis=1) * np.sqrt(256)
    assert np.median(rows) == pytest.approx(1, abs=0.1)
    assert rows.max() > 5 and np.count_nonzero(rows > 3) <= 3


def test_a_small_decoder_runs_and_is_optimized_within_its_contract(tmp_path: Path) -> None:
    model = write(tmp_path / "a", shape_of(byte_count("1MB"), layers=1))
    plan = FeedPlan(sizes={"past_length": 3, "sequence_length": 4, "total_length": 7})
    result = optimize(model, output=tmp_path / "out.onnx", feeds=plan)
    assert result.exit_code == 0, result.verdict.sentence()
    assert result.report.changed
    assert len(result.graph.nodes) < len(onnx.load(str(model), load_external_data=False).graph.node)
