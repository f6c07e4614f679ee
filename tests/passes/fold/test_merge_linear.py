"""merge-linear: a linear operator after a linear operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorAnnotation, numpy_helper

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fold.merge_linear import MergeLinear

RANDOM = np.random.default_rng(3)
M, R = "float[N, 4] x", "float[N, C] y"
X, Y = "float[N, 4, 6, 6] x", "float[a, b, c, d] y"


def floats(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def merged(text: str, runs: bool = True, **weights: Any) -> Applied:
    return apply(MergeLinear(), model(text, **weights), feeds=None if runs else ())


def initializers(done: Applied) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}


def test_matrices() -> None:
    w, v = floats(4, 16), floats(16, 3)
    done = merged(f"g ({M}) => ({R}) {{ a = MatMul(x, w)  y = MatMul(a, v) }}", w=w, v=v)
    assert done.body == "y = MatMul(x, v)"
    np.testing.assert_array_equal(initializers(done)["v"], (w.astype(np.float64) @ v).astype(np.float32))
    assert [one.rule for one in done.applied] == ["matmul-matmul"]


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
def test_gemms_with_factors_and_biases(left: int, right: int) -> None:
    w, v = floats(4, 16), floats(16, 3)
    text = f"""g ({M}) => ({R}) {{
        a = Gemm<alpha = 0.5, beta = 2.0, transB = {left}>(x, w, b)  y = Gemm<beta = 0.5, transB = {right}>(a, v, c)
    }}"""
    weights = {"w": w.T.copy() if left else w, "v": v.T.copy() if right else v}
    done = merged(text, b=floats(16), c=floats(1, 3), **weights)
    assert done.body == f"y = Gemm<beta=0.5, transB={right}>(x, v, c)"
    assert sorted(initializers(done)) == ["c", "v"]


def test_a_gemm_without_a_bias_gets_one_and_a_matmul_uses_the_addition_behind_it() -> None:
    text = f"g ({M}) => ({R}) {{ a = Gemm(x, w, b)  y = Gemm(a, v) }}"
    assert merged(text, w=floats(4, 16), v=floats(16, 3), b=floats(16)).body == "y = Gemm(x, v, b)"
    text = f"g ({M}) => ({R}) {{ a = MatMul(x, w)  s = Add(a, b)  t = MatMul(s, v)  y = Add(t, c) }}"
    done = merged(text, w=floats(4, 16), v=floats(16, 3), b=floats(16), c=floats(3))
    assert done.body == "t = MatMul(x, v)\ny = Add(t, c)"
    text = f"g ({M}) => ({R}) {{ a = MatMul(x, w)  s = Add(a, b)  y = MatMul(s, v) }}"
    assert_missed(merged(text, w=floats(4, 16), v=floats(16, 3), b=floats(16)), "matmul-matmul", "no place for a bias")


def test_three_in_a_row() -> None:
    text = f"g ({M}) => ({R}) {{ a = MatMul(x, w)  b = Gemm(a, v, c)  y = Gemm(b, u, d) }}"
    done = merged(text, w=floats(4, 16), v=floats(16, 16), u=floats(16, 3), c=floats(16), d=floats(3))
    assert done.body == "y = Gemm(x, u, d)"


def test_a_bottleneck_stays() -> None:
    text = f"g ({M}) => ({R}) {{ a = MatMul(x, w)  y = MatMul(a, v) }}"
    done = merged(text, w=floats(4, 1), v=floats(1, 4))
    assert_missed(done, "matmul-matmul", "one weight would have 16 elements, and both have 8")
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w)  y = Conv(a, v) }}"
    assert_missed(merged(text, w=floats(1, 4, 1, 1), v=floats(4, 1, 1, 1)), "conv-conv", "16 elements")


def test_a_point_after_any_convolution() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Conv<pads = [1, 1, 1, 1], strides = [2, 1]>(x, w, b)  y = Conv(a, v, c) }}"
    done = merged(text, w=floats(8, 4, 3, 3), b=floats(8), v=floats(3, 8, 1, 1), c=floats(3))
    assert done.body == "y = Conv<pads=[1, 1, 1, 1], strides=[2, 1]>(x, w, b)"
    assert {name: one.shape for name, one in initializers(done).items()} == {"w": (3, 4, 3, 3), "b": (3,)}
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w)  y = Conv(a, v, c) }}"
    assert merged(text, w=floats(8, 4, 3, 3), v=floats(3, 8, 1, 1), c=floats(3)).body == "y = Conv(x, w, c)"


def test_any_convolution_after_a_point() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w, b)  y = Conv<strides = [2, 2]>(a, v, c) }}"
    weights = {"w": floats(8, 4, 1, 1), "v": floats(3, 8, 3, 3), "b": floats(8), "c": floats(3)}
    assert merged(text, **weights).body == "y = Conv<strides=[2, 2]>(x, v, c)"
    padded = text.replace("strides = [2, 2]", "pads = [0, 0, 0, 1]")
    assert_missed(merged(padded, **weights), "conv-conv", "pads what it reads")
    del weights["b"]
    assert merged(padded.replace(", b)", ")"), **weights).body == "y = Conv<pads=[0, 0, 0, 1]>(x, v, c)"


def test_convolutions_that_do_not_merge() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w)  y = Conv(a, v) }}"
    done = merged(text, w=floats(8, 4, 3, 3), v=floats(3, 8, 3, 3))
    assert_missed(done, "conv-conv", "both convolutions read more than one place")
    grouped = text.replace("Conv(x", "Conv<group = 2>(x")
    assert_missed(merged(grouped, w=floats(8, 2, 1, 1), v=floats(3, 8, 1, 1)), "conv-conv", "has groups")
    strided = text.replace("Conv(x", "Conv<strides = [2, 2]>(x").replace("Conv(a", "Conv<strides = [2, 2]>(a")
    done = merged(strided, w=floats(8, 4, 1, 1), v=floats(3, 8, 1, 1))
    assert_missed(done, "conv-conv", "both convolutions read more than one place")


def test_what_is_in_the_way() -> None:
    text = f"g ({M}) => ({R}, float[N, D] z) {{ a = MatMul(x, w)  y = MatMul(a, v)  z = Relu(a) }}"
    weights = {"w": floats(4, 16), "v": floats(16, 3)}
    assert_missed(merged(text, **weights), "matmul-matmul", "'a' is read elsewhere too")
    text = f"g ({M}) => ({R}, float[N, D] z) {{ a = MatMul(x, w)  y = MatMul(a, v)  z = MatMul(x, w) }}"
    assert_missed(merged(text, **weights), "matmul-matmul", "the weight 'w' is read elsewhere too")
    text = f"g ({M}) => ({R}) {{ a = MatMul(x, w)  y = MatMul(a, v) }}"
    large = {name: one * np.float32(1e25) for name, one in weights.items()}
    assert_missed(merged(text, False, **large), "matmul-matmul", "leaves the range")
    small = {name: one * np.float32(1e-25) for name, one in weights.items()}
    assert_missed(merged(text, False, **small), "matmul-matmul", "leaves the range")
    narrow = {name: one.astype(np.float16) for name, one in weights.items()}
    assert_missed(merged(text.replace("float[", "float16["), **narrow), "matmul-matmul", "rounding it anew")
    text = f"g (float[N, 4] x, float[16, 3] v) => ({R}) {{ a = MatMul(x, w)  y = MatMul(a, v) }}"
    assert not merged(text, **weights).remarks  # "v" is the default of an input


def test_bodies_and_outputs() -> None:
    text = f"""g ({M}, bool c) => ({R}) {{
        y = If (c) <then_branch = t () => (float[a, b] z) {{ p = MatMul(x, w)  z = MatMul(p, v) }},
                    else_branch = e () => (float[a, b] r) {{ r = Relu(x) }}>
    }}"""
    assert "z = MatMul(x, v)" in merged(text, w=floats(4, 16), v=floats(16, 3)).body
    text = f"g ({M}) => ({R}, float[N, D] a) {{ a = MatMul(x, w)  y = MatMul(a, v) }}"
    assert_missed(merged(text, w=floats(4, 16), v=floats(16, 3)), "matmul-matmul", "'a' is read elsewhere too")


def test_gemms_with_broadcast_rules_of_their_own() -> None:
    text = f'<ir_version: 4, opset_import: ["": 6]> g ({M}) => ({R}) {{ a = Gemm(x, w, b)  y = Gemm(a, v, c) }}'
    assert not merged(text, False, w=floats(4, 16), v=floats(16, 3), b=floats(16), c=floats(3)).remarks


def test_biases_and_operands_that_are_not_as_they_should_be() -> None:
    text = "g (float[N, 4, 6, 6] x, float[3] k) => (float[a, b, c, d] y) { a = Conv(x, w)  y = Conv(a, v, k) }"
    done = merged(text, w=floats(8, 4, 3, 3), v=floats(3, 8, 1, 1))
    assert_missed(done, "conv-conv", "not one constant number a channel")
    text = "g (float[4, N] x) => (float[N, C] y) { a = Gemm<transA = 1>(x, w)  y = MatMul(a, v) }"
    assert_missed(merged(text, w=floats(4, 16), v=floats(16, 3)), "gemm-matmul", "transposes what it reads")
    text = "g (float[4, N] x) => (float[C, N] y) { a = MatMul(w, x)  y = MatMul(v, a) }"
    assert not merged(text, w=floats(16, 4), v=floats(3, 16)).applied


def test_a_convolution_and_a_matrix_are_no_pair() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w)  y = MatMul(a, v) }}"
    assert merged(text, w=floats(4, 4, 1, 1), v=floats(6, 6)).applied == ()
    text = f"g ({X}) => ({Y}) {{ a = MatMul(x, v)  y = Conv(a, w) }}"
    assert merged(text, w=floats(4, 4, 1, 1), v=floats(6, 6)).applied == ()


def test_a_matrix_on_either_side_of_the_data() -> None:
    for first, second in (("MatMul(w, x)", "MatMul(a, v)"), ("MatMul(x, v)", "MatMul(w, a)")):
        text = f"g (float[4, 4] x) => (float[A, B] y) {{ a = {first}  y = {second} }}"
        assert merged(text, w=floats(4, 4), v=floats(4, 4)).applied == ()


def test_weights_of_double_precision_have_a_range_of_their_own() -> None:
    w, v = np.full((4, 16), 1e200), np.full((16, 3), 1e100)
    text = "g (double[N, 4] x) => (double[N, C] y) { a = MatMul(x, w)  y = MatMul(a, v) }"
    assert_missed(merged(text, runs=False, w=w, v=v), "matmul-matmul", "leaves the range")
    done = merged(text, runs=False, w=w / 1e150, v=v)
    assert done.body == "y = MatMul(x, v)"


def test_a_product_that_is_exactly_as_large_as_both() -> None:
    w, v = floats(4, 2), floats(2, 4)
    assert merged(f"g ({M}) => ({R}) {{ a = MatMul(x, w)  y = MatMul(a, v) }}", w=w, v=v).body == "y = MatMul(x, v)"


def test_biases_that_cancel_are_zero_and_not_what_they_were() -> None:
    w, v, b = floats(4, 16), np.eye(16, 3, dtype=np.float32), floats(16)
    text = f"g ({M}) => ({R}) {{ a = Gemm(x, w, b)  y = Gemm(a, v, c) }}"
    done = merged(text, w=w, v=v, b=b, c=-(b.astype(np.float64) @ v).astype(np.float32))
    assert done.body == "y = Gemm(x, v, c)" and not initializers(done)["c"].any()


def test_two_convolutions_without_a_bias_get_none() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w)  y = Conv(a, v) }}"
    done = merged(text, w=floats(8, 4, 3, 3), v=floats(3, 8, 1, 1))
    assert done.body == "y = Conv(x, w)"


def test_a_second_bias_that_is_no_constant() -> None:
    text = f"g ({M}, float[3] c) => ({R}) {{ a = MatMul(x, w)  y = Gemm(a, v, c) }}"
    assert merged(text, w=floats(4, 16), v=floats(16, 3)).body == "y = Gemm(x, v, c)"


@pytest.mark.parametrize("reader", ["Add(x4, b)", "Mul(b, x4)"])
def test_a_bias_that_something_else_reads_stays_as_it_is(reader: str) -> None:
    text = f"g ({M}, float[N, 6] x4) => ({R}, float[N, D] z) {{ a = Gemm(x, w, b)  y = Gemm(a, v)  z = {reader} }}"
    done = merged(text, w=floats(4, 6), v=floats(6, 3), b=floats(6))
    assert [one.rule for one in done.applied] in ([], ["gemm-gemm"])
    if done.applied:
        assert "y = Gemm(x, v, b)" not in done.body


@pytest.mark.parametrize("subject", ["a", "y"])
@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_what_an_annotation_is_about_stays(op: str, subject: str) -> None:
    sides, shapes = ((M, R), ((4, 16), (16, 3))) if op == "MatMul" else ((X, Y), ((8, 4, 3, 3), (3, 8, 1, 1)))
    text = f"g ({sides[0]}) => ({sides[1]}) {{ a = {op}(x, w)  y = {op}(a, v) }}"
    proto = model(text, w=floats(*shapes[0]), v=floats(*shapes[1]), s=np.float32(1))
    note = TensorAnnotation(tensor_name=subject)
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    proto.graph.quantization_annotation.append(note)
    assert_missed(apply(MergeLinear(), proto), f"{op}-{op}".lower(), f"a quantization annotation is about '{subject}'")
