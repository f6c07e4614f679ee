"""equalize: the same function with evener weights, and every reason to leave a pair of layers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.testing import Applied, apply, assert_missed, model
from passes.quantize.equalize import Equalize


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def uneven(values: Any, axis: int = 0, seed: int = 5) -> Any:
    """Values whose indices along an axis span a thousand times more or less."""
    factors = np.exp(np.random.default_rng(seed).uniform(-3.5, 3.5, values.shape[axis]))
    lined_up = factors.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    return (values * lined_up).astype(np.float32)


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def peaks(values: Any, axis: int) -> Any:
    return np.abs(values).max(axis=tuple(i for i in range(values.ndim) if i != axis))


PAIR = """g (float[N, 3, 8, 8] x) => (float[N, 5, A, B] z) {{
    y = Conv(x, w, b)  {}  z = Conv<pads = [1, 1, 1, 1]>(r, v) }}"""
WEIGHTS = {"w": uneven(floats(6, 3, 3, 3)), "b": floats(6), "v": floats(5, 6, 3, 3, seed=1)}


@pytest.mark.parametrize(
    "between",
    [
        "r = Relu(y)",
        "r = LeakyRelu(y)",
        "r = Identity(y)",
        "s = Relu(y)  r = MaxPool<kernel_shape = [2, 2]>(s)",
        "zero = Constant<value = float {0.0}>()  r = Clip(y, zero)",
    ],
)
def test_both_sides_of_a_channel_come_to_span_the_same(between: str) -> None:
    proto = model(PAIR.format(between), **WEIGHTS)
    done = apply(Equalize(), proto)
    found = tensors(done.after)
    assert np.allclose(peaks(found["w"], 0), peaks(found["v"], 1), rtol=0.02)
    exact = np.sqrt(peaks(WEIGHTS["w"], 0) * peaks(WEIGHTS["v"], 1))
    assert np.allclose(peaks(found["w"], 0), exact, rtol=0.02)
    factors = peaks(WEIGHTS["w"], 0) / peaks(found["w"], 0)
    assert np.allclose(found["b"] * factors, WEIGHTS["b"], rtol=1e-5)
    assert "from Conv 'Conv(y)'" in done.applied[0].why
    assert done.after.ByteSize() == proto.ByteSize()


def test_depthwise_convolutions_in_a_chain() -> None:
    text = """g (float[N, 3, 8, 8] x) => (float[N, 4, A, B] z) {
        a = Conv(x, w)  p = Relu(a)  d = Conv<group = 6>(p, u, b)  q = PRelu(d, s)  z = Conv(q, v) }"""
    weights = {
        "w": uneven(floats(6, 3, 1, 1)),
        "u": uneven(floats(6, 1, 3, 3, seed=1), seed=8),
        "b": floats(6),
        "s": np.abs(floats(6, 1, 1)),
        "v": floats(4, 6, 1, 1, seed=2),
    }
    done = apply(Equalize(), model(text, **weights))
    found = tensors(done.after)
    assert len(done.applied) == 2
    sides = peaks(found["w"], 0), peaks(found["u"], 0), peaks(found["v"], 1)
    assert np.allclose(sides[0], sides[1], rtol=0.05)
    assert np.allclose(sides[1], sides[2], rtol=0.05)
    assert (found["s"] == weights["s"]).all()


def test_groups_of_more_than_one_channel() -> None:
    text = """g (float[N, 3, 8, 8] x) => (float[N, 4, A, B] z) {
        a = Conv(x, w)  p = Relu(a)  z = Conv<group = 2>(p, v) }"""
    weights = {"w": uneven(floats(6, 3, 1, 1)), "v": floats(4, 3, 3, 3, seed=2)}
    done = apply(Equalize(), model(text, **weights))
    found = tensors(done.after)
    behind = np.concatenate([peaks(half, 1) for half in np.split(found["v"], 2)])
    assert np.allclose(peaks(found["w"], 0), behind, rtol=0.02)


def test_products_and_transposed_convolutions() -> None:
    text = """g (float[N, 8] x, float[N, 3, 4, 4] i) => (float[N, 4] z, float[N, 2, A, B] o) {
        a = MatMul(x, w)  h = Add(a, b)  r = Relu(h)  z = Gemm<transB = 1>(r, v, c)
        t = ConvTranspose(i, k)  u = Relu(t)  o = ConvTranspose(u, m) }"""
    weights = {"w": uneven(floats(8, 6), 1), "b": floats(6), "v": floats(4, 6, seed=1), "c": floats(4)}
    weights |= {"k": uneven(floats(3, 5, 2, 2), 1), "m": floats(5, 2, 3, 3)}
    done = apply(Equalize(), model(text, **weights))
    found = tensors(done.after)
    assert len(done.applied) == 2
    assert np.allclose(peaks(found["w"], 1), peaks(found["v"], 1), rtol=0.02)
    assert np.allclose(peaks(found["k"], 1), peaks(found["m"], 0), rtol=0.02)
    assert (found["c"] == weights["c"]).all()


def test_sums_and_several_readers_share_factors() -> None:
    text = """g (float[N, 3, 8, 8] x) => (float[N, 4, A, B] z, float[N, 4, A, B] y) {
        a = Conv(x, w)  b = Conv(x, u)  s = Add(a, b)  r = Relu(s)  z = Conv(r, v)  y = Conv(r, k) }"""
    weights = {"w": uneven(floats(6, 3, 1, 1)), "u": floats(6, 3, 1, 1, seed=1)}
    weights |= {"v": floats(4, 6, 1, 1, seed=2), "k": floats(4, 6, 1, 1, seed=3)}
    done = apply(Equalize(), model(text, **weights))
    found = tensors(done.after)
    (remark,) = done.applied
    assert "from Conv 'Conv(a)' and Conv 'Conv(b)'" in remark.why
    before = np.maximum(peaks(found["w"], 0), peaks(found["u"], 0))
    assert np.allclose(before, np.maximum(peaks(found["v"], 1), peaks(found["k"], 1)), rtol=0.02)


def test_dead_channels_stay_as_they_are() -> None:
    weights = {name: values.copy() for name, values in WEIGHTS.items()}
    weights["w"][2] = 0
    weights["v"][:, 4] = 0
    done = apply(Equalize(), model(PAIR.format("r = Relu(y)"), **weights))
    found = tensors(done.after)
    assert (found["w"][[2, 4]] == weights["w"][[2, 4]]).all()
    assert (found["b"][[2, 4]] == weights["b"][[2, 4]]).all()


def test_weights_in_constant_nodes_bodies_and_functions() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N, 6] x) => (float[N, 6] z) {
            y = If(c)<then_branch = t () => (float[N, 6] o) { p = MatMul(x, w)  q = Relu(p)  o = MatMul(q, v) },
                      else_branch = e () => (float[N, 6] o) { o = Relu(x) }>
            z = local.dense(y)
        }
        <domain: "local", opset_import: ["": 21]>
        dense (a) => (c) { b = MatMul(a, k)  d = Relu(b)  c = MatMul(d, m) }"""
    proto = model(text, w=uneven(floats(6, 6), 1), v=floats(6, 6, seed=1))
    for name, values in (("k", uneven(floats(6, 6, seed=2), 1)), ("m", floats(6, 6, seed=3))):
        held = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values, ""))
        proto.functions[0].node.insert(0, held)
    done = apply(Equalize(), proto)
    assert sorted(one.scope for one in done.applied) == ["If(y).then_branch", "function local.dense"]


