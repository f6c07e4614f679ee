"""fold-scale-bias: what is multiplied and added goes into the weights beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import SparseTensorProto, TensorAnnotation, helper, numpy_helper

from graphopt.pipeline.gate import Limits
from graphopt.testing import Applied, apply, assert_missed, model
from passes.fold.scale_bias import FoldScaleBias

RANDOM = np.random.default_rng(11)
X, Y = "float[N, 4, 6, 6] x", "float[N, C, H, W] y"
M, R = "float[N, 4] x", "float[N, C] y"
TWO = np.float32(2)


def floats(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32) + np.float32(3)


def folded(text: str, runs: bool = True, **weights: Any) -> Applied:
    return apply(FoldScaleBias(), model(text, **weights), feeds=None if runs else ())


def initializers(done: Applied) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}


@pytest.mark.parametrize(
    "how", ["Mul(a, c)", "Mul(c, a)", "Div(a, c)", "Add(a, c)", "Add(c, a)", "Sub(a, c)", "Sub(c, a)"]
)
@pytest.mark.parametrize("shape", [(), (1,), (6, 1, 1), (1, 6, 1, 1), (1, 1, 1, 1)])
def test_behind_a_convolution(how: str, shape: tuple[int, ...]) -> None:
    text = f"g ({X}) => ({Y}) {{ a = Conv<pads = [1, 1, 1, 1]>(x, w, b)  y = {how} }}"
    done = folded(text, w=floats(6, 4, 3, 3), b=floats(6), c=floats(*shape))
    assert done.body == "y = Conv<pads=[1, 1, 1, 1]>(x, w, b)"
    assert sorted(initializers(done)) == ["b", "w"]


def test_what_is_computed() -> None:
    w, b, c = floats(6, 4, 3, 3), floats(6), floats(6, 1, 1)
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w, b)  t = Div(a, c)  y = Neg(t) }}"
    done = folded(text, w=w, b=b, c=c)
    assert done.body == "y = Conv(x, w, b)"
    wide = c.astype(np.float64)
    np.testing.assert_array_equal(initializers(done)["w"], -(w / wide.reshape(6, 1, 1, 1)).astype(np.float32))
    np.testing.assert_array_equal(initializers(done)["b"], -(b / wide.reshape(6)).astype(np.float32))


def test_a_convolution_gets_a_bias() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Conv(x, w)  y = Add(a, c) }}"
    done = folded(text, w=floats(6, 4, 3, 3), c=floats(6, 1, 1))
    assert done.body == "y = Conv(x, w, c)"
    assert initializers(done)["c"].shape == (6,)
    done = folded(text, w=floats(6, 4, 3, 3), c=TWO)
    assert_missed(done, "after-conv", "the file would grow")
    text = f"g ({X}) => ({Y}, float[6, 1, 1] z) {{ a = Conv(x, w)  y = Add(a, c)  z = Neg(c) }}"
    done = folded(text, w=floats(6, 4, 3, 3), c=floats(6, 1, 1))
    assert_missed(done, "after-conv", "the file would grow")


@pytest.mark.parametrize("shape", [(6,), (1, 1, 1, 6), (6, 1), (1, 6, 6)])
def test_a_constant_along_the_width_is_not_along_the_channels(shape: tuple[int, ...]) -> None:
    """Six channels of six rows and columns: only the axes tell them apart."""
    text = f"g (float[N, 4, 6, 6] x) => ({Y}) {{ a = Conv(x, w, b)  y = Mul(a, c) }}"
    done = folded(text, w=floats(6, 4, 1, 1), b=floats(6), c=floats(*shape))
    assert_missed(done, "after-conv", "one a channel")
    text = f"g (float[N, 6, 6, 6] x) => ({Y}) {{ a = Mul(x, c)  y = Conv(a, w) }}"
    assert_missed(folded(text, w=floats(4, 6, 1, 1), c=floats(*shape)), "before-conv", "one a channel")


def test_constants_that_make_the_value_larger() -> None:
    text = "g (float[N, 1, 6, 6] x) => (float[N, C, H, W] y) { a = Mul(x, c)  y = Conv(a, w) }"
    assert_missed(folded(text, w=floats(4, 6, 1, 1), c=floats(6, 1, 1)), "before-conv", "one a channel")
    text = "g (float[4, 6] x) => (float[a, b, c] y) { a = Mul(x, c)  y = MatMul(a, w) }"
    assert_missed(folded(text, w=floats(6, 2), c=floats(1, 1, 6)), "before-matmul", "one a channel")
    text = "g (float[4, 6] x) => (float[a, b, c] y) { a = MatMul(x, w)  y = Mul(a, c) }"
    assert_missed(folded(text, w=floats(6, 2), c=floats(1, 1, 1)), "after-matmul", "one a channel")
    text = "g (float[N, K, 6, 6] x) => (float[N, C, H, W] y) { a = Mul(x, c)  y = Conv(a, w) }"
    assert_missed(folded(text, False, w=floats(4, 6, 1, 1), c=floats(6, 1, 1)), "before-conv", "one a channel")


def test_before_operators() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Mul(x, c)  y = Conv<group = 2, pads = [1, 1, 1, 1]>(a, w) }}"
    done = folded(text, w=floats(6, 2, 3, 3), c=floats(4, 1, 1))
    assert done.body == "y = Conv<group=2, pads=[1, 1, 1, 1]>(x, w)"
    text = f"g ({X}) => ({Y}) {{ a = Div(x, c)  y = ConvTranspose<group = 2>(a, w) }}"
    assert folded(text, w=floats(4, 2, 3, 3), c=floats(4, 1, 1)).body == "y = ConvTranspose<group=2>(x, w)"
    text = f"g ({X}) => ({Y}) {{ t = Mul(x, c)  a = Sub(t, d)  y = Conv(a, w, b) }}"
    assert folded(text, w=floats(6, 4, 3, 3), b=floats(6), c=TWO, d=floats(4, 1, 1)).body == "y = Conv(x, w, b)"
    text = f"g ({M}) => ({R}) {{ t = Mul(x, c)  a = Sub(d, t)  y = Gemm<alpha = 0.5, transB = 1>(a, w, b) }}"
    done = folded(text, w=floats(6, 4), b=floats(6), c=floats(4), d=floats(1, 4))
    assert done.body == "y = Gemm<alpha=0.5, transB=1>(x, w, b)"


def test_the_bias_of_a_matmul_is_the_addition_behind_it() -> None:
    text = f"g ({M}) => ({R}) {{ t = Add(x, c)  a = MatMul(t, w)  y = Add(b, a) }}"
    done = folded(text, w=floats(4, 6), b=floats(1, 6), c=floats(4))
    assert done.body == "a = MatMul(x, w)\ny = Add(b, a)"
    text = f"g ({M}) => ({R}) {{ t = Add(x, c)  y = MatMul(t, w) }}"
    assert_missed(folded(text, w=floats(4, 6), c=floats(4)), "before-matmul", "no place for a bias")
    text = f"g ({M}) => ({R}) {{ a = MatMul(x, w)  t = Add(a, b)  y = Mul(t, c) }}"
    assert folded(text, w=floats(4, 6), b=floats(6), c=floats(6)).body == "a = MatMul(x, w)\ny = Add(a, b)"
    text = f"g ({M}) => ({R}) {{ a = MatMul(x, w)  y = Add(a, b) }}"
    assert not folded(text, w=floats(4, 6), b=floats(6)).remarks


def test_a_weight_on_the_left_has_its_channels_in_rows() -> None:
    text = "g (float[4, N] x) => (float[C, N] y) { t = Mul(x, c)  a = MatMul(w, t)  y = Mul(a, d) }"
    assert folded(text, w=floats(6, 4), c=floats(4, 1), d=floats(6, 1)).body == "y = MatMul(w, x)"
    assert_missed(
        folded(text.replace("N", "6"), w=floats(6, 4), c=floats(4, 1), d=floats(6)), "after-matmul", "channel"
    )


def test_several_operators_read_it() -> None:
    reads = "y = MatMul(a, w)  z = MatMul(a, v)  s = Shape(a)"
    text = f"g ({M}) => ({R}, float[N, D] z, int64[2] s) {{ a = Mul(x, c)  {reads} }}"
    done = folded(text, w=floats(4, 6), v=floats(4, 5), c=floats(4))
    assert done.body == "y = MatMul(x, w)\nz = MatMul(x, v)\ns = Shape(x)"
    text = f"g ({M}) => ({R}, float[N, D] z) {{ a = Mul(x, c)  y = MatMul(a, w)  z = Relu(a) }}"
    assert_missed(folded(text, w=floats(4, 6), c=floats(4)), "before-matmul", "'a' is read elsewhere too")


def test_what_is_in_the_way() -> None:
    conv = "g (float[N, 4, 6, 6] x) => (float[N, C, H, W] y) { "
    w, b, c = floats(6, 4, 3, 3), floats(6), floats(4, 1, 1)
    text = f"{conv} a = Add(x, c)  y = Conv<pads = [0, 0, 0, 1]>(a, w, b) }}"
    assert_missed(folded(text, w=w, b=b, c=c), "before-conv", "pads what it reads")
    text = f"{conv} a = Conv(x, w, b)  y = Div(a, c) }}"
    assert_missed(folded(text, False, w=w, b=b, c=np.float32(0)), "div", "has a zero")
    assert_missed(folded(text, False, w=w, b=b, c=np.float32(np.inf)), "div", "not finite")
    assert not folded(f"{conv} a = Conv(x, w, b)  y = Div(c, a) }}", w=w, b=b, c=TWO).remarks
    text = f"g ({M}) => (float[a, b] y) {{ a = Mul(x, c)  y = Gemm<transA = 1>(a, w) }}"
    assert_missed(folded(text, False, w=floats(5, 6), c=TWO), "before-gemm", "transposes")
    text = f"g ({M}) => ({R}) {{ a = Gemm(x, w, x)  y = Mul(a, c) }}"
    assert_missed(folded(text, w=floats(4, 4), c=TWO), "after-gemm", "not one constant number a channel")
    text = f"g ({M}) => ({R}) {{ a = Gemm<beta = 0.0>(x, w, b)  y = Add(a, c) }}"
    assert_missed(folded(text, w=floats(4, 6), b=floats(6), c=floats(6)), "after-gemm", "not one constant number")


def test_a_bias_that_counts_for_nothing_is_left_alone() -> None:
    text = f"g ({M}) => ({R}) {{ a = Gemm<beta = 0.0>(x, w, b)  y = Mul(a, c) }}"
    assert folded(text, w=floats(4, 6), b=floats(6), c=floats(6)).body == "y = Gemm<beta=0>(x, w, b)"


def test_defaults_and_sparse_weights_are_no_constants() -> None:
    text = "g (float[N, 4] x, float[4, 6] w) => (float[N, C] y) { a = MatMul(x, w)  y = Mul(a, c) }"
    assert not folded(text, w=floats(4, 6), c=TWO).remarks
    before = model(f"g ({M}) => ({R}) {{ a = MatMul(x, w)  y = Mul(a, c) }}", c=TWO)
    values = helper.make_tensor("w", 1, [2], [1.0, 2.0])
    indices = helper.make_tensor("", 7, [2], [0, 5])
    before.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=[4, 6]))
    assert not apply(FoldScaleBias(), before, feeds=()).remarks


def test_values_that_quantization_annotations_are_about() -> None:
    before = model(f"g ({M}) => ({R}) {{ a = MatMul(x, w)  t = Mul(a, c)  y = Relu(t) }}", w=floats(4, 6), c=TWO)
    before.graph.quantization_annotation.append(TensorAnnotation(tensor_name="a"))
    assert_missed(apply(FoldScaleBias(), before), "after-matmul", "quantization annotation is about 'a'")


def test_outputs_keep_their_names_and_each_fold_is_a_rewrite() -> None:
    text = f"g ({M}) => ({R}, float[N, C] z) {{ a = MatMul(x, w)  y = Mul(a, c)  b = MatMul(x, v)  z = Mul(b, c) }}"
    weights = {"w": floats(4, 6), "v": floats(4, 6), "c": TWO}
    assert folded(text, **weights).body == "y = MatMul(x, w)\nz = MatMul(x, v)"
    second = apply(FoldScaleBias(), model(text, **weights), gate=Limits(frozenset({("fold-scale-bias", 1)})))
    assert second.body == "a = MatMul(x, w)\ny = Mul(a, c)\nz = MatMul(x, v)"
    text = f"g ({M}) => ({R}, float[N, 4] a) {{ a = Mul(x, c)  y = MatMul(a, w) }}"
    assert not folded(text, w=floats(4, 6), c=TWO).applied


def test_inside_of_bodies() -> None:
    text = f"""g ({M}, bool c) => ({R}) {{
        y = If (c) <then_branch = t () => (float[a, b] z) {{ p = MatMul(x, w)  z = Mul(p, k) }},
                    else_branch = e () => (float[a, b] r) {{ r = Relu(x) }}>
    }}"""
    assert "z = MatMul(x, w)" in folded(text, w=floats(4, 6), k=TWO).body
    text = f"""g ({M}, bool c) => ({R}) {{
        p = MatMul(x, w)
        y = If (c) <then_branch = t () => (float[a, b] z) {{ q = Mul(p, k) z = Relu(q) }},
                    else_branch = e () => (float[a, b] r) {{ r = Relu(x) }}>
    }}"""
    assert not folded(text, w=floats(4, 6), k=TWO).applied


def test_a_bias_that_others_read_is_replaced_where_that_is_no_larger() -> None:
    text = f"g ({X}) => ({Y}, float[6] z) {{ a = Conv(x, w, b)  y = Mul(a, c)  z = Neg(b) }}"
    done = folded(text, w=floats(6, 4, 3, 3), b=floats(6), c=floats(1, 6, 1, 1))
    assert done.body == "y = Conv(x, w, c)\nz = Neg(b)"
    assert_missed(folded(text, w=floats(6, 4, 3, 3), b=floats(6), c=TWO), "after-conv", "the file would grow")


def test_operators_of_a_function_with_attributes_of_its_caller() -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21, "own": 1]> g ({M}) => ({R}) {{ y = own.f<t = 0>(x) }}
    <domain: "own", opset_import: ["": 21]> f <t> (x) => (z) {{
        w = Constant<value = float[4, 2] {{1., 2., 3., 4., 5., 6., 7., 8.}}>()  c = Constant<value_float = 2.0>()
        d = Constant<value = float {{3.0}}>()  a = Gemm<transB: int = @t>(x, w)  z = Mul(a, d)
    }}"""
    assert not folded(text).applied
    assert "z = Gemm(x, w)" in folded(
        text.replace("<transB: int = @t>", "").replace("f<t = 0>", "f").replace("f <t>", "f")
    ).body.replace("a = Gemm", "z = Gemm")


