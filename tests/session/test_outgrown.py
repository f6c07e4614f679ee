"""A result that one file cannot hold says where its weights are; nothing is asked and nothing lost."""

from __future__ import annotations

import functools
from pathlib import Path

import onnx
import pytest

import graphopt.session.run as session_run
from benchmarks.decoder import byte_count, shape_of, write
from graphopt.session.api import optimize
from graphopt.storage.write import stage


@pytest.mark.parametrize(("limit", "outside"), [(200_000, True), (50_000_000, False)])
def test_weights_that_leave_the_file_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, outside: bool
) -> None:
    large = write(tmp_path / "made", shape_of(byte_count("1MB"), layers=2))
    model = onnx.load(str(large))  # with its data inside
    onnx.save(model, str(tmp_path / "in.onnx"))
    monkeypatch.setattr(session_run, "stage", functools.partial(stage, embedded_limit=limit))
    result = optimize(tmp_path / "in.onnx", validate="none", output=tmp_path / "out.onnx")
    said = [one for one in result.report.warnings if "beside the model" in one]
    assert len(said) == outside
    assert (tmp_path / "out.onnx.data").exists() == outside
    assert len(onnx.load(str(tmp_path / "out.onnx")).graph.node) < len(model.graph.node)
