"""dynamic-int8: the form it writes, what it computes, and every reason to leave an operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.testing import Applied, apply, assert_missed, model
from passes.quantize.dynamic_int8 import DynamicInt8
from passes.quantize.weight_int8 import WeightInt8

SMALL = DynamicInt8(min_elements=1)
DENSE = "g (float[N, 16] x) => (float[N, 24] y) { y = MatMul(x, w) }"
FORM = [
    "x_quantized, x_scale, x_zero_point = DynamicQuantizeLinear(x)",
    "y_matmulinteger = MatMulInteger(x_quantized, w_int8, x_zero_point)",
    "y_cast = Cast<to=1>(y_matmulinteger)",
    "y_mul = Mul(x_scale, w_scale)",
    "y = Mul(y_cast, y_mul)",
]


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def outputs(proto: ModelProto, feeds: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def missed(text: str, why: str, pass_: DynamicInt8 = SMALL, feeds: Any = (), **weights: Any) -> Applied:
    done = apply(pass_, model(text, **weights), feeds=feeds)
    assert_missed(done, "dynamic", why)
    assert done.after == done.before
    return done


def test_a_product_becomes_one_of_integers() -> None:
    done = apply(SMALL, model(DENSE, w=floats(16, 24)))
    assert done.body.splitlines() == FORM
    found = tensors(done.after)
    assert set(found) == {"w_int8", "w_scale"}
    assert found["w_int8"].dtype == np.int8
    assert found["w_scale"].shape == (24,)
    assert np.abs(found["w_int8"].astype(int)).max(axis=0).tolist() == [127] * 24
    assert done.applied[0].why == "16 x 24"
    assert done.sqnr_db("y") > 30


def test_one_scale_in_all_on_request() -> None:
    done = apply(DynamicInt8("tensor", min_elements=1), model(DENSE, w=floats(16, 24)))
    assert tensors(done.after)["w_scale"].shape == ()
    assert done.body.splitlines() == FORM


@pytest.mark.parametrize("shift", [0.0, -3.0, 40.0])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_error_is_at_most_a_step_of_data_and_half_a_step_of_weights(shift: float, size: float) -> None:
    """A step and not half of one for data: rounding the zero point can push the last code out."""
    x, w = (floats(5, 16, seed=1) + np.float32(shift)) * np.float32(size), floats(16, 24)
    done = apply(SMALL, model(DENSE, w=w), feeds=[{"x": x}])
    found = tensors(done.after)
    wide, scale = x.astype(np.float64), found["w_scale"].astype(np.float64)
    step = (max(wide.max(), 0) - min(wide.min(), 0)) / 255
    stored = found["w_int8"].astype(np.float64) * scale
    bound = step * np.abs(stored).sum(axis=0) + np.abs(wide).sum(axis=1, keepdims=True) * scale / 2
    error = np.abs(outputs(done.after, {"x": x}) - wide @ w.astype(np.float64))
    assert (error <= bound * (1 + 1e-4)).all()
    assert (np.abs(stored - w) <= scale / 2 * (1 + 1e-6)).all()


def test_it_computes_what_integers_give() -> None:
    """Against the formulas of DynamicQuantizeLinear and MatMulInteger, in 64 bits."""
    x, w = floats(5, 16, seed=1), floats(16, 24)
    done = apply(SMALL, model(DENSE, w=w))
    found = tensors(done.after)
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255))
    zero = np.clip(np.rint(-low / scale), 0, 255)
    codes = np.clip(np.rint(x / scale) + zero, 0, 255)
    exact = (codes - zero).astype(np.int64) @ found["w_int8"].astype(np.int64)
    assert np.allclose(outputs(done.after, {"x": x}), exact * (scale * found["w_scale"]), rtol=1e-6)


def test_readers_of_one_value_share_its_quantization() -> None:
    text = """g (float[B, T, 16] x) => (float[B, T, 24] q, float[B, T, 24] k, float[B, T, 24] v) {
        q = MatMul(x, a)  b = MatMul(x, c)  k = Add(b, d)  v = MatMul(x, e) }"""
    done = apply(SMALL, model(text, a=floats(16, 24), c=floats(16, 24, seed=1), d=floats(24), e=floats(16, 24, seed=2)))
    assert done.body.count("DynamicQuantizeLinear") == 1
    assert done.body.count("MatMulInteger(x_quantized") == 3
    assert len(done.applied) == 3


def test_operators_that_share_a_weight_share_its_codes() -> None:
    text = "g (float[N, 16] x) => (float[N, 16] y) { a = MatMul(x, w)  y = MatMul(a, w) }"
    done = apply(SMALL, model(text, w=floats(16, 16)))
    assert set(tensors(done.after)) == {"w_int8", "w_scale"}
    assert done.body.count("w_int8") == 2


def test_codes_that_are_stored_already_are_kept() -> None:
    proto = model(DENSE, w=floats(16, 24))
    weights_only = apply(WeightInt8(min_elements=1), proto).after
    done = apply(Pipeline.of(WeightInt8(min_elements=1), SMALL), proto)
    assert done.body.splitlines() == FORM
    assert all((tensors(done.after)[name] == values).all() for name, values in tensors(weights_only).items())
    assert done.after.ByteSize() < weights_only.ByteSize() + 600


def test_zero_points_of_stored_codes_are_kept() -> None:
    weight = floats(16, 24) + 2
    quantized = Pipeline.of(WeightInt8(min_elements=1, symmetric=False), SMALL)
    done = apply(quantized, model(DENSE, w=weight))
    assert "MatMulInteger(x_quantized, w_int8, x_zero_point, w_zero_point)" in done.body
    assert done.sqnr_db("y") > 35


def test_a_tied_table_is_read_as_codes_by_both() -> None:
    text = """g (int64[N] i, float[N, 16] x) => (float[N, 16] e, float[N, 40] y) {
        e = Gather(w, i)  t = Transpose(w)  y = MatMul(x, t) }"""
    proto = model(text, w=floats(40, 16))
    feeds = [{"i": np.array([3, 1]), "x": floats(2, 16)}]
    assert_missed(apply(SMALL, proto, feeds=feeds), "dynamic", "its weight is behind Transpose 'Transpose(t)'")
    done = apply(Pipeline.of(WeightInt8(min_elements=1), SMALL), proto, feeds=feeds)
    assert "MatMulInteger(x_quantized, t_quantized, x_zero_point)" in done.body
    assert sum(one.size for one in tensors(done.after).values() if one.dtype == np.int8) == 640


GEMM = "g (float[N, 16] x) => (float[N, 24] y) { y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b) }"


@pytest.mark.parametrize("bias", [(24,), (1, 24), (1, 1), ()])
def test_a_gemm_keeps_its_factors_and_its_bias(bias: tuple[int, ...]) -> None:
    for first in ((), (WeightInt8(min_elements=1),)):
        done = apply(Pipeline.of(*first, SMALL), model(GEMM, w=floats(24, 16), b=floats(*bias) * 4))
        assert [line.split(" = ")[1].split("(")[0] for line in done.body.splitlines()] == [
            "DynamicQuantizeLinear",
            "MatMulInteger",
            "Cast<to=1>",
            "Mul",
            "Mul",
            "Add",
        ]
        assert {one.shape for one in tensors(done.after).values() if one.dtype == np.int8} == {(16, 24)}
        assert done.sqnr_db("y") > 30


def test_a_gemm_may_have_no_bias_or_a_computed_one() -> None:
    done = apply(SMALL, model("g (float[N, 16] x) => (float[N, 24] y) { y = Gemm(x, w) }", w=floats(16, 24)))
    assert done.body.splitlines() == FORM
    text = "g (float[N, 16] x, float[24] b) => (float[N, 24] y) { y = Gemm<beta = 0.5>(x, w, b) }"
    done = apply(SMALL, model(text, w=floats(16, 24)))
    assert "b_scaled = Mul(b, beta)" in done.body
    assert done.sqnr_db("y") > 30


def test_weights_of_more_dims_share_scales() -> None:
    text = "g (float[3, N, 16] x) => (float[3, N, 24] y) { y = MatMul(x, w) }"
    done = apply(SMALL, model(text, w=floats(3, 16, 24)))
    assert tensors(done.after)["w_scale"].shape == (24,)
    assert done.sqnr_db("y") > 30


def test_vectors_are_multiplied() -> None:
    done = apply(SMALL, model("g (float[16] x) => (float[24] y) { y = MatMul(x, w) }", w=floats(16, 24)))
    assert done.sqnr_db("y") > 30


def test_a_reduced_range_leaves_room_for_sums_in_16_bits() -> None:
    done = apply(DynamicInt8(reduce_range=True, min_elements=1), model(DENSE, w=floats(16, 24)))
    codes = tensors(done.after)["w_int8"].astype(int)
    assert np.abs(codes).max() == 64
    assert 2 * 255 * np.abs(codes).max() < 2**15
    assert done.sqnr_db("y") > 25
    proto = model(DENSE, w=floats(16, 24))
    quantized = Pipeline.of(WeightInt8(min_elements=1), DynamicInt8(reduce_range=True, min_elements=1))
    assert_missed(apply(quantized, proto), "dynamic", "its codes reach 127, more than the 64 of a reduced range")


def test_sums_that_could_leave_32_bits_are_left() -> None:
    text = "g (float[N, 66400] x) => (float[N, 2] y) { y = MatMul(x, w) }"
    missed(text, "sums of 66400 products of 8 bits can leave 32 bits", w=np.ones((66400, 2), np.float32))
    assert 66400 * 255 * 127 >= 2**31
    text = text.replace("66400", "66000")
    done = apply(SMALL, model(text, w=np.ones((66000, 2), np.float32)), feeds=[{"x": np.ones((1, 66000), np.float32)}])
    assert outputs(done.after, {"x": np.ones((1, 66000), np.float32)}).tolist() == [pytest.approx([66000.0] * 2)]


def test_bodies_and_functions() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N, 16] x) => (float[N, 16] z) {
            a = Neg(x)
            y = If(c)<then_branch = t () => (float[N, 16] o) { p = MatMul(a, w)  o = MatMul(p, w) },
                      else_branch = e () => (float[N, 16] o) { o = MatMul(a, w) }>
            z = local.dense(y)
        }
        <domain: "local", opset_import: ["": 21]>
        dense (a) => (c) { c = MatMul(a, k) }"""
    proto = model(text, w=floats(16, 16))
    value = numpy_helper.from_array(floats(16, 16, seed=1), "")
    proto.functions[0].node.insert(0, helper.make_node("Constant", [], ["k"], value=value))
    done = apply(SMALL, proto)
    assert len(done.applied) == 4
    assert done.body.count("DynamicQuantizeLinear") == 4
    assert "k_int8 = Constant<value=int8[16,16]>()" in done.body
    assert set(tensors(done.after)) == {"w_int8", "w_scale"}
    assert done.sqnr_db("z") > 25


