"""fold-batchnorm: a normalization goes into the weights before or behind it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fold.batchnorm import FoldBatchnorm

RANDOM = np.random.default_rng(7)
X, Y = "float[N, 4, 6, 6] x", "float[N, C, H, W] y"
HEAD = '<ir_version: 8, opset_import: ["": {}]>'


def floats(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def parameters(size: int) -> dict[str, Any]:
    return {"s": floats(size), "h": floats(size), "m": floats(size), "v": np.abs(floats(size)) + np.float32(0.1)}


def folded(text: str, runs: bool = True, **weights: Any) -> Applied:
    return apply(FoldBatchnorm(), model(text, **weights), feeds=None if runs else ())


def initializers(done: Applied) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}


def test_into_the_convolution_before_it() -> None:
    p, w = parameters(6), floats(6, 4, 3, 3)
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w)  y = BatchNormalization(a, s, h, m, v) }}"
    done = folded(text, w=w, **p)
    assert done.body == "y = Conv(x, w, h)"
    scale = p["s"] / np.sqrt(p["v"].astype(np.float64) + np.float32(1e-5))
    np.testing.assert_array_equal(initializers(done)["w"], (w * scale.reshape(-1, 1, 1, 1)).astype(np.float32))
    np.testing.assert_array_equal(initializers(done)["h"], (p["h"] - p["m"] * scale).astype(np.float32))
    assert [one.rule for one in done.applied] == ["after-conv"]


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, 15, 22])
def test_every_version(opset: int) -> None:
    extra = "<epsilon = 0.1, spatial = 1>" if opset < 9 else "<epsilon = 0.1>"
    text = (
        f"{HEAD.format(opset)} g ({X}) => ({Y}) {{ a = Conv(x, w, b)  y = BatchNormalization{extra}(a, s, h, m, v) }}"
    )
    assert folded(text, w=floats(6, 4, 1, 1), b=floats(6), **parameters(6)).body == "y = Conv(x, w, b)"


def test_groups_and_a_transposed_convolution() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Conv<group = 2>(x, w)  y = BatchNormalization(a, s, h, m, v) }}"
    assert folded(text, w=floats(6, 2, 3, 3), **parameters(6)).body == "y = Conv<group=2>(x, w, h)"
    text = f"g ({X}) => ({Y}) {{ a = ConvTranspose<group = 2>(x, w, b)  y = BatchNormalization(a, s, h, m, v) }}"
    assert (
        folded(text, w=floats(4, 3, 3, 3), b=floats(6), **parameters(6)).body == "y = ConvTranspose<group=2>(x, w, b)"
    )


@pytest.mark.parametrize("b", [(6,), (1, 6), (1,), ()])
def test_a_gemm_with_factors(b: tuple[int, ...]) -> None:
    gemm = "Gemm<alpha = 0.5, beta = 2.0, transB = 1>"
    text = f"g (float[N, 4] x) => (float[N, C] y) {{ a = {gemm}(x, w, b)  y = BatchNormalization(a, s, h, m, v) }}"
    done = folded(text, w=floats(6, 4), b=floats(*b), **parameters(6))
    assert done.body == "y = Gemm<alpha=0.5, beta=2, transB=1>(x, w, b)"


def test_a_matmul_of_matrices_becomes_a_gemm() -> None:
    text = "g (float[N, 4] x) => (float[N, C] y) { a = MatMul(x, w)  y = BatchNormalization(a, s, h, m, v) }"
    assert folded(text, w=floats(4, 6), **parameters(6)).body == "y = Gemm(x, w, h)"
    text = (
        "g (float[N, 4] x) => (float[N, C] y) { a = MatMul(x, w) t = Add(b, a) y = BatchNormalization(t, s, h, m, v) }"
    )
    assert folded(text, w=floats(4, 6), b=floats(6), **parameters(6)).body == "a = MatMul(x, w)\ny = Add(b, a)"


def test_the_channels_of_a_stack_of_matrices_are_its_rows() -> None:
    text = "g (float[N, 6, 4] x) => (float[N, 6, C] y) { a = MatMul(x, w)  y = BatchNormalization(a, s, h, m, v) }"
    done = folded(text, w=floats(4, 6), **parameters(6))
    assert not done.applied
    assert_missed(done, "after-matmul", "one a channel")


def test_into_what_reads_it() -> None:
    text = "g (float[N, 4] x) => (float[N, C] y) { a = BatchNormalization(x, s, h, m, v)  y = Gemm(a, w, b) }"
    assert folded(text, w=floats(4, 6), b=floats(6), **parameters(4)).body == "y = Gemm(x, w, b)"
    text = f"g ({X}) => ({Y}) {{ a = BatchNormalization(x, s, h, m, v)  y = Conv<group = 2>(a, w) }}"
    assert folded(text, w=floats(6, 2, 3, 3), **parameters(4)).body == "y = Conv<group=2>(x, w, h)"


def test_what_pads_would_see_the_shift_at_its_border() -> None:
    for how in ("pads = [0, 0, 1, 0]", 'auto_pad = "SAME_UPPER"'):
        text = f"g ({X}) => ({Y}) {{ a = BatchNormalization(x, s, h, m, v)  y = Conv<{how}>(a, w) }}"
        assert_missed(folded(text, w=floats(6, 4, 3, 3), **parameters(4)), "before-conv", "pads what it reads")
    text = f"g ({X}) => ({Y}) {{ a = BatchNormalization(x, s, h, m, v)  y = ConvTranspose(a, w) }}"
    assert_missed(folded(text, w=floats(4, 6, 3, 3), **parameters(4)), "before-convtranspose", "border")
    text = "g (float[N, 4] x) => (float[N, C] y) { a = BatchNormalization(x, s, h, m, v)  y = MatMul(a, w) }"
    assert_missed(folded(text, w=floats(4, 6), **parameters(4)), "before-matmul", "no place for a bias")


def test_a_result_that_is_read_elsewhere_too() -> None:
    norm = "a = Conv(x, w)  y = BatchNormalization(a, s, h, m, v)"
    text = f"g ({X}) => ({Y}, float[a, b, c, d] z) {{ {norm}  z = Relu(a) }}"
    assert_missed(folded(text, w=floats(6, 4, 3, 3), **parameters(6)), "after-conv", "'a' is read elsewhere too")
    text = f"g ({X}) => ({Y}, float[a, b, c, d] a) {{ a = Conv(x, w)  y = BatchNormalization(a, s, h, m, v) }}"
    assert_missed(folded(text, w=floats(6, 4, 3, 3), **parameters(6)), "after-conv", "'a' is read elsewhere too")


def test_a_weight_that_is_read_elsewhere_too() -> None:
    norm = "a = Conv(x, w)  y = BatchNormalization(a, s, h, m, v)"
    text = f"g ({X}) => ({Y}, float[a, b, c, d] z) {{ {norm}  z = Conv(x, w) }}"
    assert_missed(folded(text, w=floats(6, 4, 3, 3), **parameters(6)), "after-conv", "the weight 'w' is read elsewhere")


def test_training_and_parameters_that_are_not_known() -> None:
    conv = "a = Conv(x, w)"
    text = f"g ({X}) => ({Y}) {{ {conv} y, p, q = BatchNormalization<training_mode = 1>(a, s, h, m, v) }}"
    assert_missed(folded(text, False, w=floats(6, 4, 3, 3), **parameters(6)), "batchnormalization", "training mode")
    text = f"{HEAD.format(9)} g ({X}) => ({Y}) {{ {conv} y, p, q, r, t = BatchNormalization(a, s, h, m, v) }}"
    assert_missed(
        folded(text, False, w=floats(6, 4, 3, 3), **parameters(6)), "batchnormalization", "outputs of training"
    )
    text = f"g ({X}, float[6] s) => ({Y}) {{ {conv} y = BatchNormalization(a, s, h, m, v) }}"
    done = folded(text, w=floats(6, 4, 3, 3), **parameters(6))  # "s" is the default of an input
    assert_missed(done, "batchnormalization", "'s' is not a constant")
    bad = {**parameters(6), "v": np.array([1, 1, 1, 1, 1, -1], np.float32)}
    text = f"g ({X}) => ({Y}) {{ {conv} y = BatchNormalization(a, s, h, m, v) }}"
    assert_missed(folded(text, False, w=floats(6, 4, 3, 3), **bad), "batchnormalization", "not positive")


def test_narrow_weights_and_weights_that_would_not_fit() -> None:
    text = "g (T[N, 4, 6, 6] x) => (T[N, C, H, W] y) { a = Conv(x, w)  y = BatchNormalization(a, s, h, m, v) }"
    for name, dtype in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        narrow = {key: one.astype(dtype) for key, one in parameters(6).items()}
        narrow_text = HEAD.format(22) + text.replace("T[", f"{name}[")
        done = folded(narrow_text, False, w=floats(6, 4, 3, 3).astype(dtype), **narrow)
        assert_missed(done, "after-conv", "rounding it anew")
    text, w = text.replace("T[", "float["), floats(6, 4, 3, 3)
    assert_missed(
        folded(text, False, w=w * np.float32(1e30), **parameters(6)), "after-conv", "leave the range of float32"
    )
    faint = {**parameters(6), "s": np.full(6, 1e-30, np.float32), "m": np.zeros(6, np.float32)}
    done = folded(text, False, w=w * np.float32(1e-10), **{**faint, "h": np.zeros(6, np.float32)})
    assert_missed(done, "after-conv", "fall below the range")
    assert folded(
        text, w=w * np.float32(1e-10), **{**faint, "h": np.ones(6, np.float32)}
    ).applied  # the shift covers it


def test_weights_behind_a_dequantization_stay() -> None:
    text = f"""g ({X}) => ({Y}) {{
        w = DequantizeLinear(q, k)  a = Conv(x, w)  y = BatchNormalization(a, s, h, m, v)
    }}"""
    done = folded(text, q=np.ones((6, 4, 3, 3), np.int8), k=np.float32(0.5), **parameters(6))
    assert not done.remarks


def test_bodies_and_functions() -> None:
    inner = "a = Conv(x, w)  z = BatchNormalization(a, s, h, m, v)"
    text = f"""g ({X}, bool c) => ({Y}) {{
        y = If (c) <then_branch = t () => (float[a, b, i, j] z) {{ {inner} }},
                    else_branch = e () => (float[a, b, i, j] r) {{ r = Relu(x) }}>
    }}"""
    done = folded(text, w=floats(6, 4, 1, 1), **parameters(6))
    assert "z = Conv(x, w, h)" in done.body
    text = f"""<ir_version: 10, opset_import: ["": 21, "own": 1]> g ({X}) => ({Y}) {{ y = own.f(x) }}
    <domain: "own", opset_import: ["": 21]> f (x) => (z) {{
        k = Constant<value = float[2, 4, 1, 1] {{1., 2., 3., 4., 5., 6., 7., 8.}}>()
        p = Constant<value_floats = [1., 2.]>()  q = Constant<value = float[2] {{1., 2.}}>()
        a = Conv(x, k)  z = BatchNormalization(a, q, q, q, q)
    }}"""
    done = folded(text)
    assert "BatchNormalization" not in done.body
    assert "z = Conv(x, k, k_bias)" in done.body.replace("a = Conv", "z = Conv")


def test_constant_nodes_and_a_model_whose_initializers_are_inputs() -> None:
    text = f"""<ir_version: 3, opset_import: ["": 9]> g ({X}) => ({Y}) {{
        w = Constant<value = float[2, 4, 1, 1] {{1., 2., 3., 4., 5., 6., 7., 8.}}>()
        s = Constant<value = float[2] {{1., 2.}}>()  h = Constant<value = float[2] {{1., 2.}}>()
        m = Constant<value = float[2] {{1., 2.}}>()  v = Constant<value = float[2] {{1., 2.}}>()
        a = Conv(x, w)  y = BatchNormalization(a, s, h, m, v)
    }}"""
    done = folded(text)
    assert done.body.splitlines()[-1] == "y = Conv(x, w, w_bias)"
    assert not done.after.graph.initializer
    assert done.body.count("Constant") == 2


def test_old_and_mixed_forms() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w)  y = BatchNormalization<spatial = 0>(a, s, h, m, v) }}"
    done = folded(HEAD.format(7) + text, False, w=floats(6, 4, 3, 3), **parameters(6))
    assert_missed(done, "batchnormalization", "spatial is not 1")
    wide = {name: one.astype(np.float64) for name, one in parameters(6).items()}
    done = folded(text.replace("<spatial = 0>", ""), False, w=floats(6, 4, 3, 3), **wide)
    assert_missed(done, "after-conv", "of another type than the weights")


def test_channels_that_the_input_does_not_tell() -> None:
    """The normalization says how many there are."""
    text = """g (float[N, D, 6, 6] x) => (float[a, b, c, d] y) {
        t = BatchNormalization(x, s, o, m, v)  y = Conv(t, w, b) }"""
    ones = {name: np.full(4, value, np.float32) for name, value in (("s", 2), ("o", 1), ("m", 3), ("v", 4))}
    rng = np.random.default_rng(5)
    made = model(text, w=rng.normal(size=(5, 4, 3, 3)).astype("f"), b=np.ones(5, np.float32), **ones)
    feeds = [{"x": rng.normal(size=(2, 4, 6, 6)).astype("f")}]
    assert apply(FoldBatchnorm(), made, feeds=feeds).body == "y = Conv(x, w, b)"


def test_behind_a_product_whose_axes_are_not_known() -> None:
    """Which axis is that of the channels is not known either."""
    text = """g (float[K] u, int64[2] k) => (float[a, b] y) {
        x = Reshape(u, k)  a = MatMul(x, w)  y = BatchNormalization(a, s, o, m, v) }"""
    ones = {name: np.full(4, value, np.float32) for name, value in (("s", 2), ("o", 1), ("m", 3), ("v", 4))}
    text = text.replace("int64[2] k", "int64[R] k")
    done = apply(FoldBatchnorm(), model(text, w=np.ones((3, 4), np.float32), **ones), feeds=())
    assert_missed(done, "after-matmul", "one number, or one a channel")


def test_normalizations_of_opset_6_are_left() -> None:
    text = """<ir_version: 3, opset_import: ["": 6]> g (float[2, 4, 6, 6] x) => (float[a, b, c, d] y) {
        k = Constant<value = float[4] {1, 2, 3, 4}>()
        a = Conv<kernel_shape = [1, 1]>(x, w)  y = BatchNormalization<is_test = 1>(a, k, k, k, k) }"""
    assert apply(FoldBatchnorm(), model(text, w=np.ones((4, 4, 1, 1), "f")), feeds=(), laws=False).applied == ()


def test_rows_of_a_stack_of_matrices_without_a_bias() -> None:
    text = """g (float[N, 4, 5] x) => (float[a, b, c] y) {
        a = MatMul(w, x)  y = BatchNormalization(a, s, o, m, v) }"""
    ones = {name: np.full(3, value, np.float32) for name, value in (("s", 2), ("o", 1), ("m", 3), ("v", 4))}
    done = apply(FoldBatchnorm(), model(text, w=floats(3, 4), **ones))
    assert_missed(done, "after-matmul", "has no place for a bias")
