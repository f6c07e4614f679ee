"""weight-int8: the form it writes, and every reason to leave a weight."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphopt.analysis.weights import weights
from graphopt.ir import decode, encode
from graphopt.pipeline import Pipeline
from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.storage.read import from_proto
from graphopt.testing import Applied, apply, assert_missed, body, model
from passes.quantize.dequantize import order_of, write
from passes.quantize.grid import codes, spread, symmetric
from passes.quantize.weight_int8 import WeightInt8

SMALL = WeightInt8(min_elements=1)
NO_FEEDS: tuple[dict[str, Any], ...] = ()


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def missed(text: str, why: str, pass_: WeightInt8 = SMALL, feeds: Any = NO_FEEDS, **weights: Any) -> Applied:
    """The pass leaves the model as it is, with a reason that has `why` in it."""
    done = apply(pass_, model(text, **weights), feeds=feeds)
    assert_missed(done, "quantize", why)
    assert done.after == done.before
    return done


DENSE = "g (float[N, 16] x) => (float[N, 24] y) { y = MatMul(x, w) }"


def test_a_weight_becomes_integers_and_scales() -> None:
    done = apply(SMALL, model(DENSE, w=floats(16, 24)))
    assert done.body == "w_dequantized = DequantizeLinear<axis=1>(w_int8, w_scale)\ny = MatMul(x, w_dequantized)"
    found = tensors(done.after)
    assert set(found) == {"w_int8", "w_scale"}
    assert found["w_int8"].dtype == np.int8
    assert found["w_int8"].shape == (16, 24)
    assert found["w_int8"].min() >= -127
    assert found["w_scale"].shape == (24,)
    (remark,) = done.applied
    assert (remark.rule, remark.node, remark.op, remark.why) == (
        "quantize",
        "w",
        "initializer",
        "24 scales along axis 1",
    )
    assert "w" in remark.before
    assert "w_int8" in remark.after
    assert done.sqnr_db("y") > 35


def test_per_tensor_there_is_one_scale() -> None:
    done = apply(WeightInt8("tensor", min_elements=1), model(DENSE, w=floats(16, 24)))
    assert done.body.startswith("w_dequantized = DequantizeLinear(w_int8, w_scale)\n")
    assert tensors(done.after)["w_scale"].shape == ()
    assert done.applied[0].why.startswith("one scale, 0.")


def test_asymmetric_codes_have_zero_points() -> None:
    weight = floats(16, 24) + 1
    done = apply(WeightInt8(symmetric=False, min_elements=1), model(DENSE, w=weight))
    assert done.body.startswith("w_dequantized = DequantizeLinear<axis=1>(w_int8, w_scale, w_zero_point)\n")
    found = tensors(done.after)
    assert found["w_zero_point"].dtype == np.int8
    assert found["w_zero_point"].shape == (24,)
    meant = (found["w_int8"].astype(np.float64) - found["w_zero_point"]) * found["w_scale"]
    assert (np.abs(meant - weight) <= found["w_scale"] / 2 * (1 + 1e-6)).all()
    symmetric = apply(SMALL, model(DENSE, w=weight))
    assert done.sqnr_db("y") > symmetric.sqnr_db("y") + 2


def test_names_that_are_taken_are_not_used_again() -> None:
    proto = model(DENSE.replace("y = ", "w_int8 = Neg(x)  w_scale = Neg(x)  y = "), w=floats(16, 24))
    names = tensors(apply(SMALL, proto).after)
    assert set(names) & {"w_int8", "w_scale"} == set()
    assert len(names) == 2


def test_the_file_is_about_a_quarter() -> None:
    proto = model("g (float[N, 128] x) => (float[N, 128] y) { y = MatMul(x, w) }", w=floats(128, 128))
    done = apply(SMALL, proto)
    assert done.after.ByteSize() < 0.28 * proto.ByteSize()


def test_constant_nodes_are_replaced_where_they_stand() -> None:
    proto = model("g (float[N, 16] x) => (float[N, 24] y) { a = Neg(x)  y = MatMul(a, k) }", k=floats(16, 24))
    stored = proto.graph.initializer[0]
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["k"], name="holder", value=stored))
    del proto.graph.initializer[:]
    done = apply(SMALL, proto)
    assert done.body == (
        "a = Neg(x)\nk_dequantized = DequantizeLinear<axis=1>(k_int8, k_scale)\ny = MatMul(a, k_dequantized)"
    )
    assert done.applied[0].node == "holder"


def test_the_weights_of_bodies_stay_in_their_bodies_and_outer_ones_outside() -> None:
    text = """
        g (bool c, float[N, 16] x) => (float[N, 16] y) {
            a = Neg(x)
            y = If(c)<then_branch = t () => (float[N, 16] o) { p = MatMul(a, w)  o = MatMul(p, v) },
                      else_branch = e () => (float[N, 16] o) { o = MatMul(a, w) }>
        }"""
    proto = model(text, w=floats(16, 16))
    inner = proto.graph.node[1].attribute[0].g
    inner.initializer.append(numpy_helper.from_array(floats(16, 16, seed=1), "v"))
    done = apply(SMALL, proto)
    assert done.body.splitlines() == [
        "a = Neg(x)",
        "w_dequantized = DequantizeLinear<axis=1>(w_int8, w_scale)",
        "y = If(c)",
        "  else_branch: () => (o)",
        "    o = MatMul(a, w_dequantized)",
        "  then_branch: () => (o)",
        "    p = MatMul(a, w_dequantized)",
        "    v_dequantized = DequantizeLinear<axis=1>(v_int8, v_scale)",
        "    o = MatMul(p, v_dequantized)",
    ]
    assert [one.scope for one in done.applied] == ["", "If(y).then_branch"]
    assert done.sqnr_db("y") > 30


def test_the_weights_of_functions_stay_in_their_functions_and_arguments_outside() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N, 16] x) => (float[N, 16] y) { a = local.dense(x, w)  y = local.dense(a, w) }
        <domain: "local", opset_import: ["": 21]>
        dense (a, v) => (c) { b = MatMul(a, k)  t = Transpose(v)  c = MatMul(b, t) }
        """
    proto = model(text, w=floats(16, 16))
    value = numpy_helper.from_array(floats(16, 16, seed=1), "")
    proto.functions[0].node.insert(0, helper.make_node("Constant", [], ["k"], value=value))
    done = apply(SMALL, proto)
    assert done.body.splitlines() == [
        "w_dequantized = DequantizeLinear<axis=0>(w_int8, w_scale)",
        "a = local.dense(x, w_dequantized)",
        "y = local.dense(a, w_dequantized)",
        "function local.dense (a, v) => (c)",
        "  k_scale = Constant<value=float[16]>()",
        "  k_int8 = Constant<value=int8[16,16]>()",
        "  k_dequantized = DequantizeLinear<axis=1>(k_int8, k_scale)",
        "  b = MatMul(a, k_dequantized)",
        "  t = Transpose(v)",
        "  c = MatMul(b, t)",
    ]
    assert done.sqnr_db("y") > 30


