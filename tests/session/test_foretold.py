"""A table of sensitivities becomes an option of the passes that read it, so that the pipeline says it all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.report.sensitivity_files import save_files
from graphopt.testing import model

TEXT = """agraph (float[B, 8] x) => (float[B, 6] y) {
    a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)  d = Relu(c)  y = MatMul(d, u) }"""


def three() -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    weights = {"w": (8, 32), "v": (32, 24), "u": (24, 6)}
    made = {name: draw.normal(size=shape).astype(np.float32) for name, shape in weights.items()}
    return model(f'<ir_version: 8, opset_import: ["": 17]> {TEXT}', **made)


FEEDS = {"x": np.random.default_rng(1).normal(size=(32, 8)).astype(np.float32)}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tables") / "table.json"
    save_files({"--table": place}, graphopt.sensitivity(three(), feeds=FEEDS, quick=True))
    return place


def test_the_pipeline_says_what_the_table_predicts_and_runs_again_without_it(table: Path) -> None:
    told = graphopt.optimize(
        three(), pipeline="channels{share=0.2 multiple=1}", feeds=FEEDS, validate="none", sensitivity=table
    )
    text = told.report.pipeline
    assert "predicted" in text
    assert "w=" in text
    again = graphopt.optimize(three(), pipeline=text, feeds=FEEDS, validate="none")
    assert again.to_proto().SerializeToString() == told.to_proto().SerializeToString()


def test_a_table_that_nothing_reads_is_refused(table: Path) -> None:
    with pytest.raises(UsageError, match="for the pass channels"):
        graphopt.optimize(three(), pipeline="dead-nodes", feeds=FEEDS, sensitivity=table)