def test_a_tail_that_makes_the_result_larger_is_no_bias() -> None:
    text = "g (float[N, 4] x) => (float[a, b] y) { t = Add(x, c)  a = MatMul(t, w)  y = Add(a, d) }"
    assert_missed(folded(text, w=floats(4, 1), c=floats(4), d=floats(6)), "before-matmul", "no place for a bias")
    text = text.replace("[a, b] y", "[a, b, c] y")
    assert_missed(folded(text, w=floats(4, 6), c=floats(4), d=floats(1, 1, 6)), "before-matmul", "no place for a bias")


def test_a_scaled_value_that_is_an_output_stays() -> None:
    text = f"g ({M}) => ({R}, float[N, 4] a) {{ r = Relu(x)  a = Mul(r, c)  y = MatMul(a, w) }}"
    assert not folded(text, w=floats(4, 6), c=TWO).applied


def test_a_scaled_value_that_is_a_bias_or_read_in_a_body() -> None:
    text = f"g ({M}, float[N, 6] z) => ({R}) {{ a = Mul(z, c)  y = Gemm(x, w, a) }}"
    assert_missed(folded(text, w=floats(4, 6), c=TWO), "before-gemm", "not the operand")
    text = f"""g ({M}, bool k) => ({R}) {{
        a = Mul(x, c)
        y = If (k) <then_branch = t () => (float[i, j] z) {{ z = MatMul(a, w) }},
                    else_branch = e () => (float[i, j] r) {{ r = Relu(x) }}>
    }}"""
    assert_missed(folded(text, w=floats(4, 6), c=TWO), "before-matmul", "in another graph")