def missed(text: str, why: str, pass_: Equalize | None = None, **weights: Any) -> Applied:
    done = apply(pass_ or Equalize(), model(text, **weights))
    assert_missed(done, "equalize", why)
    assert done.after == done.before
    return done


def test_what_lets_no_factors_through_is_left() -> None:
    bound = "low = Constant<value = float {0.0}>()  high = Constant<value = float {6.0}>()  r = Clip(y, low, high)"
    missed(PAIR.format(bound), "Clip 'Clip(r)' does not take a factor for each channel", **WEIGHTS)
    missed(PAIR.format("r = HardSwish(y)"), "HardSwish 'HardSwish(r)' does not take", **WEIGHTS)
    missed(PAIR.format("r = Add(y, y)"), "'y' is read elsewhere too", **WEIGHTS)
    missed(PAIR.format("q = Exp(y)  r = Relu(q)"), "Exp 'Exp(q)' does not take", **WEIGHTS)


def test_values_that_something_else_reads_are_left() -> None:
    text = PAIR.format("r = Relu(y)").replace("z)", "z, float[N, 6, C, D] r)", 1)
    missed(text, "'r' is a graph output", **WEIGHTS)
    text = PAIR.format("r = Relu(y)  s = Exp(r)").replace("z)", "z, float[N, 6, C, D] s)", 1)
    missed(text, "Exp 'Exp(s)' reads 'r', and does not multiply it by weights", **WEIGHTS)
    text = "g (float[N, 6] x) => (float[N, 6] y) { a = MatMul(x, w)  y = MatMul(a, w) }"
    missed(text, "is read elsewhere too", w=floats(6, 6))
    missed("g (float[N, 6] x) => (float[N, 6] y) { y = MatMul(x, w) }", "'x' is an input", w=floats(6, 6))
    text = "g (float[N, 6] x) => (float[N, 6] y) { a = Mul(x, b)  y = MatMul(a, w) }"
    missed(text, "no weights make the channels of 'a'", w=floats(6, 6), b=floats(6))


def test_even_and_unwanted_pairs_are_left() -> None:
    even = {"w": np.ones((6, 3, 3, 3), np.float32), "b": floats(6), "v": np.ones((5, 6, 3, 3), np.float32)}
    missed(PAIR.format("r = Relu(y)"), "no factor reaches min-factor=1.1", **even)
    missed(PAIR.format("r = Relu(y)"), "skip has 'v'", Equalize(skip=("v",)), **WEIGHTS)
    missed(PAIR.format("r = Relu(y)"), "only has no pattern", Equalize(only=("w",)), **WEIGHTS)
    broken = {name: values.copy() for name, values in WEIGHTS.items()}
    broken["w"][0, 0, 0, 0] = np.nan
    done = apply(Equalize(), model(PAIR.format("r = Relu(y)"), **broken), feeds=())
    assert_missed(done, "equalize", "NaN or infinities")


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="min-factor must be more than"):
        Equalize(min_factor=1)


@pytest.mark.skipif("GRAPHOPT_CORPUS" not in os.environ, reason="GRAPHOPT_CORPUS does not name a folder of real models")
def test_a_residual_network_keeps_its_function() -> None:
    path = Path(os.environ["GRAPHOPT_CORPUS"]) / "models" / "resnet_4b_cifar10.onnx"
    if not path.is_file():
        pytest.skip("the corpus has no resnet_4b_cifar10.onnx")
    assert apply(Equalize(), onnx.load(path)).applied


def test_weights_without_elements() -> None:
    before = model(
        "g (float[2, 4] x) => (float[2, 3] y) { a = MatMul(x, u)  y = MatMul(a, w) }",
        u=np.zeros((4, 0), np.float32), w=np.zeros((0, 3), np.float32),
    )  # fmt: skip
    assert apply(Equalize(), before, feeds=[{"x": np.ones((2, 4), np.float32)}]).after == before
