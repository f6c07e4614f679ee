"""Holders: with their constants multiplied, the value comes out multiplied, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphopt.analysis.channel_scaling import Holder, holders
from graphopt.analysis.shapes import infer
from graphopt.ir import Graph, decode, encode
from graphopt.storage.read import from_proto
from graphopt.storage.wire import join
from graphopt.testing import model

C = 6


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def graph_of(proto: ModelProto) -> Graph:
    source = from_proto(proto)
    return decode(source.proto, source.store)


def written(graph: Graph) -> ModelProto:
    encoded = encode(graph)
    return ModelProto.FromString(b"".join(join(encoded.proto, encoded.store)))


def found(text: str, axis: int = -1, opset: int = 21, **weights: Any) -> tuple[Graph, list[Holder] | str, ModelProto]:
    head = f'<ir_version: 10, opset_import: ["": {opset}]> '
    proto = model(head + text, **{name: np.asarray(values) for name, values in weights.items()})
    graph = graph_of(proto)
    return graph, holders(graph.outputs[0].inputs[0].inputs[0], axis, C, infer(graph)), proto


def scales(text: str, axis: int = -1, rank: int = 2, opset: int = 21, **weights: Any) -> list[str]:
    """Checks that the value, which an Exp reads, is multiplied; gives what took the factors."""
    graph, takers, before = found(text, axis, opset, **weights)
    assert not isinstance(takers, str), takers
    factors = np.exp(floats(C, seed=7))
    for one in takers:
        one.apply(factors)
    after = written(graph)
    x = floats(*[3, C, 5, 4][:rank] if axis != -1 else [*[3, 2][: rank - 1], C], seed=8)
    one, two = (np.log(ReferenceEvaluator(proto).run(None, {"x": x})[0]) for proto in (before, after))
    lined_up = factors.reshape([-1] + [1] * (-axis - 1))
    assert np.allclose(two, one * lined_up, rtol=1e-9, atol=1e-12)
    return [f"{one.node.op}.{one.slot}" for one in takers]


PLAIN = "g (double[N, 6] x) => (double[N, 6] y) {{ {}  y = Exp(v) }}"


@pytest.mark.parametrize(
    ("text", "takers"),
    [
        ("v = MatMul(x, w)", ["MatMul.1"]),
        ("a = MatMul(x, w)  v = Add(b, a)", ["Add.0", "MatMul.1"]),
        ("a = MatMul(x, w)  v = Sub(a, b)", ["MatMul.1", "Sub.1"]),
        ("v = Gemm(x, w, b)", ["Gemm.1", "Gemm.2"]),
        ("v = Gemm<transB = 1, alpha = 2.0, beta = 3.0>(x, w, s)", ["Gemm.1", "Gemm.2"]),
        ("a = MatMul(x, w)  c = Relu(a)  v = Identity(c)", ["MatMul.1"]),
        ("a = MatMul(x, w)  v = LeakyRelu(a)", ["MatMul.1"]),
        ("a = MatMul(x, w)  v = PRelu(a, b)", ["MatMul.1"]),
        ("a = MatMul(x, w)  z = Constant<value = double {0.0}>()  v = Clip(a, z)", ["MatMul.1"]),
        ("v = Mul(x, b)", ["Mul.1"]),
        ("v = Div(x, b)", ["Div.1"]),
        ("a = MatMul(x, w)  c = Exp(x)  v = Mul(c, a)", ["MatMul.1"]),
        ("a = MatMul(x, w)  c = MatMul(x, u)  v = Add(c, a)", ["MatMul.1", "MatMul.1"]),
        ("a = Mul(x, b)  v = Add(a, s)", ["Mul.1", "Add.1"]),
    ],
)
def test_products_and_what_lets_factors_through(text: str, takers: list[str]) -> None:
    weights = {"w": floats(C, C), "u": floats(C, C, seed=1), "b": np.abs(floats(C, seed=2)), "s": floats(1, seed=3)}
    used = {name: values for name, values in weights.items() if f"{name})" in text or f"{name}," in text}
    assert scales(PLAIN.format(text), **used) == takers


def test_normalizations() -> None:
    text = "v = LayerNormalization(x, w, b)"
    assert scales(PLAIN.format(text), w=floats(C), b=floats(C, seed=1)) == [
        "LayerNormalization.1",
        "LayerNormalization.2",
    ]
    planes = "g (double[N, 6, 5, 4] x) => (double[N, 6, 5, 4] y) {{ {}  y = Exp(v) }}"
    weights = {"s": floats(C), "b": floats(C, seed=1), "m": floats(C, seed=2), "r": np.abs(floats(C, seed=3))}
    text = planes.format("v = BatchNormalization(x, s, b, m, r)")
    assert scales(text, -3, 4, **weights) == ["BatchNormalization.1", "BatchNormalization.2"]


def test_convolutions() -> None:
    text = "g (double[N, 6, 5, 4] x) => (double[N, 6, A, B] y) {{ {}  y = Exp(v) }}"
    assert scales(text.format("v = Conv(x, w, b)"), -3, 4, w=floats(C, C, 3, 3) / 9, b=floats(C)) == [
        "Conv.1",
        "Conv.2",
    ]
    depthwise = "v = Conv<group = 6>(x, w)"
    assert scales(text.format(depthwise), -3, 4, w=floats(C, 1, 3, 3)) == ["Conv.1"]
    pooled = "a = Conv(x, w)  c = Relu(a)  v = MaxPool<kernel_shape = [2, 2]>(c)"
    assert scales(text.format(pooled), -3, 4, w=floats(C, C, 1, 1)) == ["Conv.1"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("v = Exp(x)", "Exp 'Exp(v)' does not take a factor for each channel"),
        ("v = Mul(x, s)", "has one number for all channels"),
        ("a = MatMul(x, w)  v = Add(a, x)", "'x' is an input, or made by an operator of another domain"),
        ("a = MatMul(x, w)  c = Exp(a)  d = Mul(c, c)  v = Add(a, d)", "'a' is read elsewhere too"),
        ("v = MatMul(w, x)", "MatMul 'MatMul(v)' does not take"),
        ("a = MatMul(x, w)  z = Constant<value = double {0.0}>()  v = Clip(a, z, s)", "Clip 'Clip(v)' does not take"),
        ("a = MatMul(x, w)  c = MatMul(a, w)  v = Add(a, c)", "'a' is read elsewhere too"),
        ("d = MatMul(x, w)  v = MatMul(d, w)", "'w' is read elsewhere too"),
    ],
)
def test_what_takes_no_factors_says_why(text: str, why: str) -> None:
    weights = {"w": floats(C, C), "s": np.asarray([2.0])}
    used = {name: values for name, values in weights.items() if name in text.replace("double", "")}
    _, takers, _ = found(PLAIN.format(text), **used)
    assert isinstance(takers, str)
    assert why in takers


def test_halves_are_not_rounded_anew() -> None:
    text = "g (float16[N, 6] x) => (float16[N, 6] y) { v = MatMul(x, w)  y = Exp(v) }"
    _, takers, _ = found(text, w=floats(C, C).astype(np.float16))
    assert isinstance(takers, str)
    assert "rounding it anew would show" in takers


def test_values_that_callers_may_give_are_not_constants() -> None:
    text = "g (double[N, 6] x, double[6, 6] w) => (double[N, 6] y) { v = MatMul(x, w)  y = Exp(v) }"
    _, takers, _ = found(text, w=floats(C, C))
    assert isinstance(takers, str)


def test_initializers_keep_their_dtype() -> None:
    graph, takers, _ = found(PLAIN.format("v = Gemm(x, w, b)"), w=floats(C, C), b=floats(C))
    assert not isinstance(takers, str)
    for one in takers:
        one.apply(np.full(C, 3.0))
    made = {one.name: numpy_helper.to_array(one) for one in written(graph).graph.initializer}
    assert made["w"].dtype == np.float64
    assert made["b"].shape == (C,)
