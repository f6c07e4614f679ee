"""attention: what is written out becomes ONNX's operator where a kernel takes it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.attention import Attention

OP = "y = Attention<kv_num_heads=2, q_num_heads=2, scale=0.5>"
TURN = "Transpose<perm=[0, 2, 1, 3]>"
FRONT = f"""a = Reshape(q, cut) b = Reshape(k, cut) c = Reshape(v, cut) d = {TURN}(a)
    e = Transpose<perm=[0, 2, 3, 1]>(b) f = {TURN}(c)"""
SCORES = "p = MatMul(d, e) s = Mul(p, half)"
BACK = f"w = Softmax(s) o = MatMul(w, f) t = {TURN}(o) y = Reshape(t, join)"
MASKED = BACK.replace("Softmax(s)", "Softmax(x)")


def attention(
    nodes: str, sizes: str = "2, 3, 5", mask: str = "", opset: int = 23, pass_: Attention | None = None, **weights: Any
) -> Applied:
    """The pass on `nodes` with batch, number of queries and number of keys in `sizes`."""
    batch, queries, keys = sizes.split(", ")
    known: dict[str, Any] = {
        "cut": np.array([0, 0, 2, 4]),
        "join": np.array([0, 0, 8]),
        "half": np.float32(0.5),
        "minus": np.float32(-0.5),
    } | weights
    words = set(re.findall(r"\w+", nodes))
    more = f", float[{mask}] m" if mask else ""
    text = f"""<ir_version: 10, opset_import: ["": {opset}]>
    g (float[{batch}, {queries}, 8] q, float[{batch}, {keys}, 8] k, float[{batch}, {keys}, 8] v{more}) =>
        (float[{batch}, {queries}, 8] y) {{ {nodes} }}"""
    given = {name: one for name, one in known.items() if name in words}
    return apply(pass_ or Attention(), model(text, **given))


@pytest.mark.parametrize("opset", [23, 24])
def test_the_usual_form(opset: int) -> None:
    assert attention(f"{FRONT} {SCORES} {BACK}", opset=opset).body == f"{OP}(q, k, v)"


@pytest.mark.parametrize("opset", [22, 25])
def test_opsets_without_a_kernel(opset: int) -> None:
    done = attention(f"{FRONT} {SCORES} {BACK}", opset=opset)
    assert not done.applied
    assert_missed(done, "attention", f"needs opset 23 or 24, the model has {opset}")


@pytest.mark.parametrize(("sizes", "size"), [("B, 3, 5", "B"), ("2, S, 5", "S"), ("2, 3, L", "L")])
def test_sizes_that_may_be_0(sizes: str, size: str) -> None:
    done = attention(f"{FRONT} {SCORES} {BACK}", sizes)
    assert not done.applied
    assert_missed(done, "attention", f"the size {size} may be 0")
    assert attention(f"{FRONT} {SCORES} {BACK}", sizes, pass_=Attention(empty=False)).body == f"{OP}(q, k, v)"


@pytest.mark.parametrize("mask", ["2, 2, 3, 5", "1, 1, 3, 5", "2, 1, 3, 5"])
def test_masks(mask: str) -> None:
    assert attention(f"{FRONT} {SCORES} x = Add(s, m) {MASKED}", mask=mask).body == f"{OP}(q, k, v, m)"


@pytest.mark.parametrize("mask", ["2, 1, 1, 5", "5", "3, 5", "3, 1", "1"])
def test_masks_that_are_expanded(mask: str) -> None:
    done = attention(f"{FRONT} {SCORES} x = Add(m, s) {MASKED}", mask=mask)
    assert done.body.splitlines() == ["m_rows = Expand(m, mask_shape)", f"{OP}(q, k, v, m_rows)"]


def test_a_mask_for_queries_whose_number_is_not_known() -> None:
    done = attention(f"{FRONT} {SCORES} x = Add(m, s) {MASKED}", "2, S, 5", mask="5", pass_=Attention(empty=False))
    assert done.body.splitlines()[0] == "queries = Shape<end=2, start=1>(q)"


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        (f"{FRONT} p = MatMul(d, e) s = Mul(p, minus) {BACK}", "the products are scaled by -0.5"),
        (f"{FRONT} {SCORES} {BACK}".replace("Softmax(s)", "Softmax<axis=1>(s)"), "not over the last axis"),
    ],
)
def test_what_is_no_attention(nodes: str, why: str) -> None:
    done = attention(nodes)
    assert not done.applied
    assert_missed(done, "attention", why)


def test_keys_with_the_heads_in_front() -> None:
    text = f"""<ir_version: 10, opset_import: ["": 23]>
    g (float[2, 3, 8] q, float[2, 2, 5, 4] k, float[2, 2, 5, 4] v) => (float[2, 3, 8] y) {{
        a = Reshape(q, cut) d = {TURN}(a) e = Transpose<perm=[0, 1, 3, 2]>(k) p = MatMul(d, e) w = Softmax(p)
        o = MatMul(w, v) t = {TURN}(o) y = Reshape(t, join) }}"""
    done = apply(Attention(), model(text, cut=np.array([0, 0, 2, 4]), join=np.array([0, 0, 8])))
    assert not done.applied
    assert_missed(done, "attention", "key and value have the heads in front")


@pytest.mark.parametrize("kind", ["double", "float16"])
def test_other_element_types(kind: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 23]> g ({kind}[2, 3, 8] q, {kind}[2, 5, 8] k, {kind}[2, 5, 8] v) =>
        ({kind}[2, 3, 8] y) {{ {FRONT} s = MatMul(d, e) {BACK} }}"""
    done = apply(Attention(), model(text, cut=np.array([0, 0, 2, 4]), join=np.array([0, 0, 8])))
    assert not done.applied
    assert_missed(done, "attention", "not known to be float32")


def test_one_packed_value() -> None:
    text = f"""<ir_version: 10, opset_import: ["": 23]> g (float[2, 3, 24] q) => (float[2, 3, 8] y) {{
        r = Reshape(q, cut) u = Transpose<perm=[2, 0, 3, 1, 4]>(r) d = Gather(u, i) k = Gather(u, j) f = Gather(u, l)
        e = Transpose<perm=[0, 1, 3, 2]>(k) {SCORES} {BACK} }}"""
    weights = {"cut": np.array([0, 0, 3, 2, 4]), "join": np.array([0, 0, 8]), "half": np.float32(0.5)}
    done = apply(Attention(), model(text, i=np.array(0), j=np.array(1), l=np.array(2), **weights))
    assert done.body.splitlines() == [
        "q_part, q_part_1, q_part_2 = Split<axis=-1, num_outputs=3>(q)",
        f"{OP}(q_part, q_part_1, q_part_2)",
    ]
