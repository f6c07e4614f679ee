"""duplicate-initializers: equal to the last bit, or both stay."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, SparseTensorProto, TensorAnnotation, TensorProto, helper, numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate import duplicate_initializers
from passes.eliminate.duplicate_initializers import DuplicateInitializers
from passes.fold.constants import FoldConstants

SQUARE = np.arange(16, dtype=np.float32).reshape(4, 4)
TWO = "g (float[N, 4] x) => (float[N, 4] y) { a = MatMul(x, v)  y = MatMul(a, w) }"


def merged(text: str | ModelProto, runs: bool = True, **weights: Any) -> Applied:
    before = model(text, **weights) if isinstance(text, str) else text
    return apply(DuplicateInitializers(), before, feeds=None if runs else ())


def left(done: Applied) -> list[str]:
    return [one.name for one in done.after.graph.initializer]


def test_the_second_of_two_goes() -> None:
    done = merged(TWO, v=SQUARE, w=SQUARE.copy())
    assert done.body == "a = MatMul(x, v)\ny = MatMul(a, v)"
    (remark,) = done.applied
    assert (remark.node, remark.op, remark.why) == ("w", "initializer", "as v")
    assert "w" in remark.before


@pytest.mark.parametrize(
    ("v", "w"),
    [
        (np.zeros(4, np.float32), -np.zeros(4, np.float32)),
        (np.array([1, 2, 3, 4], np.float32), np.array([1, 2, 3, 5], np.float32)),
        (
            np.array([0x7FC00000] * 4, np.uint32).view(np.float32),
            np.array([0x7FC00001] * 4, np.uint32).view(np.float32),
        ),
        (np.ones(4, np.float32), np.ones((1, 4), np.float32)),
    ],
    ids=["signs of zeros", "values", "payloads of NaN", "shapes"],
)
def test_what_is_not_the_same_to_the_last_bit_stays(v: Any, w: Any) -> None:
    done = merged("g (float[1, 4] x) => (float[1, 4] y) { a = Mul(x, v)  y = Div(a, w) }", v=v, w=w)
    assert not done.remarks


def test_the_same_bits_of_another_type_stay() -> None:
    bits = np.ones(4, np.float32)
    text = "g (float[4] x, int32[4] i) => (float[4] y, int32[4] j) { y = Add(x, v)  j = Add(i, w) }"
    assert not merged(text, v=bits, w=bits.view(np.int32)).remarks


def test_equal_hashes_are_not_taken_for_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def digest(self) -> bytes:
            return b"always"

    monkeypatch.setattr(duplicate_initializers.hashlib, "blake2b", Same)
    text = "g (float[N, 4] x) => (float[N, 4] y) { a = MatMul(x, u)  b = MatMul(a, v)  y = MatMul(b, w) }"
    done = merged(text, u=SQUARE, v=SQUARE + 1, w=SQUARE + 1)
    assert left(done) == ["u", "v"]


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.bfloat16, np.float16, ml_dtypes.float8_e4m3fn, np.bool_])
def test_any_element_type(dtype: Any) -> None:
    values = (SQUARE % 2).astype(dtype)
    text = """g (float[4, 4] x) => (float[4, 4] y) {
        a = Cast<to = 1>(v)  b = Cast<to = 1>(w)  c = Add(a, b)  y = Add(c, x)
    }"""
    assert left(merged(text, v=values, w=values.copy())) == ["v"]


def test_strings() -> None:
    text = "g (string[N] x) => (bool[N] y, bool[N] z) { y = Equal(x, v)  z = Equal(x, w) }"
    assert left(merged(text, v=np.array(["ab", ""], object)[:1], w=np.array(["ab"], object))) == ["v"]
    assert not merged(
        text.replace("[N]", "[2]"), v=np.array(["ab", ""], object), w=np.array(["a", "b"], object)
    ).remarks


def test_one_in_typed_fields_and_one_in_raw_bytes() -> None:
    proto = model(TWO)
    proto.graph.initializer.append(numpy_helper.from_array(SQUARE, "v"))
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [4, 4], SQUARE.ravel().tolist()))
    assert left(merged(proto)) == ["v"]


def test_constant_nodes_count_and_are_merged_into_initializers() -> None:
    text = """g (float[N, 2] x) => (float[N, 2] y) {
        k = Constant<value_floats = [1.0, 2.0]>()  a = Add(x, k)  m = Constant<value = float[2] {1.0, 2.0}>()
        b = Add(a, m)  y = Add(b, v)
    }"""
    done = merged(text, v=np.array([1, 2], np.float32))
    assert done.body == "a = Add(x, v)\nb = Add(a, v)\ny = Add(b, v)"
    assert [one.op for one in done.applied] == ["Constant", "Constant"]


def test_constant_nodes_of_a_function() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N, 1] x) => (float[N, 1] y) { two = Constant<value_float = 2.0>()  a = Mul(x, two)  y = local.f(a) }
        <domain: "local", opset_import: ["": 21]>
        f (a) => (d) {
            k = Constant<value_float = 2.0>()  b = Mul(a, k)  m = Constant<value_float = 2.0>()  d = Add(b, m)
        }"""
    assert merged(text).body.splitlines()[3:] == [
        "function local.f (a) => (d)",
        "  k = Constant<value_float=2>()",
        "  b = Mul(a, k)",
        "  d = Add(b, k)",
    ]


