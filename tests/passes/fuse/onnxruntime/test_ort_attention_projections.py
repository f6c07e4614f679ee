"""ort-attention-projections: attention multiplies by the weights of query, key and value itself."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from attention_models import OP
from onnx import numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.attention import OrtAttention
from passes.fuse.onnxruntime.attention_projections import OrtAttentionProjections

RNG = np.random.default_rng(2)
W = RNG.standard_normal((6, 24)).astype(np.float32)
B = RNG.standard_normal(24).astype(np.float32)
FRONT = "p = MatMul(x, w) s = Add(p, b) q, k, v = Split<axis=-1>(s)"
HEADS = f"y = {OP}<num_heads=2, scale=0.5>"
PROJECTED = "com.microsoft.Attention<num_heads=2, scale=0.5>"


def projected(
    text: str,
    x: str = "N, S, 6",
    more: str = "",
    outputs: str = "",
    shape: str = "N, S, 8",
    feeds: Any = None,
    **weights: Any,
) -> Applied:
    known: dict[str, Any] = {"w": W, "b": B, "c": B} | weights
    words = set(re.findall(r"\w+", text))
    head = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'
    proto = model(
        f"{head} g (float[{x}] x{more}) => (float[{shape}] y{outputs}) {{ {text} }}",
        **{name: one for name, one in known.items() if name in words},
    )
    return apply(OrtAttentionProjections(), proto, feeds=feeds)


def array(done: Applied, name: str) -> Any:
    return numpy_helper.to_array(next(one for one in done.after.graph.initializer if one.name == name))


@pytest.mark.parametrize("front", [FRONT, FRONT.replace("(p, b)", "(b, p)"), FRONT.replace("axis=-1", "axis=2")])
def test_projections(front: str) -> None:
    done = projected(f"{front} {HEADS}(q, k, v)")
    assert done.body == f"y = {PROJECTED}(x, w, b)"
    assert np.array_equal(array(done, "w"), W)


def test_without_a_bias() -> None:
    done = projected(f"p = MatMul(x, w) q, k, v = Split<axis=-1>(p) {HEADS}(q, k, v)")
    assert done.body == f"y = {PROJECTED}(x, w)"


def test_with_a_mask() -> None:
    done = projected(f"{FRONT} {HEADS}(q, k, v, , , m)", more=", float[N, 1, S, S] m")
    assert done.body == f"y = {PROJECTED}(x, w, b, , , m)"
    text = f"p = MatMul(x, w) q, k, v = Split<axis=-1>(p) {HEADS}(q, k, v, , , m)"
    assert projected(text, more=", float[1, 2, S, S] m").body == f"y = {PROJECTED}(x, w, , , , m)"


def test_parts_in_another_order() -> None:
    done = projected(f"{FRONT} {HEADS}(v, q, k)")
    assert done.body == f"y = {PROJECTED}(x, w, b)"
    assert np.array_equal(array(done, "w"), np.concatenate([W[:, 16:], W[:, :8], W[:, 8:16]], axis=1))
    assert np.array_equal(array(done, "b"), np.concatenate([B[16:], B[:8], B[8:16]]))


@pytest.mark.parametrize("name", ["w", "b"])
def test_shared_weights_in_another_order(name: str) -> None:
    more = {"outputs": f", float[{'6, 24' if name == 'w' else '24'}] z"}
    done = projected(f"{FRONT} {HEADS}(v, q, k) z = Neg({name})", **more)
    assert not done.applied
    assert_missed(done, "projections", f"the parts of '{name}' are in another order, and it is read by others too")
    assert projected(f"{FRONT} {HEADS}(q, k, v) z = Neg({name})", **more).applied


@pytest.mark.parametrize(
    ("text", "more", "why"),
    [
        (f"{FRONT} {HEADS}(q, k, v, d)", ", float[24] d", "it has the input 3, bias"),
        (f"{FRONT} {HEADS}(q, k, v, , d)", ", int32[N] d", "it has the input 4, key_padding_mask"),
        (f"{FRONT} y = {OP}<num_heads=2, unidirectional=1>(q, k, v)", "", "it is causal"),
        (f"{FRONT} {HEADS}(q, k, v)".replace("b)", "c2)"), ", float[24] c2", ""),
        (f"{FRONT} {HEADS}(q, k, v)".replace(" w)", " u)"), ", float[6, 24] u", "no constant float32 matrix"),
        (f"p = Add(x, b) q, k, v = Split<axis=-1>(p) {HEADS}(q, k, v)", "", ""),
        (f"{FRONT} {HEADS}(q, q, v)", "", ""),
        (f"{FRONT} e = Neg(k) {HEADS}(q, e, v)", "", ""),
    ],
)
def test_what_stays(text: str, more: str, why: str) -> None:
    x = "N, S, 24" if "Add(x, b)" in text else "N, S, 6"
    feeds = None
    if "int32" in more:
        feeds = [{"x": RNG.standard_normal((2, 3, 6)).astype(np.float32), "d": np.array([2, 3], np.int32)}]
    done = projected(text, x, more, feeds=feeds)
    assert not done.applied
    if why:
        assert_missed(done, "projections", why)


def test_weights_of_more_dims() -> None:
    done = projected(f"{FRONT} {HEADS}(q, k, v)", w=np.stack([W]))
    assert not done.applied
    assert_missed(done, "projections", "its weights are no constant float32 matrix")


@pytest.mark.parametrize("bias", [np.float32(1), np.ones((1, 24), np.float32), np.ones(1, np.float32)])
def test_biases_of_other_shapes(bias: Any) -> None:
    done = projected(f"{FRONT} {HEADS}(q, k, v)", b=bias)
    assert not done.applied
    assert_missed(done, "projections", "its bias is no constant vector")


def test_parts_of_different_sizes() -> None:
    front = FRONT.replace("(s)", "(s, cuts)")
    done = projected(f"{front} {HEADS}(q, k, v)", cuts=np.array([6, 6, 12]), shape="N, S, 12")
    assert not done.applied
    assert_missed(done, "projections", "not known to be of one size")


@pytest.mark.parametrize("name", ["p", "s", "q", "k", "v"])
def test_values_that_others_read(name: str) -> None:
    width = 24 if name in "ps" else 8
    done = projected(f"{FRONT} {HEADS}(q, k, v) z = Neg({name})", outputs=f", float[N, S, {width}] z")
    assert not done.applied
    done = projected(f"{FRONT} {HEADS}(q, k, v)", outputs=f", float[N, S, {width}] {name}")
    assert not done.applied
    assert done.after == done.before


def test_in_a_body_of_products_outside() -> None:
    inner = f"{HEADS}(q, k, v)"
    for outside, inside in ((FRONT, inner), ("", f"{FRONT} {inner}")):
        text = f"""<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        g (float[N, S, 6] x, bool t) => (float[N, S, 8] r) {{ {outside}
            r = If(t) <then_branch = a () => (float[N, S, 8] y) {{ {inside} }},
                       else_branch = e () => (float[N, S, 8] z) {{ z = MatMul(x, u) }}> }}"""
        done = apply(OrtAttentionProjections(), model(text, w=W, b=B, u=W[:, :8]))
        assert bool(done.applied) == (not outside)


def test_both_passes_in_turn() -> None:
    cut = "Reshape({}, cut)"
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    g (float[N, S, 6] x, float[N, 1, 1, S] m) => (float[N, S, 8] y) {{
        {FRONT} a = {cut.format("q")} c = {cut.format("k")} e = {cut.format("v")}
        f = Transpose<perm=[0, 2, 1, 3]>(a) h = Transpose<perm=[0, 2, 3, 1]>(c) i = Transpose<perm=[0, 2, 1, 3]>(e)
        j = MatMul(f, h) l = Div(j, two) n = Add(l, m) o = Softmax(n) r = MatMul(o, i)
        t = Transpose<perm=[0, 2, 1, 3]>(r) y = Reshape(t, join) }}"""
    weights = {"w": W, "b": B, "cut": np.array([0, 0, 2, 4]), "join": np.array([0, 0, 8]), "two": np.float32(2)}
    done = apply(Pipeline((OrtAttention(), OrtAttentionProjections())), model(text, **weights))
    assert done.body.splitlines() == [
        "queries = Shape<end=2, start=1>(x)",
        "mask_shape = Concat<axis=0>(ones, queries, columns)",
        "m_rows = Expand(m, mask_shape)",
        f"y = {PROJECTED}(x, w, b, , , m_rows)",
    ]
