"""ort-conv: what FusedConv takes over, at several opsets, and what it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.conv import OrtConv

RNG = np.random.default_rng(0)
W = RNG.standard_normal((4, 4, 3, 3)).astype(np.float32)
B = RNG.standard_normal(4).astype(np.float32)


def at(opset: int, text: str, **weights: Any) -> Applied:
    ir = 10 if opset > 8 else 8
    return apply(OrtConv(), model(f'<ir_version: {ir}, opset_import: ["": {opset}]> {text}', **weights))


def conv(tail: str, opset: int = 17, **weights: Any) -> Applied:
    head = "g (float[N, 4, 5, 5] x, float[N, 4, 5, 5] z) => (float[N, 4, 5, 5] y)"
    return at(opset, f"{head} {{ c = Conv<pads=[1,1,1,1]>(x, w, b) {tail} }}", w=W, b=B, **weights)


@pytest.mark.parametrize(
    ("call", "activation"),
    [
        ("Relu(c)", "activation='Relu'"),
        ("Tanh(c)", "activation='Tanh'"),
        ("Sigmoid(c)", "activation='Sigmoid'"),
        ("LeakyRelu<alpha=0.25>(c)", "activation='LeakyRelu', activation_params=[0.25]"),
        ("LeakyRelu(c)", "activation='LeakyRelu', activation_params=[0.01]"),
        ("HardSigmoid(c)", "activation='HardSigmoid', activation_params=[0.2, 0.5]"),
        ("HardSigmoid<alpha=0.3, beta=0.1>(c)", "activation='HardSigmoid', activation_params=[0.3, 0.1]"),
    ],
)
@pytest.mark.parametrize("opset", [7, 11, 17, 22])
def test_a_function_goes_into_the_convolution(call: str, activation: str, opset: int) -> None:
    done = conv(f"y = {call}", opset)
    assert done.body == f"y = com.microsoft.FusedConv<{activation}, pads=[1, 1, 1, 1]>(x, w, b)"
    assert {one.domain: one.version for one in done.after.opset_import} == {"": opset, "com.microsoft": 1}


@pytest.mark.parametrize(
    ("opset", "call", "weights", "bounds"),
    [
        (7, "Clip<min=0.0, max=0.5>(c)", {}, "0, 0.5"),
        (10, "Clip<min=-0.25>(c)", {}, "-0.25, 3.40282e+38"),
        (11, "Clip(c, l, h)", {"l": np.float32(0), "h": np.float32(1)}, "0, 1"),
        (17, "Clip(c, , h)", {"h": np.float32(1)}, "-3.40282e+38, 1"),
        (17, "Clip(c, l)", {"l": np.float32(0)}, "0, 3.40282e+38"),
    ],
)
def test_a_clip_with_known_bounds(opset: int, call: str, weights: dict[str, Any], bounds: str) -> None:
    done = conv(f"y = {call}", opset, **weights)
    assert f"activation='Clip', activation_params=[{bounds}]" in done.body
    assert {one.name for one in done.after.graph.initializer} == {"w", "b"}, "the bounds go with their reader"


def test_a_residual_and_the_function_of_the_sum() -> None:
    done = conv("s = Add(z, c) y = Relu(s)")
    assert done.body == "y = com.microsoft.FusedConv<activation='Relu', pads=[1, 1, 1, 1]>(x, w, b, z)"


def test_a_residual_alone() -> None:
    done = conv("y = Add(c, z)")
    assert done.body == "y = com.microsoft.FusedConv<pads=[1, 1, 1, 1]>(x, w, b, z)"


def test_a_residual_and_no_bias() -> None:
    text = "g (float[N, 4, 5, 5] x) => (float[N, 4, 5, 5] y) { c = Conv<pads=[1,1,1,1]>(x, w) y = Add(c, x) }"
    assert at(17, text, w=W).body == "y = com.microsoft.FusedConv<pads=[1, 1, 1, 1]>(x, w, , x)"


def test_a_sum_that_others_read_keeps_its_value() -> None:
    done = conv("s = Add(c, z) r = Relu(s) y = Add(r, s)")
    assert done.body.splitlines() == [
        "s = com.microsoft.FusedConv<pads=[1, 1, 1, 1]>(x, w, b, z)",
        "r = Relu(s)",
        "y = Add(r, s)",
    ]


def test_one_dimension_and_a_group() -> None:
    text = "g (float[N, 4, L] x) => (float[N, 4, K] y) { c = Conv<group=4, strides=[2]>(x, w) y = Relu(c) }"
    feeds = [{"x": RNG.standard_normal((2, 4, 9)).astype(np.float32)}]
    done = apply(OrtConv(), model(text, w=W[:, :1, 0]), feeds=feeds)
    assert done.body == "y = com.microsoft.FusedConv<activation='Relu', group=4, strides=[2]>(x, w)"


def test_in_bodies_and_next_to_a_body() -> None:
    text = """g (float[N, 4, 5, 5] x, bool p) => (float[N, 4, 3, 3] y) {
        c = Conv(x, w)
        y = If(p) <
            then_branch = t () => (float[N, 4, 3, 3] u) { u = Relu(c) },
            else_branch = e () => (float[N, 4, 3, 3] v) { d = Conv(x, w) v = Relu(d) }
        >
    }"""
    done = apply(OrtConv(), model(text, w=W))
    assert "u = Relu(c)" in done.body, "the Conv is in another graph"
    assert "v = com.microsoft.FusedConv<activation='Relu'>(x, w)" in done.body


@pytest.mark.parametrize(
    "tail",
    [
        "r = Relu(c) y = Add(r, c)",  # the Conv's result is read by others
        "y = Elu(c)",
        "y = Mul(c, z)",
    ],
)
def test_what_does_not_fit_stays(tail: str) -> None:
    done = conv(tail)
    assert done.after == done.before


def test_another_shape_is_not_added() -> None:
    text = "g (float[N, 4, 5, 5] x, float[M, 4, 3, 3] z) => (float[K, 4, 3, 3] y) { c = Conv(x, w) y = Add(c, z) }"
    feeds = [{"x": RNG.random((1, 4, 5, 5)).astype(np.float32), "z": RNG.random((2, 4, 3, 3)).astype(np.float32)}]
    done = apply(OrtConv(), model(text, w=W), feeds=feeds)
    assert_missed(done, "add", "'z' is not known to have the shape of 'c'")
    assert done.after == done.before


def test_bounds_that_are_computed_stay() -> None:
    text = "g (float[N, 4, 5, 5] x, float h) => (float[N, 4, 3, 3] y) { c = Conv(x, w) y = Clip(c, , h) }"
    done = apply(OrtConv(), model(text, w=W))
    assert_missed(done, "activation", "its max is not constant")


def test_bounds_in_the_wrong_order_stay() -> None:
    done = conv("y = Clip(c, l, h)", l=np.float32(2), h=np.float32(1))
    assert_missed(done, "activation", "its bounds are 2.0 and 1.0")


def test_other_dtypes_stay() -> None:
    text = "g (float16[N, 4, 5, 5] x) => (float16[N, 4, 3, 3] y) { c = Conv(x, w) y = Relu(c) }"
    done = apply(OrtConv(), model(text, w=W.astype(np.float16)))
    assert_missed(done, "activation", "not known to be float32")
    assert done.after == done.before


def test_a_function_of_that_name_is_not_called_instead() -> None:
    text = """<ir_version: 10, opset_import: ["": 17, "com.microsoft": 1]>
    g (float[N, 4, 5, 5] x) => (float[N, 4, 3, 3] y) { c = Conv(x, w) r = Relu(c) y = com.microsoft.FusedConv(r) }
    <domain: "com.microsoft", opset_import: ["": 17]> FusedConv (a) => (b) { b = Neg(a) }"""
    done = apply(OrtConv(), model(text, w=W), feeds=())
    assert_missed(done, "activation", "a function of its own")
    assert done.after == done.before
