"""matmul-add-to-gemm: products of matrices and what stands around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.matmul_add_to_gemm import MatmulAddToGemm

RNG = np.random.default_rng(7)


def weights(*shape: int, kind: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(kind)


def fused(text: str, opset: int = 13, **tensors: Any) -> Applied:
    head = f'<ir_version: 8, opset_import: ["": {opset}]>'
    return apply(MatmulAddToGemm(), model(f"{head} g {text}", **tensors))


@pytest.mark.parametrize("bias", [(3,), (1, 3), (1,), (1, 1), ()])
@pytest.mark.parametrize("opset", [7, 9, 13])
def test_product_and_bias(bias: tuple[int, ...], opset: int) -> None:
    text = "(float[N, 4] x) => (float[N, 3] y) { m = MatMul(x, w)  y = Add(m, b) }"
    done = fused(text, opset, w=weights(4, 3), b=weights(*bias))
    assert done.body == "y = Gemm(x, w, b)"
    swapped = fused(text.replace("Add(m, b)", "Add(b, m)"), opset, w=weights(4, 3), b=weights(*bias))
    assert swapped.body == "y = Gemm(x, w, b)"


def test_a_bias_that_is_computed() -> None:
    text = "(float[N, 4] x, float[N, 3] z) => (float[N, 3] y) { m = MatMul(x, w)  y = Add(m, z) }"
    assert fused(text, w=weights(4, 3)).body == "y = Gemm(x, w, z)"
    text = "(double[N, 4] x, double[N, 1] z) => (double[N, 3] y) { m = MatMul(x, w)  y = Add(m, z) }"
    assert fused(text, w=weights(4, 3, kind="float64")).body == "y = Gemm(x, w, z)"


@pytest.mark.parametrize(
    ("bias", "kind", "why"),
    [
        ("float[M, 3] z", "float[P, 3] y", "'z' may not be broadcast"),
        ("float[2, N, 3] z", "float[2, N, 3] y", "'z' may not be broadcast"),
    ],
)
def test_a_bias_that_may_be_larger(bias: str, kind: str, why: str) -> None:
    text = f"(float[N, 4] x, {bias}) => ({kind}) {{ m = MatMul(x, w)  y = Add(m, z) }}"
    feeds = [{"x": weights(2, 4), "z": weights(*((1, 3) if "M" in bias else (2, 2, 3)))}]
    head = '<ir_version: 8, opset_import: ["": 13]>'
    done = apply(MatmulAddToGemm(), model(f"{head} g {text}", w=weights(4, 3)), feeds=feeds)
    assert not done.applied
    assert_missed(done, "matmul-add", why)


def test_more_axes() -> None:
    done = fused(
        "(float[B, N, 4] x) => (float[B, N, 3] y) { m = MatMul(x, w)  y = Add(m, b) }", w=weights(4, 3), b=weights(3)
    )
    assert not done.applied
    assert_missed(done, "matmul-add", "'x' has 3 dims")


def test_integers() -> None:
    text = "(int32[N, 4] x) => (int32[N, 3] y) { m = MatMul(x, w)  y = Add(m, b) }"
    done = fused(text, w=np.ones((4, 3), np.int32), b=np.ones(3, np.int32))
    assert not done.applied
    assert_missed(done, "matmul-add", "not float or double")


def test_a_product_that_others_read() -> None:
    text = "(float[N, 4] x) => (float[N, 3] y, float[N, 3] m) { m = MatMul(x, w)  y = Add(m, b) }"
    done = fused(text, w=weights(4, 3), b=weights(3))
    assert not done.applied
    assert_missed(done, "matmul-add", "'m' is a graph output")


def test_a_gemm_without_a_bias() -> None:
    text = "(float[N, 4] x) => (float[N, 3] y) { m = Gemm<alpha=0.5, transB=1>(x, w)  y = Add(m, b) }"
    assert fused(text, w=weights(3, 4), b=weights(3)).body == "y = Gemm<alpha=0.5, transB=1>(x, w, b)"
    text = "(float[N, 4] x) => (float[N, 3] y) { m = Gemm(x, w, b)  y = Add(m, b) }"
    assert not fused(text, w=weights(4, 3), b=weights(3)).applied


TENSORDOT = "(float[N, 4] x, int64[3] s) => (float[A, B, 3] y) { m = MatMul(x, w)  r = Reshape(m, s)  y = Add(r, b) }"


def test_a_reshape_in_between() -> None:
    done = fused(TENSORDOT.replace(", int64[3] s", ""), w=weights(4, 3), b=weights(3), s=np.array([2, -1, 3]))
    assert done.body.startswith("m_1 = Gemm(x, w, b)")  # whatever the rows become, the columns stay


def test_a_reshape_that_keeps_the_columns() -> None:
    text = "(float[6, 4] x) => (float[2, 3, 3] y) { m = MatMul(x, w)  r = Reshape(m, s)  y = Add(b, r) }"
    done = fused(text, w=weights(4, 3), b=weights(3), s=np.array([2, -1, 3]))
    assert done.body.splitlines()[1] == "y = Reshape(m_1, s)" and done.body.startswith("m_1 = Gemm(x, w, b)")
    again = fused(text.replace("MatMul", "Gemm<alpha=2.0>"), w=weights(4, 3), b=weights(3), s=np.array([2, -1, 3]))
    assert "Gemm<alpha=2>(x, w, b)" in again.body


@pytest.mark.parametrize(
    ("shape", "bias", "why"),
    [
        ([3, 3, 2], (2,), "'b' is not one number for each column"),
        ([2, 3, 3], (1,), "'b' is not one number for each column"),
        ([2, 3, 3], (3, 1), "'b' is not one number for each column"),
        ([2, 9], (9,), "'b' is not one number for each column"),
    ],
)
def test_a_reshape_that_does_not(shape: list[int], bias: tuple[int, ...], why: str) -> None:
    out = ", ".join(map(str, shape))
    text = f"(float[6, 4] x) => (float[{out}] y) {{ m = MatMul(x, w)  r = Reshape(m, s)  y = Add(r, b) }}"
    done = fused(text, w=weights(4, 3), b=weights(*bias), s=np.array(shape))
    assert not done.applied
    assert_missed(done, "reshaped-add", why)


@pytest.mark.parametrize(
    ("nodes", "after"),
    [
        ("t = Transpose<perm=[1, 0]>(x) y = MatMul(t, w)", "y = Gemm<transA=1>(x, w)"),
        ("t = Transpose(x) y = MatMul(t, w)", "y = Gemm<transA=1>(x, w)"),
        ("t = Transpose(x) m = MatMul(t, w) y = Add(m, b)", "y = Gemm<transA=1>(x, w, b)"),
        ("t = Transpose(x) y = Gemm<transA=0, alpha=2.0>(t, w, b)", "y = Gemm<alpha=2, transA=1>(x, w, b)"),
        ("t = Transpose(x) y = Gemm<beta=0.0>(t, w, b)", "y = Gemm<beta=0, transA=1>(x, w, b)"),
    ],
)
def test_transposed_left(nodes: str, after: str) -> None:
    text = f"(float[4, N] x) => (float[N, 3] y) {{ {nodes} }}"
    tensors: dict[str, Any] = {"b": weights(3)} if "b)" in nodes else {}
    assert fused(text, w=weights(4, 3), **tensors).body == after


@pytest.mark.parametrize(
    ("nodes", "after"),
    [
        ("t = Transpose<perm=[1, 0]>(z) y = MatMul(x, t)", "y = Gemm<transB=1>(x, z)"),
        ("t = Transpose<perm=[1, 0]>(z) y = Gemm(x, t)", "y = Gemm<transB=1>(x, z)"),
    ],
)
def test_transposed_right(nodes: str, after: str) -> None:
    assert fused(f"(float[N, 4] x, float[3, 4] z) => (float[N, 3] y) {{ {nodes} }}").body == after


def test_transposed_twice() -> None:
    text = "(float[N, 4] x, float[4, 3] z) => (float[N, 3] y) { t = Transpose(z) y = Gemm<transB=1>(x, t) }"
    assert fused(text).body == "y = Gemm(x, z)"


def test_transposes_that_stay() -> None:
    for text in (
        "(float[B, N, 4] x, float[4, B, 3] z) => (float[B, N, 3] y) "
        "{ t = Transpose<perm=[1, 0, 2]>(z) y = MatMul(x, t) }",
        "(float[N, 4] x, float[4, 3] z) => (float[N, 3] y) { t = Transpose<perm=[0, 1]>(z) y = MatMul(x, t) }",
    ):
        assert not fused(text).applied
    old = "(float[N, 4] x, float[3, 4] z) => (float[N, 3] y) { t = Transpose(z) y = MatMul(x, t) }"
    assert not fused(old, opset=10).applied


@pytest.mark.parametrize(
    ("nodes", "after"),
    [
        ("m = MatMul(x, w) y = Mul(m, k)", "y = Gemm<alpha=0.25>(x, w)"),
        ("m = MatMul(x, w) y = Div(m, k)", "y = Gemm<alpha=4>(x, w)"),
        ("m = Gemm<alpha=2.0>(x, w) y = Mul(k, m)", "y = Gemm<alpha=0.5>(x, w)"),
        ("m = MatMul(x, w) n = Mul(m, k) y = Add(n, b)", "y = Gemm<alpha=0.25>(x, w, b)"),
    ],
)
def test_factors(nodes: str, after: str) -> None:
    text = f"(float[N, 4] x) => (float[N, 3] y) {{ {nodes} }}"
    tensors: dict[str, Any] = {"b": weights(3)} if "b)" in nodes else {}
    assert fused(text, w=weights(4, 3), k=np.float32(0.25), **tensors).body == after


def test_factors_that_stay() -> None:
    text = "(float[N, 4] x) => (float[N, 3] y) { m = MatMul(x, w) y = Mul(m, k) }"
    done = fused(text, w=weights(4, 3), k=np.float32(0))
    assert not done.applied
    assert_missed(done, "scaled-product", "'k' is no factor")
    assert not fused(text, w=weights(4, 3), k=weights(3)).applied
    assert_missed(fused(text, opset=9, w=weights(4, 3), k=np.float32(2)), "scaled-product", "needs opset 11")
    done = fused(text.replace("float", "double"), w=weights(4, 3, kind="float64"), k=np.float64(0.1))
    assert not done.applied
    assert_missed(done, "scaled-product", "'k' is rounded as an attribute")


def test_in_a_body() -> None:
    done = fused(
        """(bool c, float[N, 4] x) => (float[N, 3] y) {
            y = If (c) <then_branch = p () => (float[N, 3] o) { m = MatMul(x, w) o = Add(m, b) },
                        else_branch = q () => (float[N, 3] r) { r = MatMul(x, w) }>
        }""",
        w=weights(4, 3),
        b=weights(3),
    )
    assert "o = Gemm(x, w, b)" in done.body


@pytest.mark.parametrize("beta", ["0.0", "0.5"])
@pytest.mark.parametrize("tail", ["y = Add(m, c)", "r = Reshape(m, s)  y = Add(r, c)"])
def test_a_factor_of_no_bias_is_none_of_the_new_one(beta: str, tail: str) -> None:
    text = f"g (float[N, 4] x) => (float[K, 3] y) {{ m = Gemm<beta = {beta}>(x, w)  {tail} }}"
    tensors: dict[str, Any] = {"w": np.ones((4, 3), np.float32), "c": np.arange(3, dtype=np.float32)}
    if "Reshape" in tail:
        tensors["s"] = np.array([-1, 3])
    done = apply(MatmulAddToGemm(), model(text, **tensors))
    assert "Gemm(x, w, c)" in done.body


@pytest.mark.parametrize("step", ["y = Mul(m, k)", "y = Div(m, k)"])
def test_a_factor_of_what_is_no_product_of_matrices(step: str) -> None:
    """A Gemm takes two axes each, and gives as many as it takes."""
    done = fused(
        f"(float[N, 2, 4] x) => (float[N, 2, 3] y) {{ m = MatMul(x, w)  {step} }}", w=weights(4, 3), k=np.float32(2)
    )
    assert "Gemm" not in done.body
    done = fused(
        f"(float[N, 4] x) => (float[1, N, 3] y) {{ m = MatMul(x, w)  {step} }}", w=weights(4, 3), k=weights(1, 1, 1)
    )
    assert "Gemm" not in done.body


def test_a_transposed_operand_of_integers_stays() -> None:
    text = "(int32[4, N] x) => (int32[N, 3] y) { t = Transpose(x)  y = Gemm(t, w, b) }"
    w, b = np.ones((4, 3), np.int32), np.ones(3, np.int32)
    before = model(f'<ir_version: 8, opset_import: ["": 13]> g {text}', w=w, b=b)
    assert apply(MatmulAddToGemm(), before, laws=False).applied == ()


@pytest.mark.parametrize(("opset", "merged"), [(7, True), (9, True), (11, True)])
def test_a_transposed_operand_with_a_bias_in_every_version(opset: int, merged: bool) -> None:
    text = "(float[4, N] x) => (float[N, 3] y) { t = Transpose(x)  y = Gemm(t, w, b) }"
    done = fused(text, opset, w=weights(4, 3), b=weights(3))
    assert (done.body == "y = Gemm<transA=1>(x, w, b)") == merged


def test_a_reshaped_sum_of_the_first_version() -> None:
    text = "(float[6, 4] x) => (float[2, 3, 3] y) { m = MatMul(x, w)  r = Reshape(m, s)  y = Add(r, b) }"
    done = fused(text, 7, w=weights(4, 3), b=weights(3), s=np.array([2, 3, 3]))
    assert done.body.startswith("m") and "Gemm(x, w, b)" in done.body


def test_factors_that_float_holds_go_into_products_of_doubles() -> None:
    text = "(double[N, 4] x) => (double[N, 3] y) { m = MatMul(x, w)  y = Mul(m, k) }"
    assert fused(text, w=weights(4, 3, kind="float64"), k=np.float64(0.5)).body == "y = Gemm<alpha=0.5>(x, w)"
    done = fused(text, w=weights(4, 3, kind="float64"), k=np.float64(0.1))
    assert_missed(done, "scaled-product", "is rounded as an attribute")