def test_a_body_reads_the_weights_around_it_and_not_its_sibling_s() -> None:
    text = """g (bool c, float[N, 4] x) => (float[N, 4] y) {
        r = If(c)<
            then_branch = t () => (float[N, 4] o)
                <float[4] p = {1.0, 2.0, 3.0, 4.0}, float[4] s = {1.0, 1.0, 1.0, 1.0}> {
                m = Add(x, p)  o = Add(m, s) },
            else_branch = e () => (float[N, 4] q) <float[4] u = {1.0, 1.0, 1.0, 1.0}> { q = Add(x, u) }
        >
        y = Add(r, w)
    }"""
    done = merged(text, w=np.array([1, 2, 3, 4], np.float32))
    assert [(one.node, one.scope) for one in done.applied] == [("p", "If(r).then_branch")]
    assert "m = Add(x, w)" in done.body


def test_the_default_of_an_input_is_not_merged() -> None:
    text = "g (float[N, 4] x, float[4, 4] v) => (float[N, 4] y) { a = MatMul(x, v)  y = MatMul(a, w) }"
    assert not merged(text, v=SQUARE, w=SQUARE).remarks


def test_an_initializer_that_is_an_output_stays_and_takes_the_other_in() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y, float[4, 4] w) { a = MatMul(x, v)  y = MatMul(a, w) }"
    done = merged(text, v=SQUARE, w=SQUARE)
    assert left(done) == ["w"]
    text = "g (float[N, 4] x) => (float[N, 4] y, float[4, 4] w, float[4, 4] v) { a = MatMul(x, v)  y = MatMul(a, w) }"
    done = merged(text, v=SQUARE, w=SQUARE)
    assert left(done) == ["v", "w"]
    assert_missed(done, "duplicate", "is a graph output")


def test_quantization_parameters_are_their_value_s_own() -> None:
    proto = model(
        "g (float[N] x) => (float[N] y) { a = Mul(x, s)  y = Mul(a, b_scale) }", s=np.float32(2), b_scale=np.float32(2)
    )
    note = TensorAnnotation(tensor_name="a")
    entry = note.quant_parameter_tensor_names.add()
    entry.key, entry.value = "SCALE_TENSOR", "b_scale"
    proto.graph.quantization_annotation.append(note)
    assert left(merged(proto)) == ["b_scale"]


def test_a_name_that_means_another_value_in_a_body() -> None:
    text = """g (bool c, float[3] x) => (float[3] y) {
        z = Add(x, a)
        y = Scan<num_scan_inputs = 1, body = t (float[] a) => (float[] o) {
            k = ReduceSum<keepdims = 0>(b)  o = Add(a, k) }>(z)
    }"""
    done = merged(text, a=np.ones(3, np.float32), b=np.ones(3, np.float32))
    assert not done.applied
    assert_missed(done, "duplicate", "has another value called 'a'")


