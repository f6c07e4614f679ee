"""Networks with HardSwish and gates, as MobileNetV3 and PP-LCNet are, quantized from end to end."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.pipeline.spec import parse
from graphopt.testing import Applied, apply, model

PIPELINE = "scale-after-sum,fold-scale-bias,static-int8{target=onnxruntime},scalars-into-grids,integer-hard-swish"

BLOCK = """g (float[B, 4, 8, 8] x) => (float[B, 8, 8, 8] y) <float k = {0.8}, float o = {0.3}> {
    a = Conv(x, expand, expand_bias)  b = HardSwish(a)  c = Mul(b, k)  d = Add(c, o)
    e = Conv<pads = [1, 1, 1, 1], group = 8>(d, deep, deep_bias)  f = HardSwish(e)
    m = GlobalAveragePool(f)  s = Conv(m, squeeze, squeeze_bias)  r = Relu(s)
    t = Conv(r, excite, excite_bias)  u = HardSigmoid<alpha = 0.2, beta = 0.5>(t)
    v = Mul(f, u)  y = Conv(v, project, project_bias) }"""
SHAPES = {
    "expand": (8, 4, 1, 1),
    "deep": (8, 1, 3, 3),
    "squeeze": (4, 8, 1, 1),
    "excite": (8, 4, 1, 1),
    "project": (8, 8, 1, 1),
}


def block() -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    weights = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    biases = {f"{name}_bias": draw.standard_normal(shape[0]).astype(np.float32) for name, shape in SHAPES.items()}
    return model(BLOCK, **weights, **biases)


def images(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(seed)
    return [{"x": draw.standard_normal((4, 4, 8, 8)).astype(np.float32)} for _ in range(count)]


def quantized(pipeline: str) -> Applied:
    return apply(parse(pipeline), block(), feeds=images(3, 1))


def test_nothing_but_the_gate_is_computed_in_floats() -> None:
    done = quantized(PIPELINE)
    made_of = {out: node for node in done.after.graph.node for out in node.output}
    for node in done.after.graph.node:
        if node.op_type in ("Conv", "Mul", "GlobalAveragePool"):
            assert all(made_of[one].op_type == "DequantizeLinear" for one in node.input), node.op_type
    ops = [node.op_type for node in done.after.graph.node]
    assert ops.count("HardSigmoid") == 1 and "HardSwish" not in ops and "Add" not in ops and ops.count("Mul") == 3
    assert done.sqnr_db("y") > 22


def test_it_is_no_worse_than_with_hard_swish_in_floats_and_refit_makes_it_better() -> None:
    plain = quantized("static-int8{target=onnxruntime}")
    integers = quantized(PIPELINE)
    fitted = quantized(f"{PIPELINE},refit{{damping=0.001}}")
    assert integers.sqnr_db("y") > plain.sqnr_db("y") - 2
    assert fitted.sqnr_db("y") > integers.sqnr_db("y")


@pytest.mark.corpus
@pytest.mark.skipif("GRAPHOPT_CORPUS" not in os.environ, reason="GRAPHOPT_CORPUS names no folder of real models")
def test_the_recogniser_of_lines_has_no_hard_swish_left(tmp_path: Path) -> None:
    path = Path(os.environ["GRAPHOPT_CORPUS"]) / "models" / "ppocrv4_rec.onnx"
    if not path.is_file():
        pytest.skip("the corpus has no ppocrv4_rec.onnx")
    feeds = [{"x": np.random.default_rng(0).uniform(-1, 1, (1, 3, 48, 64)).astype(np.float32)}]
    result = graphopt.optimize(
        path,
        pipeline="opset{to=17},fold-constants,hard-swish," + PIPELINE,
        output=tmp_path / "out.onnx",
        validate="none",
        calibration=feeds,
    )
    ops = [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node]
    assert "HardSwish" not in ops and ops.count("HardSigmoid") == 2 and ops.count("Clip") > 20
    assert not [one for one in result.report.remarks if one.pass_name == "integer-hard-swish" and one.kind == "missed"]
