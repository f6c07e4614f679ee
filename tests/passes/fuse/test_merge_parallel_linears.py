"""merge-parallel-linears: products of one value become one, where that leaves fewer nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import StringStringEntryProto, TensorAnnotation, numpy_helper

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.merge_parallel_linears import MergeParallelLinears

RNG = np.random.default_rng(3)


def weights(*shape: int, kind: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(kind)


def merged(text: str, opset: int = 17, done: MergeParallelLinears | None = None, **tensors: Any) -> Applied:
    head = f'<ir_version: 8, opset_import: ["": {opset}]>'
    return apply(done or MergeParallelLinears(), model(f"{head} g {text}", **tensors))


OUT3 = "(float[B, N, 4] x) => (float[B, N, 3] p, float[B, N, 3] q, float[B, N, 3] r)"
PRODUCTS = f"{OUT3} {{ p = MatMul(x, weight_u)  q = MatMul(x, weight_v)  r = MatMul(x, weight_w) }}"


def three(columns: int = 3) -> dict[str, Any]:
    return {"weight_u": weights(4, 3), "weight_v": weights(4, 3), "weight_w": weights(4, columns)}


@pytest.mark.parametrize(
    ("opset", "split"),
    [(9, "axis=2"), (11, "axis=-1"), (13, "axis=-1"), (18, "axis=-1, num_outputs=3")],
)
def test_three_products(opset: int, split: str) -> None:
    tensors = three()
    done = merged(PRODUCTS, opset, **tensors)
    assert done.body == f"p_1 = MatMul(x, weight_u)\np, q, r = Split<{split}>(p_1)"
    (left,) = done.after.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(left), np.concatenate(list(tensors.values()), 1))


@pytest.mark.parametrize(
    ("opset", "split"),
    [(11, "Split<axis=-1, split=[3, 3, 5]>(p_1)"), (13, "Split<axis=-1>(p_1, split)")],
)
def test_parts_of_different_size(opset: int, split: str) -> None:
    text = PRODUCTS.replace("3] r", "5] r").replace("weight_", "projection_weight_")
    done = merged(text, opset, **{name.replace("weight_", "projection_weight_"): one for name, one in three(5).items()})
    assert done.body.splitlines()[1] == f"p, q, r = {split}"


def test_two_products_with_a_bias() -> None:
    nodes = "m = MatMul(x, weight_u)  p = Add(m, b)  n = MatMul(x, weight_v)  q = Add(c, n)"
    text = f"(float[B, N, 4] x) => (float[B, N, 3] p, float[B, N, 3] q) {{ {nodes} }}"
    done = merged(text, weight_u=weights(4, 3), weight_v=weights(4, 3), b=weights(3), c=weights(3))
    assert done.body == "m_1 = MatMul(x, weight_u)\np_1 = Add(m_1, b)\np, q = Split<axis=-1>(p_1)"


def test_one_row() -> None:
    assert merged(PRODUCTS.replace("B, N, ", ""), **three()).body.startswith("p_1 = MatMul(x, weight_u)")


GEMMS = """(float[N, 4] x) => (float[N, 3] p, float[N, 3] q, float[N, 3] r) {
    p = Gemm<transB=1, alpha=0.5>(x, weight_u, a)  q = Gemm<alpha=0.5, transB=1>(x, weight_v, b)
    r = Gemm<transB=1, alpha=0.5>(x, weight_w, c) }"""


def test_gemms() -> None:
    tensors: dict[str, Any] = {f"weight_{one}": weights(3, 4) for one in "uvw"} | {name: weights(3) for name in "abc"}
    done = merged(GEMMS, **tensors)
    assert done.body == "p_1 = Gemm<alpha=0.5, transB=1>(x, weight_u, a)\np, q, r = Split<axis=1>(p_1)"
    other = merged(GEMMS.replace("0.5>(x, weight_w", "0.25>(x, weight_w"), **tensors)
    assert not other.applied
    plain = GEMMS.replace(", a)", ")").replace(", b)", ")").replace(", c)", ")")
    done = merged(plain, weight_u=weights(3, 4), weight_v=weights(3, 4), weight_w=weights(3, 4))
    assert done.body.startswith("p_1 = Gemm<alpha=0.5, transB=1>(x, weight_u)")


def test_nothing_to_win() -> None:
    nodes = "p = MatMul(x, weight_u)  q = MatMul(x, weight_v)"
    two = f"(float[B, N, 4] x) => (float[B, N, 3] p, float[B, N, 3] q) {{ {nodes} }}"
    assert not merged(two, weight_u=weights(4, 3), weight_v=weights(4, 3)).applied
    others = PRODUCTS.replace("MatMul(x, weight_w)", "MatMul(z, weight_w)").replace("4] x)", "4] x, float[B, N, 4] z)")
    assert not merged(others, **three()).applied


def test_other_kinds_of_bias() -> None:
    """A bias with more axes stays behind the Split, as any other reader does."""
    text = PRODUCTS.replace("p = MatMul(x, weight_u)", "m = MatMul(x, weight_u) p = Add(m, b)")
    assert "p = Add(m, b)" in merged(text, b=weights(1, 3), **three()).body
    assert not merged(text, b=weights(3), **three()).applied


def test_a_weight_that_others_read() -> None:
    text = PRODUCTS.replace("float[B, N, 3] r)", "float[B, N, 3] r, float[4, 3] s)").replace("}", "s = Neg(weight_w) }")
    done = merged(text, **three())
    assert not done.applied
    assert_missed(done, "parallel-linears", "'weight_w' is read by others too")
    twice = PRODUCTS.replace("MatMul(x, weight_w)", "MatMul(x, weight_v)")
    shared = merged(twice, weight_u=weights(4, 3), weight_v=weights(4, 3))
    assert not shared.applied
    assert_missed(shared, "parallel-linears", "share a weight")


def test_integers() -> None:
    tensors: dict[str, Any] = {name: np.ones((4, 3), np.int32) for name in ("weight_u", "weight_v", "weight_w")}
    assert not merged(PRODUCTS.replace("float", "int32"), **tensors).applied


def test_large_weights() -> None:
    done = merged(PRODUCTS, done=MergeParallelLinears(largest=100), **three())
    assert not done.applied
    assert_missed(done, "parallel-linears", "more than 100 bytes")


def test_an_annotated_weight() -> None:
    before = model(f"g {PRODUCTS}", **three())
    note = TensorAnnotation(tensor_name="weight_v")
    note.quant_parameter_tensor_names.append(StringStringEntryProto(key="SCALE_TENSOR", value="weight_u"))
    before.graph.quantization_annotation.append(note)
    done = apply(MergeParallelLinears(), before)
    assert not done.applied
    assert_missed(done, "parallel-linears", "quantization")


def test_in_a_body() -> None:
    done = merged(
        """(bool t, float[N, 4] x) => (float[N, 3] y) {
            y = If (t) <then_branch = a () => (float[N, 3] o) {
                            p = MatMul(x, weight_u) q = MatMul(x, weight_v) r = MatMul(x, weight_w) o = Sum(r, q, p) },
                        else_branch = b () => (float[N, 3] k) { k = MatMul(x, z) }>
        }""",
        z=weights(4, 3),
        **three(),
    )
    assert "p_1 = MatMul(x, weight_u)" in done.body and "p, q, r = Split<axis=-1>(p_1)" in done.body


def test_an_old_model_without_a_rank() -> None:
    text = """(float[24] a, int64[K] s) => (float[B, N, 3] y) {
        x = Reshape(a, s) p = MatMul(x, weight_u) q = MatMul(x, weight_v) r = MatMul(x, weight_w) y = Sum(p, q, r) }"""
    before = model(f'<ir_version: 8, opset_import: ["": 9]> g {text}', **three())
    done = apply(MergeParallelLinears(), before, feeds=[{"a": weights(24), "s": np.array([2, 3, 4])}])
    assert not done.applied
    assert_missed(done, "parallel-linears", "the rank of 'p' is not known")


def test_short_names() -> None:
    """A Split with its list of sizes can take more bytes than what goes."""
    nodes = "p = MatMul(x, a) q = MatMul(x, b) r = MatMul(x, c)"
    text = f"(float[N, 4] x) => (float[N, 3] p, float[N, 3] q, float[N, 5] r) {{ {nodes} }}"
    done = merged(text, 11, a=weights(4, 3), b=weights(4, 3), c=weights(4, 5))
    assert not done.applied
    assert_missed(done, "parallel-linears", "the file would grow")


def test_a_product_that_an_annotation_is_about_while_a_bias_follows() -> None:
    text = """(float[B, 4] x) => (float[B, 3] p, float[B, 3] q, float[B, 3] r) {
        a = MatMul(x, u)  p = Add(a, k)  b = MatMul(x, v)  q = Add(b, l)  c = MatMul(x, w)  r = Add(c, m) }"""
    tensors = {name: weights(4, 3) for name in "uvw"} | {name: weights(3) for name in "klm"}
    proto = model(f'<ir_version: 8, opset_import: ["": 17]> g {text}', **tensors)
    assert apply(MergeParallelLinears(), proto).applied
    note = TensorAnnotation(tensor_name="b")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="k")
    proto.graph.quantization_annotation.append(note)
    assert apply(MergeParallelLinears(), proto).applied == ()