def test_onnxruntime_runs_it_as_one_operator(tmp_path: Path) -> None:
    text = """g (float[N, 16] x) => (float[N, 24] y, float[N, 16] v) {
        a = MatMul(x, w)  y = Add(a, b)  u = Relu(a)  q = MatMul(u, c)  r = MatMul(u, d)  v = Add(q, r) }"""
    weights = {"w": floats(16, 24), "b": floats(24), "c": floats(24, 16), "d": floats(24, 16, seed=1)}
    done = apply(SMALL, model(text, **weights))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(done.after.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert found.count("DynamicQuantizeMatMul") == 1
    assert found.count("MatMulIntegerToFloat") == 2
    assert "MatMulInteger" not in found


def at(opset: int, ir: int = 8) -> str:
    return f'<ir_version: {ir}, opset_import: ["": {opset}]> {DENSE}'


@pytest.mark.parametrize("opset", [11, 13, 17, 22])
def test_opsets_from_11_on(opset: int) -> None:
    assert apply(SMALL, model(at(opset), w=floats(16, 24))).body.splitlines() == FORM


def test_opset_10_is_too_old() -> None:
    why = "DynamicQuantizeLinear needs opset 11 and the model has 10: raise it with opset{to=11} first"
    missed(at(10), why, w=floats(16, 24))


def test_weights_that_callers_may_give_are_left() -> None:
    text = "g (float[N, 16] x, float[16, 24] w) => (float[N, 24] y) { y = MatMul(x, w) }"
    missed(text, "it is also a graph input, whose value callers may give", w=floats(16, 24))


def test_ir_version_3_is_left() -> None:
    proto = model(at(11, ir=3).replace("x) =>", "x) =>").replace("{ y", "{ y"), w=floats(16, 24))
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [16, 24]))
    assert_missed(apply(SMALL, proto, feeds=()), "dynamic", "also a graph input")
    held = model(at(11, ir=3), w=floats(16, 24))
    held.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=held.graph.initializer[0]))
    del held.graph.initializer[:]
    assert_missed(apply(SMALL, held, feeds=()), "dynamic", "IR version 3, where every initializer is an input")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_left(value: float) -> None:
    weight = floats(16, 24)
    weight[3, 4] = value
    missed(DENSE, "it has a", w=weight)


