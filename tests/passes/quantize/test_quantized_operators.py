"""Quantized weights under every operator that has weights, run by onnxruntime with its optimizations off and on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper, shape_inference

from graphopt.pipeline import Pass
from graphopt.testing import apply, model
from graphopt.testing.running import USUAL, outputs_of
from graphopt.validation.compare import compare
from passes.quantize.weight_codebook import WeightCodebook
from passes.quantize.weight_fixed_point import WeightFixedPoint
from passes.quantize.weight_int2 import WeightInt2
from passes.quantize.weight_int4 import WeightInt4
from passes.quantize.weight_int8 import WeightInt8
from passes.quantize.weight_int16 import WeightInt16

PASSES: dict[str, tuple[Pass, float]] = {
    "channel": (WeightInt8(min_elements=1), 36),
    "channel, asymmetric": (WeightInt8(symmetric=False, min_elements=1), 36),
    "tensor": (WeightInt8("tensor", min_elements=1), 30),
    "blocks": (WeightInt8("block", min_elements=1, block=16), 36),
    "blocks, unsigned": (WeightInt8("block", min_elements=1, block=7, symmetric=False, signed=False), 36),
    "cast": (WeightInt8(min_elements=1, form="cast"), 36),
    "cast, asymmetric": (WeightInt8(min_elements=1, symmetric=False, form="cast"), 36),
    "cast, blocks": (WeightInt8("block", min_elements=1, block=7, symmetric=False, form="cast"), 36),
    "16 bits": (WeightInt16(min_elements=1, form="dequantize"), 80),
    "16 bits, cast": (WeightInt16(min_elements=1), 80),
    "16 bits in blocks": (WeightInt16("block", min_elements=1, block=8, form="dequantize"), 80),
    "16 bits in blocks, cast": (WeightInt16("block", min_elements=1, block=8), 80),
    "4 bits": (WeightInt4(min_elements=1, block=16), 13),
    "4 bits, cast": (WeightInt4(min_elements=1, block=16, form="cast"), 13),
    "4 bits, unsigned": (WeightInt4(min_elements=1, symmetric=False, signed=False, block=16), 11),
    "4 bits a channel": (WeightInt4("channel", min_elements=1), 11),
    "2 bits": (WeightInt2(min_elements=1, block=16), -2),
    "2 bits, cast": (WeightInt2(min_elements=1, block=16, form="cast"), -2),
    "2 bits a channel": (WeightInt2("channel", min_elements=1), -2),
    "codebook": (WeightCodebook(8, min_elements=1), 36),
    "codebook, 4 bits": (WeightCodebook(4, min_elements=1), 16),
    "codebook, tensor": (WeightCodebook(6, "tensor", min_elements=1), 16),
    "fixed point": (WeightFixedPoint(min_elements=1), 26),
    "fixed point, 16 bits": (WeightFixedPoint(bits=16, min_elements=1), 70),
    "fixed point a channel": (WeightFixedPoint(granularity="channel", min_elements=1), 30),
    "fixed point, cast": (WeightFixedPoint(granularity="channel", form="cast", min_elements=1), 30),
}
UNASKED = 32.0
"""Decibels that remain where onnxruntime quantizes activations as well (MatMul on 8 bits of weights)."""


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def indices(*values: int) -> Any:
    return np.array(values, np.int64)


Weights = Mapping[str, Any]
W: dict[str, tuple[str, Weights]] = {
    "Conv": ("(float[1, 3, 9, 9] x) => (float[] y) { y = Conv(x, w) }", {"w": floats(16, 3, 3, 3)}),
    "Conv depthwise": (
        "(float[1, 16, 9, 9] x) => (float[] y) { y = Conv<group = 16>(x, w) }",
        {"w": floats(16, 1, 5, 5)},
    ),
    "Conv grouped": ("(float[1, 8, 9, 9] x) => (float[] y) { y = Conv<group = 2>(x, w) }", {"w": floats(16, 4, 3, 3)}),
    "Conv 1-D": ("(float[1, 4, 30] x) => (float[] y) { y = Conv(x, w) }", {"w": floats(12, 4, 7)}),
    "ConvTranspose": ("(float[1, 6, 5, 5] x) => (float[] y) { y = ConvTranspose(x, w) }", {"w": floats(6, 8, 3, 3)}),
    "ConvTranspose grouped": (
        "(float[1, 6, 5, 5] x) => (float[] y) { y = ConvTranspose<group = 3>(x, w) }",
        {"w": floats(6, 8, 3, 3)},
    ),
    "ConvTranspose depthwise": (
        "(float[1, 16, 5, 5] x) => (float[] y) { y = ConvTranspose<group = 16>(x, w) }",
        {"w": floats(16, 1, 5, 5)},
    ),
    "Gemm": ("(float[5, 32] x) => (float[] y) { y = Gemm(x, w, b) }", {"w": floats(32, 48), "b": floats(48)}),
    "Gemm transB": ("(float[5, 32] x) => (float[] y) { y = Gemm<transB = 1>(x, w) }", {"w": floats(48, 32)}),
    "Gemm transA": (
        "(float[32, 5] x) => (float[] y) { y = Gemm<transA = 1, alpha = 0.5>(x, w) }",
        {"w": floats(32, 48)},
    ),
    "Gemm left": ("(float[32, 5] x) => (float[] y) { y = Gemm(w, x) }", {"w": floats(48, 32)}),
    "Gemm left transA": ("(float[32, 5] x) => (float[] y) { y = Gemm<transA = 1>(w, x) }", {"w": floats(32, 48)}),
    "MatMul": ("(float[5, 32] x) => (float[] y) { y = MatMul(x, w) }", {"w": floats(32, 48)}),
    "MatMul left": ("(float[32, 5] x) => (float[] y) { y = MatMul(w, x) }", {"w": floats(48, 32)}),
    "MatMul batched data": ("(float[2, 3, 5, 32] x) => (float[] y) { y = MatMul(x, w) }", {"w": floats(32, 48)}),
    "MatMul batched weight": ("(float[2, 3, 5, 16] x) => (float[] y) { y = MatMul(x, w) }", {"w": floats(3, 16, 20)}),
    "MatMul batched left": ("(float[2, 3, 16, 5] x) => (float[] y) { y = MatMul(w, x) }", {"w": floats(3, 20, 16)}),
    "MatMul vector": ("(float[64, 400] x) => (float[] y) { y = MatMul(x, w) }", {"w": floats(400)}),
    "Gather": (
        "(float[5] unused) => (float[] y) { y = Gather(w, i) }",
        {"w": floats(40, 16), "i": indices(3, 39, 3, 0)},
    ),
    "Gather columns": (
        "(float[5] unused) => (float[] y) { y = Gather<axis = 1>(w, i) }",
        {"w": floats(16, 40), "i": indices(3, 39)},
    ),
    "Gather of 3-D": (
        "(float[5] unused) => (float[] y) { y = Gather<axis = 1>(w, i) }",
        {"w": floats(6, 10, 12), "i": indices(3, 9)},
    ),
    "Gather of one row": (
        "(float[5] unused) => (float[] y) { y = Gather(w, i) }",
        {"w": floats(40, 16), "i": np.array(7, np.int64)},
    ),
    "Gather negative": (
        "(float[5] unused) => (float[] y) { y = Gather(w, i) }",
        {"w": floats(40, 16), "i": indices(-1, 2)},
    ),
    "LSTM": (
        "(float[4, 2, 10] x) => (float[] y, float[] h) { y, h = LSTM<hidden_size = 8>(x, w, r, b) }",
        {"w": floats(1, 32, 10), "r": floats(1, 32, 8), "b": floats(1, 64)},
    ),
    "LSTM both ways": (
        '(float[4, 2, 10] x) => (float[] y) { y = LSTM<hidden_size = 8, direction = "bidirectional">(x, w, r) }',
        {"w": floats(2, 32, 10), "r": floats(2, 32, 8)},
    ),
    "GRU": (
        "(float[4, 2, 10] x) => (float[] y) { y = GRU<hidden_size = 8, linear_before_reset = 1>(x, w, r, b) }",
        {"w": floats(1, 24, 10), "r": floats(1, 24, 8), "b": floats(1, 48)},
    ),
    "RNN": (
        "(float[4, 2, 16] x) => (float[] y) { y = RNN<hidden_size = 16>(x, w, r) }",
        {"w": floats(1, 16, 16), "r": floats(1, 16, 16)},
    ),
    "Transpose": ("(float[5, 32] x) => (float[] y) { t = Transpose(w)  y = MatMul(x, t) }", {"w": floats(48, 32)}),
    "Reshape": (
        "(float[5, 32] x) => (float[] y) { t = Reshape(w, s)  y = MatMul(x, t) }",
        {"w": floats(4, 8, 48), "s": indices(32, 48)},
    ),
    "Squeeze": (
        "(float[5, 32] x) => (float[] y) { t = Squeeze(w, s)  y = MatMul(x, t) }",
        {"w": floats(32, 1, 48), "s": indices(1)},
    ),
    "Unsqueeze": (
        "(float[5, 3, 32] x) => (float[] y) { t = Unsqueeze(w, s)  y = MatMul(x, t) }",
        {"w": floats(32, 48), "s": indices(0)},
    ),
    "Flatten": (
        "(float[5, 32] x) => (float[] y) { t = Flatten<axis = 2>(w)  y = MatMul(x, t) }",
        {"w": floats(4, 8, 48)},
    ),
    "shared": (
        "(float[5, 32] x) => (float[] y) { a = MatMul(x, w)  y = Gemm<transB = 1>(a, w) }",
        {"w": floats(32, 32)},
    ),
    "tied": (
        "(float[5, 32] x) => (float[] y, float[] e) { t = Transpose(w)  y = MatMul(x, t)  e = Gather(w, i) }",
        {"w": floats(40, 32), "i": indices(1, 0)},
    ),
    "If": (
        """(float[5, 32] x) => (float[5, 48] y) { c = Constant<value = bool {1}>()
            y = If(c)<then_branch = t () => (float[5, 48] o) { o = MatMul(x, w) },
                      else_branch = e () => (float[5, 48] o) { n = Neg(x)  o = MatMul(n, w) }> }""",
        {"w": floats(32, 48)},
    ),
    "Loop": (
        """(float[5, 32] x) => (float[5, 32] y) { n = Constant<value_int = 3>()  on = Constant<value = bool {1}>()
            y = Loop(n, on, x)<body = b (int64 i, bool go, float[5, 32] a) => (bool going, float[5, 32] o) {
                going = Identity(go)  m = MatMul(a, w)  o = Tanh(m) }> }""",
        {"w": floats(32, 32) / 16},
    ),
}


def made(text: str, **weights: Any) -> ModelProto:
    """The model of a text whose outputs say their type only: ONNX infers their shapes."""
    return shape_inference.infer_shapes(model(text, **weights))


def hold(case: str, proto: ModelProto, pass_: Pass, floor: float) -> None:
    inputs = {
        one.name: floats(*(dim.dim_value for dim in one.type.tensor_type.shape.dim), seed=7)
        for one in proto.graph.input
    }
    feeds = [inputs]
    done = apply(pass_, proto, feeds=feeds)
    if not done.applied:
        whys = [one.why for one in done.missed]
        assert all("be smaller" in why or "is the bias" in why or "cannot move" in why for why in whys), (
            f"{case}: {whys}"
        )
        return
    for one in proto.graph.output:
        assert done.sqnr_db(one.name) > floor
    (original,) = outputs_of(proto.SerializeToString(), feeds, USUAL)
    (result,) = outputs_of(done.after.SerializeToString(), feeds, USUAL)
    for name in original:
        folded = getattr(pass_, "form", "") == "cast" or isinstance(pass_, WeightCodebook)
        assert compare(original[name], result[name]).sqnr_db > (floor if folded else min(floor, UNASKED))


@pytest.mark.parametrize("way", PASSES)
@pytest.mark.parametrize("case", W)
def test_outputs_stay_close(case: str, way: str) -> None:
    text, weights = W[case]
    header = '<ir_version: 10, opset_import: ["": 25]>' if way.startswith("2 bits") else ""
    hold(case, made(f"{header} g {text}", **weights), *PASSES[way])


@pytest.mark.parametrize("way", PASSES)
def test_outputs_stay_close_with_weights_in_constant_nodes_of_bodies_and_functions(way: str) -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[5, 32] x) => (float[5, 48] y) {
            c = Constant<value = bool {1}>()
            a = If(c)<then_branch = t () => (float[5, 32] o) { o = MatMul(x, k) },
                      else_branch = e () => (float[5, 32] o) { o = Neg(x) }>
            y = local.dense(a)
        }
        <domain: "local", opset_import: ["": 21]> dense (a) => (c) { c = MatMul(a, k) }
        """
    proto = model(text.replace("21", "25") if way.startswith("2 bits") else text)
    for nodes, weight in (
        (proto.graph.node[1].attribute[0].g.node, floats(32, 32)),
        (proto.functions[0].node, floats(32, 48)),
    ):
        nodes.insert(0, helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(weight)))
    pass_, floor = PASSES[way]
    hold("constant nodes", proto, pass_, floor - 4)