def test_integers_are_moved_and_floats_made_behind() -> None:
    text = """g (float[N, 12] x) => (float[N, 20] y) {
        s = Constant<value_ints = [20, 12]>()  r = Reshape(w, s)  t = Transpose(r)  y = MatMul(x, t) }"""
    done = apply(SMALL, model(text, w=floats(20, 3, 4)))
    assert done.body.splitlines()[1:] == [
        "r_quantized = Reshape(w_int8, s)",
        "t_quantized = Transpose(r_quantized)",
        "t = DequantizeLinear<axis=1>(t_quantized, w_scale)",
        "y = MatMul(x, t)",
    ]


def test_scales_that_a_reshape_takes_apart_stay_before_it() -> None:
    """The channels of both readers are axis 0 of the tensor, but only one of them reads it so."""
    text = """g (float[N, 12] x, float[M, 5] z) => (float[N, 20] y, float[5, 20] v) {
        t = Transpose(w)  y = MatMul(x, t)  s = Constant<value_ints = [5, 48]>()  r = Reshape(w, s)
        i = Constant<value_ints = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]>()
        v = Gather<axis = 1>(r, i) }"""
    done = apply(SMALL, model(text, w=floats(20, 12)))
    assert "one scale" in done.applied[0].why  # Gather wants axis 0 of [5, 48], which is no axis of w
    assert "v = DequantizeLinear(v_quantized, w_scale)" in done.body
    per_channel = """g (float[N, 12] x) => (float[N, 20] y, int64[1] n) {
        t = Transpose(w)  y = MatMul(x, t)  s = Constant<value_ints = [240]>()  r = Reshape(w, s)  n = Shape(r) }"""
    done = apply(SMALL, model(per_channel, w=floats(20, 12)))
    assert done.body.splitlines() == [
        "t_quantized = Transpose(w_int8)",
        "t = DequantizeLinear<axis=1>(t_quantized, w_scale)",
        "y = MatMul(x, t)",
        "s = Constant<value_ints=[240]>()",
        "w_dequantized = DequantizeLinear<axis=0>(w_int8, w_scale)",
        "r = Reshape(w_dequantized, s)",
        "n = Shape(r)",
    ]