def test_sparse_tensors_are_compared_with_each_other_only() -> None:
    proto = model("g (float[N, 4] x) => (float[N, 4] y) { a = Add(x, w)  b = Add(a, v)  y = Add(b, u) }")
    for name, at in (("w", 3), ("v", 3), ("u", 2)):
        values = numpy_helper.from_array(np.array([1.5], np.float32), name)
        indices = numpy_helper.from_array(np.array([at], np.int64), f"{name}_indices")
        proto.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=[4]))
    done = merged(proto)
    assert [one.values.name for one in done.after.graph.sparse_initializer] == ["w", "u"]


def test_longer_names_do_not_make_the_file_grow() -> None:
    long_name = "a_name_of_many_letters_that_somebody_found_useful_once"
    reads = "  ".join(f"y{i} = Add(b, x)" for i in range(8))
    proto = model(f"g (float[N] x) => (float[N] y0) {{ z = Add(x, {long_name})  {reads} }}")
    for name in (long_name, "b"):
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(1), name))
    done = merged(proto)
    assert not done.applied
    assert_missed(done, "duplicate", "longer name")


def test_a_weight_without_a_twin_in_type_and_shape_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> bytes:
        raise AssertionError("it was read")

    monkeypatch.setattr(duplicate_initializers, "_content", refuse)
    assert not merged(
        "g (float[N, 4] x) => (float[N, 4] y) { a = MatMul(x, v)  y = Add(a, w) }", v=SQUARE, w=SQUARE[0]
    ).remarks


@pytest.mark.parametrize("same", [True, False])
def test_large_values_that_agree_where_they_are_sampled_are_compared_whole(same: bool) -> None:
    large = np.zeros((160, 160), np.float32)  # 100 KB
    other = large.copy()
    other[0, 100] = 0.0 if same else 1.0  # between two of the places
    text = "g (float[N, 160] x) => (float[N, 160] y) { a = MatMul(x, v)  y = MatMul(a, w) }"
    sampled = duplicate_initializers._SAMPLED
    assert large.nbytes >= sampled
    done = merged(text, v=large, w=other)
    assert left(done) == (["v"] if same else ["v", "w"])


def test_large_values_that_differ_where_they_are_sampled_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    whole = duplicate_initializers._content
    monkeypatch.setattr(duplicate_initializers, "_content", lambda tensor: read.append(tensor.name) or whole(tensor))
    text = "g (float[N, 160] x) => (float[N, 160] y) { a = MatMul(x, v)  y = MatMul(a, w) }"
    random = np.random.default_rng(0)
    merged(text, v=random.random((160, 160), np.float32), w=random.random((160, 160), np.float32))
    assert read == []


def test_a_dense_tensor_with_the_bytes_of_a_sparse_one() -> None:
    """Both are int64[4]: one is 0, 0, 5, 0, and the other one what is written down to say so."""
    proto = model("g (int64[4] x) => (int64[4] y) { a = Add(x, w)  y = Add(a, v) }", v=np.array([8, 2, 8, 5]))
    values = numpy_helper.from_array(np.array([5]), "w")
    indices = numpy_helper.from_array(np.array([2]), "w_indices")
    proto.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=[4]))
    assert merged(proto).applied == ()


def test_values_of_few_bits_that_another_pass_made() -> None:
    text = """g (float[64] x) => (float[64] y) {
        a = Cast<to = 22>(w)  b = Cast<to = 22>(v)
        c = DequantizeLinear(a, s)  d = DequantizeLinear(b, s)  e = Add(x, c)  y = Add(e, d) }"""
    numbers = np.arange(64) % 7
    before = model(text, w=numbers.astype(np.int8), v=numbers.astype(np.int16), s=np.float32(1))
    done = apply(Pipeline((FoldConstants(), DuplicateInitializers())), before, laws=False)
    assert sorted(one.name for one in done.after.graph.initializer) == ["a", "s"]