@pytest.mark.parametrize("opset", [10, 11, 12])
def test_one_scale_a_tensor_runs_at_old_opsets(opset: int) -> None:
    header = f'<ir_version: 5, opset_import: ["": {opset}]>'
    text = f"{header} g (float[5, 32] x) => (float[] y) {{ y = MatMul(x, w) }}"
    hold("MatMul", made(text, w=floats(32, 48)), WeightInt8("tensor", min_elements=1), 30)


@pytest.mark.parametrize("opset", [13, 17, 19, 21, 22])
def test_scales_for_channels_run_at_every_opset_that_has_them(opset: int) -> None:
    header = f'<ir_version: 8, opset_import: ["": {opset}]>'
    text = f"{header} g (float[1, 3, 9, 9] x) => (float[] y) {{ y = Conv(x, w) }}"
    hold("Conv", made(text, w=floats(16, 3, 3, 3)), WeightInt8(min_elements=1), 36)


def test_float16_weights_run() -> None:
    text = "g (float[5, 32] x) => (float[] y) { a = Cast<to = 10>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b) }"
    hold("float16", made(text, w=floats(32, 64).astype(np.float16)), WeightInt8(min_elements=1), 36)


def test_float16_weights_behind_a_cast_run() -> None:
    text = "g (float[5, 32] x) => (float[] y) { v = Cast<to = 1>(w)  y = MatMul(x, v) }"
    proto = made(text, w=floats(32, 64).astype(np.float16))
    hold("cast", proto, WeightInt8(min_elements=1), 36)
    assert "v = Cast<to=1>(w_dequantized)" in apply(WeightInt8(min_elements=1), proto, laws=False).body


def test_channels_of_very_different_size_need_their_own_scales() -> None:
    weight = floats(16, 3, 3, 3) * (2.0 ** -np.arange(16, dtype=np.float32)).reshape(16, 1, 1, 1)
    text = "g (float[1, 3, 9, 9] x) => (float[] y) { a = Conv(x, w)  y = Mul(a, s) }"
    scales = (2.0 ** np.arange(16, dtype=np.float32)).reshape(16, 1, 1)
    proto = made(text, w=weight, s=scales)
    feeds = [{"x": floats(1, 3, 9, 9)}]
    assert apply(WeightInt8(min_elements=1), proto, feeds=feeds).sqnr_db("y") > 36
    assert apply(WeightInt8("tensor", min_elements=1), proto, feeds=feeds).sqnr_db("y") < 10