def test_a_gather_looks_up_integers() -> None:
    text = "g (int64[N, M] i) => (float[N, M, 8] y) { y = Gather(w, i) }"
    done = apply(SMALL, model(text, w=floats(40, 8)), feeds=[{"i": np.array([[0, 39, 5]])}])
    assert done.body == "y_quantized = Gather(w_int8, i)\ny = DequantizeLinear<axis=-1>(y_quantized, w_scale)"
    assert tensors(done.after)["w_scale"].shape == (8,)
    assert done.sqnr_db("y") > 35


def test_a_gather_of_columns_keeps_the_axis_of_rows() -> None:
    text = "g (int64[N, M] i) => (float[8, N, M, 5] y) { y = Gather<axis = 1>(w, i) }"
    done = apply(SMALL, model(text, w=floats(8, 40, 5)), feeds=[{"i": np.array([[0, 39, 5]])}])
    assert "y = DequantizeLinear<axis=-1>(y_quantized, w_scale)" in done.body
    text = "g (int64[N, M] i) => (float[8, N, M] y) { y = Gather<axis = -1>(w, i) }"
    done = apply(SMALL, model(text, w=floats(8, 40)), feeds=[{"i": np.array([[0, 39, 5]])}])
    assert "y = DequantizeLinear<axis=0>(y_quantized, w_scale)" in done.body
    assert done.sqnr_db("y") > 35


def test_a_tied_table_has_one_scale_and_both_readers_get_integers() -> None:
    text = """g (int64[N] i, float[N, 8] x) => (float[N, 8] e, float[N, 40] y) {
        e = Gather(w, i)  t = Transpose(w)  y = MatMul(x, t) }"""
    done = apply(SMALL, model(text, w=floats(40, 8)), feeds=[{"i": np.array([3, 1]), "x": floats(2, 8)}])
    assert done.body.splitlines() == [
        "e_quantized = Gather(w_int8, i)",
        "e = DequantizeLinear(e_quantized, w_scale)",
        "t_quantized = Transpose(w_int8)",
        "t = DequantizeLinear(t_quantized, w_scale)",
        "y = MatMul(x, t)",
    ]
    assert "its readers 'Gather(e)' and 'MatMul(y)' have their channels along different axes" in done.applied[0].why


def test_a_gather_along_the_axis_of_the_scales_reads_floats() -> None:
    """Gather wants scales along its last axis, which a transposed reader wants as well."""
    text = """g (int64[N] i, float[N, 40] x) => (float[40, N] e, float[N, 8] y) {
        y = MatMul(x, w)  e = Gather<axis = 1>(w, i) }"""
    done = apply(SMALL, model(text, w=floats(40, 8)), feeds=[{"i": np.array([3, 1]), "x": floats(2, 40)}])
    assert "one scale" in done.applied[0].why
    text = """g (int64[N] i, float[N, 8] x) => (float[40, N] e, float[N, 40] y) {
        y = MatMul(x, t)  t = Transpose(w)  e = Gather<axis = 1>(w, i) }"""
    proto = model(text, w=floats(40, 8))
    proto.graph.node.insert(0, proto.graph.node[1])
    del proto.graph.node[2]
    done = apply(SMALL, proto, feeds=[{"i": np.array([3, 1]), "x": floats(2, 8)}])
    assert "e = DequantizeLinear<axis=0>(e_quantized, w_scale)" in done.body
    assert "t = DequantizeLinear<axis=1>(t_quantized, w_scale)" in done.body


def test_two_operators_share_one_dequantized_weight() -> None:
    text = "g (float[N, 16] x) => (float[N, 16] y) { a = MatMul(x, w)  y = MatMul(a, w) }"
    done = apply(SMALL, model(text, w=floats(16, 16)))
    assert done.body.count("DequantizeLinear") == 1
    assert len(tensors(done.after)) == 2


