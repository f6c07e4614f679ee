"""ort-gemm: every function that FusedGemm knows, and what stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.gemm import OrtGemm

RNG = np.random.default_rng(0)
W = RNG.standard_normal((6, 4)).astype(np.float32)
B = RNG.standard_normal(6).astype(np.float32)


def gemm(tail: str, opset: int = 17, dtype: str = "float", **weights: Any) -> Applied:
    text = f"g ({dtype}[N, 4] x) => ({dtype}[N, 6] y) {{ c = Gemm<transB=1>(x, w, b) {tail} }}"
    given = {"w": W, "b": B} | weights
    return apply(OrtGemm(), model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}', **given))


@pytest.mark.parametrize(
    ("call", "activation"),
    [
        ("Relu(c)", "activation='Relu'"),
        ("Tanh(c)", "activation='Tanh'"),
        ("Sigmoid(c)", "activation='Sigmoid'"),
        ("Softplus(c)", "activation='Softplus'"),
        ("Softsign(c)", "activation='Softsign'"),
        ("LeakyRelu<alpha=0.25>(c)", "activation='LeakyRelu', activation_alpha=0.25"),
        ("Elu(c)", "activation='Elu', activation_alpha=1"),
        ("Selu(c)", "activation='Selu', activation_alpha=1.67326, activation_gamma=1.0507"),
        ("HardSigmoid(c)", "activation='HardSigmoid', activation_alpha=0.2, activation_beta=0.5"),
    ],
)
@pytest.mark.parametrize("opset", [7, 13, 17])
def test_a_function_goes_into_the_product(call: str, activation: str, opset: int) -> None:
    done = gemm(f"y = {call}", opset)
    assert done.body == f"y = com.microsoft.FusedGemm<{activation}, transB=1>(x, w, b)"


def test_thresholded_relu() -> None:
    done = gemm("y = ThresholdedRelu<alpha=0.3>(c)", 10)
    assert (
        done.body
        == "y = com.microsoft.FusedGemm<activation='ThresholdedRelu', activation_alpha=0.3, transB=1>(x, w, b)"
    )


def test_scales_and_a_missing_bias_stay_what_they_are() -> None:
    text = "g (float[4, N] x) => (float[N, 6] y) { c = Gemm<alpha=0.5, transA=1, transB=1>(x, w) y = Relu(c) }"
    done = apply(OrtGemm(), model(text, w=W))
    assert done.body == "y = com.microsoft.FusedGemm<activation='Relu', alpha=0.5, transA=1, transB=1>(x, w)"


def test_in_a_function_it_is_left() -> None:
    text = """<ir_version: 10, opset_import: ["": 17, "f": 1]>
    g (float[N, 4] x) => (float[N, 4] y) { y = f.dense(x) }
    <domain: "f", opset_import: ["": 17]> dense (a) => (b) {
        w = Constant<value = float[1, 1] {2.0}>()
        c = Gemm(a, w)
        b = Relu(c)
    }"""
    feeds = [{"x": RNG.standard_normal((3, 4)).astype(np.float32)}]
    before = model(text.replace("float[1, 1] {2.0}", "float[4, 1] {1.0, 2.0, -1.0, 0.5}"))
    before.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    done = apply(OrtGemm(), before, feeds=feeds)
    assert done.after == done.before
    assert_missed(done, "activation", "ONNX could not infer what the function gives then")


@pytest.mark.parametrize("tail", ["r = Relu(c) y = Add(r, c)", "y = Exp(c)", "y = Clip(c, l, h)"])
def test_what_does_not_fit_stays(tail: str) -> None:
    weights = {"l": np.float32(0), "h": np.float32(1)} if "Clip" in tail else {}
    done = gemm(tail, **weights)
    assert done.after == done.before


def test_other_dtypes_stay() -> None:
    done = gemm("y = Relu(c)", dtype="double", w=W.astype(np.float64), b=B.astype(np.float64))
    assert_missed(done, "activation", "not known to be float32")
    assert done.after == done.before