def test_a_longer_constant_than_there_are_channels_is_no_bias() -> None:
    """One channel comes out of the operator and four out of the sum."""
    for step, weight in (("MatMul(x, w)", floats(4, 1)), ("Gemm(x, w)", floats(4, 1))):
        done = folded(f"g ({M}) => ({R}) {{ a = {step}  y = Mul(a, c) }}", w=weight, c=floats(4))
        assert "Mul" in done.body
        done = folded(f"g ({M}) => ({R}) {{ a = {step}  b = Add(a, c)  y = Mul(b, d) }}", w=weight, c=floats(4), d=TWO)
        assert "Add" in done.body


def test_a_column_of_biases_beside_a_weight_on_the_left() -> None:
    w, b, c = floats(5, 4), floats(5, 1), floats(5, 1)
    text = "g (float[4, N] x) => (float[A, B] y) { a = MatMul(w, x)  b1 = Add(a, b)  y = Mul(b1, c) }"
    done = folded(text, w=w, b=b, c=c)
    assert done.body == "a = MatMul(w, x)\ny = Add(a, b)"
    np.testing.assert_allclose(initializers(done)["b"], b * c, rtol=1e-6)
    row = folded(
        text.replace("N]", "4]"), w=floats(4, 4), b=floats(4), c=floats(4, 1)
    )  # along the other axis of a square
    assert "Mul" in row.body or row.applied == ()