def test_readers_of_the_shape_read_it_from_the_integers() -> None:
    text = "g (float[N, 16] x) => (float[N, 24] y, int64[2] s) { y = MatMul(x, w)  s = Shape(w) }"
    assert "s = Shape(w_int8)" in apply(SMALL, model(text, w=floats(16, 24))).body


def test_what_is_captured_behind_a_gather_is_still_there() -> None:
    text = """g (int64[N] i, bool c) => (float[N, 8] y, float[N, 8] z) {
        y = Gather(w, i)
        z = If(c)<then_branch = t () => (float[N, 8] o) { o = Exp(y) },
                  else_branch = e () => (float[N, 8] o) { o = Gather(w, i) }>
    }"""
    feeds = [{"i": np.array([1]), "c": np.array(one)} for one in (False, True)]
    done = apply(SMALL, model(text, w=floats(40, 8)), feeds=feeds)
    assert done.body.splitlines() == [
        "y_quantized = Gather(w_int8, i)",
        "y = DequantizeLinear<axis=-1>(y_quantized, w_scale)",
        "z = If(c)",
        "  else_branch: () => (o)",
        "    o_quantized = Gather(w_int8, i)",
        "    o = DequantizeLinear<axis=-1>(o_quantized, w_scale)",
        "  then_branch: () => (o)",
        "    o = Exp(y)",
    ]
    assert done.sqnr_db("z") > 30


def test_one_channel_gets_one_scale() -> None:
    done = apply(SMALL, model("g (float[N, 300] x) => (float[N, 1] y) { y = MatMul(x, w) }", w=floats(300, 1)))
    assert "DequantizeLinear(w_int8" in done.body
    assert "it has one channel" in done.applied[0].why


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves_need_opset_19(dtype: Any) -> None:
    kind = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.BFLOAT16

    def halves(opset: int) -> ModelProto:
        text = f"""<ir_version: 9, opset_import: ["": {opset}]> g (float[N, 32] x) => (float[N, 48] y) {{
            a = Cast<to = {kind}>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b) }}"""
        return model(text, w=floats(32, 48, dtype=dtype))

    runs = None if dtype is np.float16 else ()  # onnxruntime has no bfloat16 MatMul on a CPU
    done = apply(SMALL, halves(19), feeds=runs)
    found = {one.name: one for one in done.after.graph.initializer}
    assert found["w_scale"].data_type == kind
    assert not done.missed
    done = apply(SMALL, halves(18), feeds=runs)
    assert_missed(done, "quantize", f"DequantizeLinear to {np.dtype(dtype)} needs opset 19 and the model has 18")
    assert_missed(done, "quantize", "raise it with opset{to=19} first")


def at(opset: int, ir: int = 8) -> str:
    return f'<ir_version: {ir}, opset_import: ["": {opset}]> {DENSE}'


def test_scales_for_each_channel_need_opset_13() -> None:
    advice = "raise it with opset{to=13} first or ask for granularity=tensor"
    missed(at(12), f"one scale a channel needs opset 13 and the model has 12: {advice}", w=floats(16, 24))
    assert apply(SMALL, model(at(13), w=floats(16, 24))).applied
    assert apply(WeightInt8("tensor", min_elements=1), model(at(12), w=floats(16, 24))).applied
    assert apply(WeightInt8("tensor", min_elements=1), model(at(10), w=floats(16, 24))).applied


def test_the_advice_works() -> None:
    done = apply(Pipeline.of(*parse("opset{to=13}").steps, SMALL), model(at(9), w=floats(16, 24)), changes=("opsets",))
    assert "DequantizeLinear<axis=1>" in done.body


def test_dequantizing_needs_opset_10() -> None:
    why = "DequantizeLinear needs opset 10 and the model has 9: raise it with opset{to=10} first"
    missed(at(9, 4), why, WeightInt8("tensor", min_elements=1), w=floats(16, 24))
    missed(at(9, 4), "one scale a channel needs opset 13 and the model has 9", w=floats(16, 24))


