"""ort-attention: what only looks like attention, and what others need, stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attention_models import KNOWN, OP, STEPS, TURN, attention, text_of

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.attention import OrtAttention


@pytest.mark.parametrize(
    ("changed", "sizes", "why"),
    [
        ({"w": "Softmax<axis=2>(s)"}, {}, "its Softmax is not over the last axis"),
        ({"w": "Softmax<axis=1>(s)"}, {}, "its Softmax is not over the last axis"),
        ({"t": "Transpose<perm=[0, 2, 3, 1]>(o)"}, {}, "the Transpose behind it has perm"),
        ({"qt": "Transpose<perm=[0, 2, 1, 3]>(qn)", "qn": "Neg(qh)"}, {}, "made in different ways"),
        ({"qs": "Mul(qt, vector)", "p": "MatMul(qs, kt)"}, {}, "made in different ways"),
        ({"vs": "Mul(vt, half)", "o": "MatMul(w, vs)"}, {}, "made in different ways"),
        ({"s": "Mul(p, minus)"}, {}, "the products are scaled by -1.0"),
        ({"t": f"{TURN}(o)"}, {"q": "1, S, 8", "shape": "B, S, 8"}, "the batch sizes of query, key and value"),
        ({}, {"v": "B, M, 8"}, "key and value are not known to be of the same length"),
        ({}, {"k": "1, L, 8"}, "the batch sizes of query, key and value"),
        ({}, {"v": "1, L, 8"}, "the batch sizes of query, key and value"),
    ],
)
def test_what_is_no_attention(changed: dict[str, str], sizes: dict[str, str], why: str) -> None:
    feeds: Any = _feeds({"q": "B, S, 8", "k": "B, L, 8", "v": "B, L, 8"} | sizes)
    done = attention(changed, feeds=feeds, **sizes)
    assert not done.applied
    assert_missed(done, "attention", why)


def _feeds(shapes: dict[str, str]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    sizes = {"B": 3, "S": 4, "L": 5, "M": 5}
    dims = {one: [sizes.get(dim) or int(dim) for dim in shapes[one].split(", ")] for one in ("q", "k", "v")}
    return [{name: rng.standard_normal(shape).astype(np.float32) for name, shape in dims.items()}]


@pytest.mark.parametrize("name", ["qh", "kh", "vh", "qt", "kt", "vt", "p", "s", "w", "o", "t"])
def test_inner_values_that_are_graph_outputs(name: str) -> None:
    done = attention(outputs=f", float[A0, A1, A2, A3] {name}")
    assert not done.applied
    assert done.after == done.before


@pytest.mark.parametrize("name", ["qh", "kh", "vh", "qt", "kt", "vt", "p", "s", "w", "o", "t"])
def test_inner_values_that_others_read(name: str) -> None:
    done = attention({"z": f"Exp({name})"}, outputs=", float[A0, A1, A2, A3] z")
    assert not done.applied
    assert done.after == done.before


def test_weights_that_stand_on_the_right() -> None:
    done = attention({"o": "MatMul(vt, w)"}, q="B, 4, 8", k="B, 4, 8", v="B, 4, 8", shape="B, 4, 8")
    assert not done.applied


def test_keys_that_are_not_turned() -> None:
    sizes = {"q": "B, 4, 8", "k": "B, 4, 8", "v": "B, 4, 8", "shape": "B, 4, 8"}
    done = attention({"kt": f"{TURN}(kh)"}, **sizes)
    assert not done.applied
    assert_missed(done, "attention", "'kt' is not made from heads by a Transpose that fits")


@pytest.mark.parametrize(
    ("changed", "cut", "sizes", "why"),
    [
        ({"kh": "Reshape(k, other)"}, [0, 0, 1, 4], {"k": "B, L, 4"}, "the numbers of heads"),
        ({"vh": "Reshape(v, other)"}, [0, 0, 1, 4], {"v": "B, L, 4"}, "the numbers of heads"),
        ({"kh": "Reshape(k, other)"}, [-1, 5, 2, 4], {}, "'kt' is not made from heads"),
        ({"vh": "Reshape(v, other)"}, [3, -1, 2, 4], {}, "made in different ways"),
    ],
)
def test_other_cuts_into_heads(changed: dict[str, str], cut: list[int], sizes: dict[str, str], why: str) -> None:
    feeds: Any = _feeds({"q": "B, S, 8", "k": "B, L, 8", "v": "B, L, 8"} | sizes)
    done = attention(changed, feeds=feeds, other=np.array(cut), **sizes)
    assert not done.applied
    assert_missed(done, "attention", why)


def test_a_softmax_before_opset_13_goes_over_several_axes() -> None:
    done = attention({"w": "Softmax(s)"}, opset=11)
    assert not done.applied
    assert_missed(done, "attention", "its Softmax is not over the last axis")


@pytest.mark.parametrize("kind", ["double", "float16"])
def test_other_element_types(kind: str) -> None:
    dtype = np.float64 if kind == "double" else np.float16
    text = text_of(STEPS, "float[B, S, 8] q, float[B, L, 8] k, float[B, L, 8] v").replace("float[", f"{kind}[")
    numbers = {"cut": KNOWN["cut"], "join": KNOWN["join"], "half": np.asarray(0.5, dtype)}
    done = apply(OrtAttention(), model(text, **numbers))
    assert not done.applied
    assert_missed(done, "attention", "it is not known to be float32")


def test_a_scale_of_more_dims() -> None:
    done = attention({"s": "Mul(p, wide)", "w": "Softmax<axis=-1>(r)", "r": "Squeeze(s, first)"}, first=np.array([0]))
    assert not done.applied


def test_an_operator_of_the_model_with_that_name() -> None:
    text = text_of(STEPS, "float[B, S, 8] q, float[B, L, 8] k, float[B, L, 8] v")
    text = text.replace('"": 17', '"": 17, "com.microsoft": 1')
    text += """<domain: "com.microsoft", opset_import: ["": 17]> MultiHeadAttention (a) => (b) { b = Neg(a) }"""
    done = apply(OrtAttention(), model(text, **{name: KNOWN[name] for name in ("cut", "join", "half")}))
    assert not done.applied
    assert_missed(done, "attention", "a function of its own")


def body_of(lines: dict[str, str]) -> str:
    return " ".join(f"{name} = {call}" for name, call in lines.items())


def in_a_body(inner: dict[str, str], outer: dict[str, str]) -> Applied:
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    g (float[B, S, 8] q, float[B, L, 8] k, float[B, L, 8] v, bool c) => (float[B, S, 8] r) {{ {body_of(outer)}
        r = If(c) <then_branch = t () => (float[B, S, 8] y) {{ {body_of(inner)} }},
                   else_branch = e () => (float[B, S, 8] n) {{ n = Neg(q) }}> }}"""
    return apply(OrtAttention(), model(text, **{name: KNOWN[name] for name in ("cut", "join", "half")}))


def test_in_a_body_of_values_outside() -> None:
    assert f"y = {OP}<num_heads=2, scale=0.5>(q, k, v)" in in_a_body(STEPS, {}).body


@pytest.mark.parametrize("name", ["qh", "kt", "w", "t"])
def test_inner_values_of_another_graph(name: str) -> None:
    names = list(STEPS)
    last = names.index(name) + 1
    outer = {one: STEPS[one] for one in names[:last]}
    done = in_a_body({one: STEPS[one] for one in names[last:]}, outer)
    assert not done.applied


def test_in_a_function() -> None:
    nodes = body_of(STEPS)
    text = f"""<ir_version: 8, opset_import: ["": 17, "own": 1]>
    g (float[3, 4, 8] q, float[3, 5, 8] k, float[3, 5, 8] v, int64[4] cut, int64[3] join, float half) =>
        (float[3, 4, 8] y) {{ y = own.f(q, k, v, cut, join, half) }}
    <domain: "own", opset_import: ["": 17]> f (q, k, v, cut, join, half) => (y) {{ {nodes} }}"""
    done = apply(OrtAttention(), model(text), feeds=[])
    assert not done.applied, "nothing is known of the sizes in a function"
