"""ort-matmul: transposes and numbers around a MatMul."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.matmul import OrtMatmul

QK = "float[N, 2, 3, 4] q, float[N, 2, 5, 4] k"
EIGHT = np.float32(8)


def product(
    text: str, inputs: str = QK, outputs: str = "float[N, 2, 3, 5] y", opset: int = 17, **weights: Any
) -> Applied:
    header = f'<ir_version: 8, opset_import: ["": {opset}]>'
    return apply(OrtMatmul(), model(f"{header} g ({inputs}) => ({outputs}) {{ {text} }}", **weights))


@pytest.mark.parametrize("opset", [9, 13, 17])
@pytest.mark.parametrize(
    ("text", "alpha"),
    [
        ("t = Transpose<perm=[0,1,3,2]>(k) y = MatMul(q, t)", "1"),
        ("t = Transpose<perm=[0,1,3,2]>(k) m = MatMul(q, t) y = Div(m, c)", "0.125"),
        ("t = Transpose<perm=[0,1,3,2]>(k) m = MatMul(q, t) y = Mul(c, m)", "8"),
        ("d = Div(q, c) t = Transpose<perm=[0,1,3,2]>(k) y = MatMul(d, t)", "0.125"),
        ("d = Mul(q, c) e = Mul(k, c) t = Transpose<perm=[0,1,3,2]>(e) y = MatMul(d, t)", "64"),
        ("t = Transpose<perm=[0,1,3,2]>(k) e = Mul(t, c) m = MatMul(q, e) y = Div(m, c)", "1"),
    ],
)
def test_transposes_and_numbers(text: str, alpha: str, opset: int) -> None:
    done = product(text, opset=opset, **({"c": EIGHT} if "c)" in text or "(c" in text else {}))
    assert done.body == f"y = com.microsoft.FusedMatMul<alpha={alpha}, transA=0, transB=1>(q, k)"
    assert not done.after.graph.initializer


def test_both_sides_and_a_transpose_without_perm() -> None:
    text = "a = Transpose(x) b = Transpose(w) y = MatMul(a, b)"
    done = product(text, "float[4, N] x", "float[N, 6] y", w=np.ones((6, 4), np.float32))
    assert done.body == "y = com.microsoft.FusedMatMul<alpha=1, transA=1, transB=1>(x, w)"


def test_two_transposes_are_none() -> None:
    text = "a = Transpose<perm=[1,0]>(x) b = Transpose<perm=[1,0]>(a) m = MatMul(b, w) y = Mul(m, c)"
    done = product(text, "float[N, 4] x", "float[N, 6] y", w=np.ones((4, 6), np.float32), c=EIGHT)
    assert done.body == "y = com.microsoft.FusedMatMul<alpha=8, transA=0, transB=0>(x, w)"


def test_a_vector_times_a_transposed_matrix() -> None:
    text = "t = Transpose<perm=[1,0]>(k) y = MatMul(q, t)"
    done = product(text, "float[4] q, float[N, 4] k", "float[N] y")
    assert done.body == "y = com.microsoft.FusedMatMul<alpha=1, transA=0, transB=1>(q, k)"


def test_a_transpose_for_several_products() -> None:
    text = "t = Transpose<perm=[1,0]>(x) a = MatMul(t, w) b = MatMul(t, v) y = Add(a, b)"
    weights = {"w": np.ones((4, 6), np.float32), "v": np.full((4, 6), 2, np.float32)}
    done = product(text, "float[4, N] x", "float[N, 6] y", **weights)
    assert done.body.splitlines()[:2] == [
        "a = com.microsoft.FusedMatMul<alpha=1, transA=1, transB=0>(x, w)",
        "b = com.microsoft.FusedMatMul<alpha=1, transA=1, transB=0>(x, v)",
    ]
    assert "Transpose" not in done.body


def test_a_fused_product_is_scaled() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g (float[N, 3, 4] q, float[N, 5, 4] k)
        => (float[N, 3, 5] y) { m = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(q, k) y = Mul(m, c) }"""
    done = apply(OrtMatmul(), model(text, c=EIGHT))
    assert done.body == "y = com.microsoft.FusedMatMul<alpha=4, transA=0, transB=1>(q, k)"


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("y = MatMul(q, k)", {}),
        ("t = Transpose<perm=[0,2,3,1]>(k) u = Transpose<perm=[0,2,1,3]>(q) y = MatMul(u, t)", {}),
        ("m = MatMul(q, k) y = Mul(m, c)", {"c": np.ones((4,), np.float32)}),
        ("m = MatMul(q, k) y = Mul(m, c)", {"c": np.ones((1, 1, 1, 1, 1), np.float32)}),
        ("m = MatMul(q, k) y = Mul(m, c)", {"c": np.float32(0)}),
        ("m = MatMul(q, k) y = Div(c, m)", {"c": np.float32(2)}),
    ],
)
def test_what_does_not_fit_stays(text: str, weights: dict[str, Any]) -> None:
    rank = "1, N" if weights.get("c", EIGHT).ndim == 5 else "N"
    header = f"g (float[N, 2, 4, 4] q, float[N, 2, 4, 4] k) => (float[{rank}, A, B, C] y)"
    rng = np.random.default_rng(0)
    feeds = [{name: rng.standard_normal((2, 2, 4, 4)).astype(np.float32) for name in ("q", "k")}]
    done = apply(OrtMatmul(), model(f"{header} {{ {text} }}", **weights), feeds=feeds)
    assert done.after == done.before


def test_a_transpose_that_others_read_stays() -> None:
    text = "t = Transpose<perm=[0,1,3,2]>(k) y = MatMul(q, t) z = Shape(t)"
    done = product(text, outputs="float[N, 2, 3, 5] y, int64[4] z")
    assert done.after == done.before


def test_other_dtypes_stay() -> None:
    text = "t = Transpose<perm=[0,1,3,2]>(k) y = MatMul(q, t)"
    done = product(text, QK.replace("float", "double"), "double[N, 2, 3, 5] y")
    assert_missed(done, "matmul", "not known to be float32")
    assert done.after == done.before


def test_in_bodies() -> None:
    text = """t = Transpose<perm=[0,1,3,2]>(k) y = If(p) <
        then_branch = a () => (float[N, 2, 3, 5] u) { u = MatMul(q, t) },
        else_branch = b () => (float[N, 2, 3, 5] v) { s = Transpose<perm=[0,1,3,2]>(k) v = MatMul(q, s) }
    >"""
    done = product(text, f"{QK}, bool p")
    assert "u = MatMul(q, t)" in done.body, "the Transpose is in another graph"
    assert "v = com.microsoft.FusedMatMul<alpha=1, transA=0, transB=1>(q, k)" in done.body


def test_an_order_that_callers_of_a_function_give() -> None:
    text = """<ir_version: 10, opset_import: ["": 17, "local": 1]>
        g (float[2, 3] x, float[4, 3] z) => (float[2, 4] y) { y = local.f<order = [1, 0]>(x, z) }
        <domain: "local", opset_import: ["": 17]>
        f <order> (a, b) => (c) { t = Transpose<perm: ints = @order>(b)  c = MatMul(a, t) }"""
    before = model(text)
    assert apply(OrtMatmul(), before).after == before