def test_what_is_not_a_stored_right_operand_is_left() -> None:
    missed(
        "g (float[N, 16] x, float[16, M] z) => (float[N, M] y) { y = MatMul(x, z) }",
        "neither operand is a stored weight",
    )
    missed("g (float[16, N] x) => (float[24, N] y) { y = MatMul(w, x) }", "left operand", w=floats(24, 16))
    missed(
        "g (float[16, N] x) => (float[N, 24] y) { y = Gemm<transA = 1>(x, w) }",
        "it transposes its first operand",
        w=floats(16, 24),
    )
    missed("g (float[N, 16] x) => (float[N] y) { y = MatMul(x, w) }", "fewer than two dims", w=floats(16))
    missed("g (float[N, 0] x) => (float[N, 24] y) { y = MatMul(x, w) }", "its weight is empty", w=floats(0, 24))
    text = "g (float[N, 16] x) => (float[2, 4] y) { y = MatMul(v, w) }"
    missed(text, "both operands are constant", v=floats(2, 3), w=floats(3, 4))


def test_doubles_and_halves_are_left() -> None:
    text = "g (double[N, 16] x) => (double[N, 24] y) { y = MatMul(x, w) }"
    missed(text, "it does not multiply float32 values", w=floats(16, 24).astype(np.float64))
    text = "g (float16[N, 16] x) => (float16[N, 24] y) { y = MatMul(x, w) }"
    missed(text, "it does not multiply float32 values", w=floats(16, 24).astype(np.float16))