def test_old_ir_versions_are_left() -> None:
    proto = model(DENSE, w=floats(16, 24))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=proto.graph.initializer[0]))
    del proto.graph.initializer[:]
    proto.ir_version = 3
    done = apply(SMALL, proto, feeds=())
    assert_missed(done, "quantize", "the model has IR version 3, where every initializer is an input")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "g (float[N, 16] x, float[16, 24] w) => (float[N, 24] y) { y = MatMul(x, w) }",
            "it is also a graph input, whose value callers may give",
        ),
        (
            "g (float[N, 16] x) => (float[N, 24] y, float[16, 24] w) { y = MatMul(x, w) }",
            "'w', which holds its values, is a graph output",
        ),
        (
            "g (float[N, 16] x) => (float[N, 24] y, float[16, 24] z) { y = MatMul(x, w)  z = Neg(w) }",
            "Neg 'Neg(z)' reads it, and Neg is not an operator with weights",
        ),
        (
            """g (float[N, 16] x) => (float[N, 24] y) {
                q = QuantizeLinear(w, s)  d = DequantizeLinear(q, s)  y = MatMul(x, d) }""",
            "it is quantized already, by QuantizeLinear 'QuantizeLinear(q)'",
        ),
    ],
)
def test_weights_that_somebody_else_needs_are_left(text: str, why: str) -> None:
    weights = {"w": floats(16, 24)} | ({"s": np.array(0.1, np.float32)} if "s)" in text else {})
    missed(text, why, **weights)


def test_quantized_weights_are_left() -> None:
    text = "g (float[N, 16] x) => (float[N, 24] y) { d = DequantizeLinear(w, s)  y = MatMul(x, d) }"
    stored = np.ones((16, 24), np.int8)
    missed(text, "it is quantized already, by DequantizeLinear 'DequantizeLinear(d)'", w=stored, s=np.float32(1))


def test_integer_weights_are_left() -> None:
    text = "g (int32[N, 16] x) => (int32[N, 24] y) { y = MatMul(x, w) }"
    missed(text, "it is int32 already, not floating point", w=np.ones((16, 24), np.int32))


def test_float64_is_left() -> None:
    text = "g (double[N, 16] x) => (double[N, 24] y) { y = MatMul(x, w) }"
    missed(text, "it is float64, and DequantizeLinear makes no float64", w=floats(16, 24, dtype=np.float64))


def test_biases_are_left() -> None:
    text = "g (float[N, 16] x) => (float[N, 400] y) { y = Gemm(x, w, b) }"
    done = apply(SMALL, model(text, w=floats(16, 400), b=floats(400)))
    assert_missed(done, "quantize", "it is the bias of Gemm 'Gemm(y)'")
    assert len(done.applied) == 1


def test_small_weights_are_left_and_small_others_not_mentioned() -> None:
    proto = model(
        "g (float[N, 16] x) => (float[N, 24] y) { a = MatMul(x, w)  y = Add(a, b) }", w=floats(16, 24), b=floats(24)
    )
    done = apply(WeightInt8(min_elements=385), proto)
    assert [one.why for one in done.missed] == ["it has 384 elements, fewer than min-elements=385"]
    assert apply(WeightInt8(min_elements=384), proto).applied


def test_weights_that_would_not_get_smaller_are_left() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { y = MatMul(x, w) }"
    missed(text, "it would not be smaller: 64 bytes now, about", w=floats(4, 4))


@pytest.mark.parametrize("columns", range(4, 40))
@pytest.mark.parametrize("name", ["w", "a.rather.long.name.of.a.weight"])
def test_the_file_never_grows(columns: int, name: str) -> None:
    text = f'g (float[N, 4] x) => (float[N, {columns}] y) {{ y = MatMul(x, "{name}") }}'
    proto = model(text.replace('"', ""), **{name: floats(4, columns)}) if "." not in name else None
    if proto is None:
        proto = model(f"g (float[N, 4] x) => (float[N, {columns}] y) {{ y = MatMul(x, w) }}", w=floats(4, columns))
        proto.graph.initializer[0].name = proto.graph.node[0].input[1] = name
    done = apply(WeightInt8(symmetric=False, min_elements=1), proto, laws=False)
    assert done.after.ByteSize() <= proto.ByteSize()


@pytest.mark.parametrize(("value", "why"), [(np.nan, "a NaN"), (np.inf, "an infinity"), (3e38, "magnitude 3e+38")])
def test_values_that_have_no_grid_are_left(value: float, why: str) -> None:
    weight = floats(16, 24)
    weight[3, 4] = value
    missed(DENSE, why, w=weight)


def test_empty_weights_are_left() -> None:
    text = "g (float[N, 0] x) => (float[N, 24] y) { y = MatMul(x, w) }"
    missed(text, "it is empty", w=floats(0, 24))