def test_double_precision() -> None:
    w, c = floats(4, 3).astype(np.float64), floats(3).astype(np.float64)
    text = "g (double[N, 4] x) => (double[N, C] y) { a = MatMul(x, w)  y = Mul(a, c) }"
    assert folded(text, w=w, c=c).body == "y = MatMul(x, w)"


def test_factors_that_leave_the_range_of_the_type() -> None:
    text = f"g ({M}) => ({R}) {{ a = MatMul(x, w)  y = Mul(a, c) }}"
    done = folded(text, runs=False, w=np.full((4, 3), 1e25, np.float32), c=np.float32(1e25))
    assert done.applied == ()
    wide = text.replace("float", "double")
    done = folded(wide, runs=False, w=np.full((4, 3), 1e200), c=np.float64(1e200))
    assert done.applied == ()


@pytest.mark.parametrize("piece", [1, 7, 1 << 19])
def test_weights_are_computed_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    from passes.fold import reweighting

    random = np.random.default_rng(5)
    w, scale = random.standard_normal((6, 5)).astype(np.float32), random.standard_normal(6).astype(np.float32)
    monkeypatch.setattr(reweighting, "_PIECE", piece)
    done = apply(
        FoldScaleBias(), model("g (float[N, 6] x) => (float[N, 5] y) { a = Mul(x, s)  y = MatMul(a, w) }", s=scale, w=w)
    )
    assert done.body == "y = MatMul(x, w)"
    assert np.array_equal(
        initializers(done)["w"], (w.astype(np.float64) * scale.astype(np.float64)[:, None]).astype(np.float32)
    )