def test_weights_that_something_else_reads_are_left() -> None:
    text = """g (float[N, 16] x, int64[M] i) => (float[N, 24] y, float[M, 24] e) {
        y = MatMul(x, w)  e = Gather(w, i) }"""
    missed(text, "so it would be stored twice: run weight-int8 before", w=floats(16, 24))
    text = "g (float[N, 16] x) => (float[N, 24] y, float[16, 24] e) { y = MatMul(x, w)  e = Relu(w) }"
    missed(text, "Relu is not an operator with weights", w=floats(16, 24))


def test_scales_that_no_integer_product_knows_are_left() -> None:
    text = "g (float[N, 16] x) => (float[N, 24] y) {{ d = DequantizeLinear<{}>(w, s)  y = MatMul(x, d) }}"
    codes = np.ones((16, 24), np.int8)
    missed(text.format("axis = 0"), "not along its outputs", w=codes, s=np.ones(16, np.float32))
    missed(text.format("axis = 0, block_size = 8"), "scales for blocks", w=codes, s=np.ones((2, 24), np.float32))
    missed(text.format("axis = 1"), "codes of other than 8 bits", w=codes.astype(np.int16), s=np.ones(24, np.float32))


def test_operators_that_would_not_gain_are_left() -> None:
    text = "g (float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) { y = Conv(x, w) }"
    missed(text, "ConvInteger) runs slower", w=floats(4, 3, 3, 3))
    missed(DENSE, "its weight has 384 elements, fewer than min-elements=1024", DynamicInt8(), w=floats(16, 24))


TWO = "g (float[N, 16] x) => (float[N, 16] y) { first = MatMul(x, v)  y = MatMul(first, w) }"


@pytest.mark.parametrize("pattern", ["w", "y", "MatMul(y)", "[wz]"])
def test_skip_and_only_take_names_of_nodes_weights_and_values(pattern: str) -> None:
    weights = {"v": floats(16, 16), "w": floats(16, 16, seed=1)}
    done = apply(DynamicInt8(min_elements=1, skip=(pattern,)), model(TWO, **weights))
    assert_missed(done, "dynamic", f"skip has {pattern!r}")
    assert len(done.applied) == 1
    done = apply(DynamicInt8(min_elements=1, only=(pattern,)), model(TWO, **weights))
    assert_missed(done, "dynamic", "only has no pattern for it")
    assert done.applied[0].node == "MatMul(y)"


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="min-elements must not be negative"):
        DynamicInt8(min_elements=-1)


def test_what_it_made_is_left_alone() -> None:
    done = apply(SMALL, model(DENSE, w=floats(16, 24)))
    assert apply(SMALL, done.after).after == done.after