@pytest.mark.parametrize(("pattern", "hit"), [("w", True), ("/head/*", True), ("/head", False), ("W", False)])
def test_what_skip_names_is_left(pattern: str, hit: bool) -> None:
    proto = model(DENSE, w=floats(16, 24))
    proto.graph.node[0].name = "/head/fc"
    done = apply(WeightInt8(min_elements=1, skip=("nothing", pattern)), proto)
    assert bool(done.applied) is not hit
    if hit:
        assert_missed(done, "quantize", f"skip has {pattern!r}")


def test_sparse_weights_that_are_smaller_as_they_are_stay() -> None:
    dense = floats(1, 40)
    proto = model("g (float[N, 100] x) => (float[N, 40] y) { y = MatMul(x, w) }", w=floats(100, 40))
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(dense.ravel(), "w"), numpy_helper.from_array(np.arange(40), "w_at"), [100, 40]
    )
    del proto.graph.initializer[:]
    proto.graph.sparse_initializer.append(sparse)
    done = apply(SMALL, proto, laws=False)
    assert_missed(done, "quantize", "it would not be smaller: 480 bytes now")


def test_what_is_not_read_is_not_mentioned() -> None:
    proto = model("g (float[N, 4] x) => (float[N, 4] y) { y = Neg(x) }", w=floats(64, 64))
    assert apply(SMALL, proto).remarks == ()


def test_subnormal_and_zero_channels_hold() -> None:
    weight = floats(16, 24)
    weight[:, 0] = 0
    weight[:, 1] *= np.float32(1e-40)
    weight[:, 2] = np.float32(1e-45)
    done = apply(SMALL, model(DENSE, w=weight))
    scale = tensors(done.after)["w_scale"]
    assert scale[0] == 1
    assert (scale >= np.finfo(np.float32).tiny).all()
    assert done.sqnr_db("y") > 35


def test_values_that_were_read_are_let_go() -> None:
    weight = floats(16, 24)
    weight[0, 0] = np.nan
    graph = apply(SMALL, model(DENSE, w=weight), feeds=NO_FEEDS).graph
    (kept,) = graph.initializers
    assert kept.stored is not None
    assert "_loaded" not in kept.__dict__


def test_each_gather_counts_for_the_size_of_the_file() -> None:
    """One DequantizeLinear behind each of many lookups weighs more than a small table saves."""
    outs = ", ".join(f"float[N, 8] y{i}" for i in range(30))
    nodes = "  ".join(f"y{i} = Gather(w, i)" for i in range(30))
    proto = model(f"g (int64[N] i) => ({outs}) {{ {nodes} }}", w=floats(40, 8))
    done = apply(SMALL, proto, feeds=[{"i": np.array([1])}])
    assert_missed(done, "quantize", "it would not be smaller: 1280 bytes now")


def test_scales_of_rows_cannot_follow_a_lookup_of_rows() -> None:
    """Asked to write such scales, the floats are made before the Gather."""
    proto = model("g (int64[N] i) => (float[N, 8] y) { y = Gather(w, i) }", w=floats(40, 8))
    source = from_proto(proto)
    graph = decode(source.proto, source.store)
    (weight,) = weights(graph)
    values = weight.constant.values
    grid = symmetric(spread(values, 0), 0, values.dtype)
    write(weight, grid, codes(values, grid), order_of(graph))
    assert (
        body(encode(graph).proto)
        == "w_dequantized = DequantizeLinear<axis=0>(w_int8, w_scale)\ny = Gather(w_dequantized, i)"
    )


def test_declared_shapes_are_kept_where_values_were() -> None:
    proto = model("g (int64[N] i) => (float[N, 8] y) { a = Gather(w, i)  y = Neg(a) }", w=floats(40, 8))
    proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 8]))
    done = apply(SMALL, proto, feeds=[{"i": np.array([1, 2])}])
    assert [one.name for one in done.after.graph.value_info] == ["a"]


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="min-elements must not be negative, and -1 is"):
        WeightInt8(min_elements=-1)


def test_the_page_is_complete() -> None:
    found = page(WeightInt8)
    assert [one.title for one in found.sections] == list(SECTIONS)
    assert str(Pipeline.of(WeightInt8(min_elements=256, skip=("/head/*",)))) == (
        'weight-int8{min-elements=256 skip=["/head/*"]}'
    )


def test_bodies_of_text_are_what_this_file_thinks() -> None:
    assert body(model(DENSE, w=floats(16, 24))) == "y = MatMul(x, w)"