def test_one_constant_before_two_operators_that_had_no_bias() -> None:
    """Each gets a bias of its own; the constant can become one of them only."""
    text = f"g ({M}) => (float[N, C] y, float[N, C] z) {{ t = Add(x, c)  y = Gemm(t, w)  z = Gemm(t, v) }}"
    done = folded(text, w=floats(4, 3), v=floats(4, 5), c=np.array([1, 2, 3, 4], np.float32))
    if done.applied:
        assert len({tuple(one.input)[2] for one in done.after.graph.node}) == 2
    wide = folded(text.replace("C]", "K]"), w=floats(4, 4), v=floats(4, 4), c=floats(1, 4))
    assert not wide.applied or len({tuple(one.input)[2] for one in wide.after.graph.node}) == 2


def test_biases_that_cancel_are_zero_and_not_what_they_were() -> None:
    w, b = floats(6, 4, 3, 3), floats(6)
    done = folded(f"g ({X}) => ({Y}) {{ a = Conv(x, w, b)  y = Add(a, c) }}", w=w, b=b, c=-b.reshape(6, 1, 1))
    assert done.body == "y = Conv(x, w, b)"
    assert not initializers(done)["b"].any()


def test_what_one_operator_frees_another_one_takes() -> None:
    """The constant of the second Add is read by the first one too, which waits until it is its own."""
    text = f"""g ({X}) => ({Y}) {{
        a = Conv(x, w)  s = Add(a, c)  b = Conv(x, v, d)  t = Add(b, c)  y = Mul(s, t) }}"""
    done = folded(text, w=floats(6, 4, 3, 3), v=floats(6, 4, 3, 3), d=floats(6), c=floats(6, 1, 1))
    assert done.body == "a = Conv(x, w, c)\nb = Conv(x, v, d)\ny = Mul(a, b)"


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (1, 1, 1, 1)])
def test_one_number_before_a_convolution_in_groups(shape: tuple[int, ...]) -> None:
    text = f"g ({X}) => ({Y}) {{ t = Add(x, c)  y = Conv<group = 2>(t, w, b) }}"
    done = folded(text, w=floats(6, 2, 3, 3), b=floats(6), c=floats(*shape))
    assert done.body == "y = Conv<group=2>(x, w, b)"


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_along_one_axis(op: str) -> None:
    text = f"g (float[N, 4, L] x) => (float[N, C, K] y) {{ a = {op}(x, w, b)  y = Mul(a, c) }}"
    made = model(text, w=floats(4, 4, 3), b=floats(4), c=floats(4, 1))
    assert apply(FoldScaleBias(), made, feeds=[{"x": floats(2, 4, 5)}]).body == f"y = {op}(x, w, b)"


def test_what_is_no_linear_operator_though_it_reads_a_constant_of_three_axes() -> None:
    text = "g (float[N, 3, 4] x) => (float[N, 3, 4] y) { t = Mul(x, c)  y = Max(t, k) }"
    assert folded(text, c=TWO, k=floats(1, 3, 4)).remarks == ()
    both = (
        "g (float[N, 3, 4] x) => (float[N, 3, 4] y, float[a, b, d] z) { t = Mul(x, c)  y = Max(t, k)  z = Conv(t, w) }"
    )
    made = model(both, c=TWO, k=floats(1, 3, 4), w=floats(5, 3, 1))
    assert_missed(apply(FoldScaleBias(), made, feeds=[{"x": floats(2, 3, 4)}]), "before-conv", "is read elsewhere too")


def test_numbers_of_64_bits() -> None:
    text = "g (double[N, 4] x) => (double[N, C] y) { a = Gemm(x, w, b)  y = Mul(a, c) }"
    done = folded(text, w=floats(4, 3).astype(np.float64), b=floats(3).astype(np.float64), c=np.float64(2))
    assert done.body == "y = Gemm(x, w, b)"


def test_matrices_in_batches() -> None:
    x, y = "float[B, N, 4] x", "float[B, N, C] y"
    assert folded(f"g ({x}) => ({y}) {{ a = MatMul(x, w)  y = Mul(a, c) }}", w=floats(4, 3), c=TWO).body == (
        "y = MatMul(x, w)"
    )
    done = folded(f"g ({x}) => ({y}) {{ a = MatMul(x, w)  y = Sub(c, a) }}", w=floats(4, 3), c=floats(3))
    assert done.remarks == ()


def test_one_number_that_becomes_one_for_each_row() -> None:
    """The weight is on the left, so its channels are the rows of what comes out."""
    text = "g (float[4, N] x) => (float[C, N] y) { a = MatMul(w, x)  t = Add(a, s)  y = Mul(t, c) }"
    done = folded(text, w=floats(64, 4), s=np.float32(1), c=floats(64, 1))
    assert done.body == "a = MatMul(w, x)\ny = Add(a, s)"


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 1), (2, 1, 1, 1)])
def test_before_a_convolution_whose_operand_has_axes_that_are_not_known(shape: tuple[int, ...]) -> None:
    """It has four, since the weight has; a constant with as many may repeat it."""
    text = "g (float[K] v, int64[R] s) => (float[a, b, c, d] y) { x = Reshape(v, s)  t = Mul(x, c)  y = Conv(t, w) }"
    feeds = [{"v": floats(144), "s": np.array([1, 4, 6, 6])}]
    done = apply(FoldScaleBias(), model(text, w=floats(5, 4, 3, 3), c=np.full(shape, 2, np.float32)), feeds=feeds)
    assert bool(done.applied) == (shape == (1, 1, 1))


def test_a_scale_before_its_weight_in_a_function() -> None:
    """New constants in a function are nodes, and so they are where initializers are inputs."""
    nodes = """w = Constant<value = float[4, 2, 1] {1, 2, 3, 4, 5, 6, 7, 8}>()
        the_constant = Constant<value = float[4, 1] {0.5, 2, 3, 4}>()
        a = Conv(x, w)  y = Sub(the_constant, a)"""
    text = f"""<ir_version: 10, opset_import: ["": 18, "f": 1]>
        g (float[3, 2, 5] x) => (float[3, 4, 5] y) {{ y = f.go(x) }}
        <domain: "f", opset_import: ["": 18]> go (x) => (y) {{ {nodes} }}"""
    feeds = [{"x": floats(3, 2, 5)}]
    done = apply(FoldScaleBias(), model(text), feeds=feeds)
    assert done.applied and [one.op_type for one in done.after.functions[0].node] == ["Constant", "Constant", "Conv"]
    old = f'<ir_version: 3, opset_import: ["": 13]> g (float[3, 2, 5] x) => (float[3, 4, 5] y) {{ {nodes} }}'
    done = apply(FoldScaleBias(), model(old), feeds=feeds)
    assert done.applied and not done.after.graph.initializer


def test_a_name_that_means_another_value_in_a_body_that_reads_the_result() -> None:
    text = """g (float[3, 4] x) => (float[3] y) {
        a = MatMul(x, w)  b = Mul(a, c)
        y = Scan<num_scan_inputs = 1, body = t (float[2] a) => (float[] o) {
            k = ReduceSum<keepdims = 0>(b)  m = ReduceSum<keepdims = 0>(a)  o = Add(m, k) }>(z) }""".replace(
        "a = MatMul(x, w)", "z = Abs(v)  a = MatMul(x, w)"
    )
    done = folded(text, w=floats(4, 2), c=TWO, v=floats(3, 2))
    assert_missed(done, "after-matmul", "has another value called 'a'")


@pytest.mark.parametrize(("reader", "said"), [("Relu(b)", False), ("Conv(b, w)", True)])
def test_what_cannot_be_taken_is_only_told_beside_an_operator_that_could(reader: str, said: bool) -> None:
    text = f"g ({X}) => ({Y}) {{ a = Neg(x)  b = Mul(a, c)  y = {reader} }}"
    done = folded(text, w=floats(6, 4, 3, 3), c=np.float32(np.inf))
    assert any("is not finite" in one.why for one in done.missed) == said
