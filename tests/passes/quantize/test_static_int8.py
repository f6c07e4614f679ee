"""static-int8: what is written for each operator and target, and every reason to leave one."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.testing import Applied, apply, assert_missed, model
from graphopt.testing.running import USUAL, outputs_of
from passes.quantize.static_int8 import StaticInt8


def plain(target: Any = "portable", **options: Any) -> StaticInt8:
    """The pass without what test_bias_correction.py is about."""
    return StaticInt8(target, bias_correction=0, **options)


PLAIN = plain()


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def ops(proto: ModelProto) -> dict[str, int]:
    return dict(collections.Counter(node.op_type for node in proto.graph.node))


CONV = "g (float[1, 3, 9, 9] x) => (float[1, 8, 7, 7] y) { c = Conv(x, w, b)  y = Relu(c) }"
WEIGHTS = {"w": floats(8, 3, 3, 3), "b": floats(8)}
CONV_FEEDS = [{"x": floats(1, 3, 9, 9, seed=seed)} for seed in range(3)]


def convolution(pass_: StaticInt8, **weights: Any) -> Applied:
    return apply(pass_, model(CONV, **(WEIGHTS | weights)), feeds=CONV_FEEDS)


def test_a_convolution_reads_and_makes_integers() -> None:
    done = convolution(PLAIN)
    assert done.body.splitlines() == [
        "x_quantized = QuantizeLinear(x, x_scale, x_zero_point)",
        "x_dequantized = DequantizeLinear(x_quantized, x_scale, x_zero_point)",
        "w_dequantized = DequantizeLinear<axis=0>(w_int8, w_scale)",
        "b_dequantized = DequantizeLinear<axis=0>(b_int32, b_scale)",
        "c = Conv(x_dequantized, w_dequantized, b_dequantized)",
        "y_quantized = QuantizeLinear(c, y_scale, y_zero_point)",
        "y = DequantizeLinear(y_quantized, y_scale, y_zero_point)",
    ]
    found = tensors(done.after)
    assert set(found) == {
        *("x_scale", "x_zero_point", "y_scale", "y_zero_point"),
        *("w_int8", "w_scale", "b_int32", "b_scale"),
    }
    assert found["w_int8"].dtype == np.int8 and found["w_int8"].min() >= -127
    assert found["x_zero_point"].dtype == np.uint8
    assert found["y_zero_point"] == 0  # Relu went into the range
    assert found["b_int32"].dtype == np.int32
    assert np.allclose(found["b_scale"], found["x_scale"] * found["w_scale"], rtol=1e-6)
    assert np.all(np.abs(found["b_int32"] * found["b_scale"] - WEIGHTS["b"]) <= found["b_scale"] * 0.51)
    (remark,) = done.applied
    assert (remark.rule, remark.why) == ("quantize", "reads and makes integers, and Relu goes into the range")
    assert not done.missed
    assert done.sqnr_db("y") > 35


def test_min_max_takes_the_whole_range() -> None:
    found = tensors(convolution(plain(range="min-max")).after)
    seen = np.concatenate([feed["x"].ravel() for feed in CONV_FEEDS])
    assert float(found["x_scale"]) == pytest.approx((seen.max() - seen.min()) / 255, rel=1e-6)


@pytest.mark.parametrize("method", ["mse", "min-max", "percentile", "entropy"])
def test_every_method_of_ranges_holds(method: Any) -> None:
    assert convolution(plain(range=method)).sqnr_db("y") > 15


@pytest.mark.parametrize("bound", [6.0, 0.5, 1 / 3, 0.1])
def test_a_clip_goes_into_the_range(bound: float) -> None:
    text = CONV.replace("Relu(c)", "Clip(c, low, high)")
    limits = {"low": np.array(0, np.float32), "high": np.array(bound, np.float32)}
    done = apply(PLAIN, model(text, **WEIGHTS, **limits), feeds=CONV_FEEDS)
    assert "Clip" not in ops(done.after)
    found = tensors(done.after)
    assert not {"low", "high"} & set(found)
    assert np.float32(255) * found["y_scale"] <= np.float32(bound)
    assert done.sqnr_db("y") > 24


def test_a_limit_that_the_grid_does_not_keep_stays() -> None:
    text = CONV.replace("Relu(c)", "Clip(c, low, high)").replace("y) {", "y, float[1, 8, 7, 7] z) {")
    text = text.replace("}", " z = Neg(c) }")
    limits = {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    done = apply(PLAIN, model(text, **WEIGHTS, **limits), feeds=CONV_FEEDS)
    assert ops(done.after)["Clip"] == 1  # what others read is not limited
    assert "y = Clip(c_dequantized, low, high)" in done.body


CHAIN = """g (float[1, 4, 8, 8] x) => (float[1, 10] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, w)  r = Relu(a)
    b = Conv<pads = [1, 1, 1, 1]>(r, v)  s = Add(b, r)  t = Relu(s)
    m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(t)
    p = GlobalAveragePool(m)  f = Flatten(p)  y = Gemm<transB = 1>(f, u, c) }"""
CHAIN_WEIGHTS = {"w": floats(6, 4, 3, 3), "v": floats(6, 6, 3, 3), "u": floats(10, 6), "c": floats(10)}
CHAIN_FEEDS = [{"x": floats(1, 4, 8, 8, seed=seed)} for seed in range(4)]


def test_chains_are_quantized_from_end_to_end() -> None:
    done = apply(PLAIN, model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS)
    assert not done.missed
    assert [one.op for one in done.applied] == [
        "Conv",
        "Conv",
        "Add",
        "MaxPool",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    ]
    assert ops(done.after)["QuantizeLinear"] == 7
    assert "Relu" not in ops(done.after)
    assert "y = Gemm<transB=1>(f_dequantized, u_dequantized, c_dequantized)" in done.body
    assert done.applied[-1].why == "reads integers"
    assert done.sqnr_db("y") > 25


def test_what_is_only_moved_keeps_its_grid() -> None:
    done = apply(PLAIN, model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS)
    grids = {
        node.output[0]: tuple(node.input[1:]) for node in done.after.graph.node if node.op_type == "QuantizeLinear"
    }
    assert grids["m_quantized"] == grids["t_quantized"]
    assert grids["f_quantized"] == grids["p_quantized"]
    assert grids["p_quantized"] != grids["m_quantized"]


def test_onnxruntime_computes_the_chain_in_integers() -> None:
    """With its optimizations on, results are those of the plain graph but for a code here and there."""
    done = apply(PLAIN, model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS)
    plain = outputs_of(done.after.SerializeToString(), CHAIN_FEEDS)
    fused = outputs_of(done.after.SerializeToString(), CHAIN_FEEDS, USUAL)
    for one, other in zip(plain, fused, strict=True):
        assert np.allclose(one["y"], other["y"], atol=np.abs(one["y"]).max() / 40)


def test_one_pair_serves_every_reader() -> None:
    text = """g (float[1, 3, 9, 9] x) => (float[1, 8, 7, 7] y, float[1, 8, 7, 7] z, float[1, 3, 9, 9] n) {
        y = Conv(x, w, b)  z = Conv(x, w)  n = Neg(x) }"""
    done = apply(PLAIN, model(text, **WEIGHTS), feeds=CONV_FEEDS)
    assert ops(done.after)["QuantizeLinear"] == 3
    assert done.body.count("DequantizeLinear<axis=0>(w_int8") == 1  # a weight that two read is stored once
    assert "n = Neg(x)" in done.body  # floats that are there anyway are read as they are


def test_islands_stay_floating_point() -> None:
    text = "g (float[1, 4] x) => (float[1, 4] y) { a = Add(x, x)  t = Reshape(a, s)  b = Mul(t, t)  y = Exp(b) }"
    done = apply(PLAIN, model(text, s=np.array([1, 4])), feeds=[{"x": floats(1, 4)}])
    assert done.after == done.before
    assert {one.op for one in done.missed} == {"Add", "Reshape", "Mul", "Exp"}
    assert_missed(done, "quantize", "alone it would cost more conversions than it saves")
    assert_missed(done, "quantize", "there is no integer kernel for Exp")


def test_an_activation_without_a_kernel_is_between_pairs() -> None:
    text = """g (float[1, 3, 9, 9] x) => (float[1, 4, 7, 7] y) {
        a = Conv(x, w, b)  h = HardSwish(a)  y = Conv(h, v) }"""
    done = apply(PLAIN, model(text, **WEIGHTS, v=floats(4, 8, 1, 1)), feeds=CONV_FEEDS)
    assert "h = HardSwish(a_dequantized)" in done.body
    assert "h_quantized = QuantizeLinear(h," in done.body
    assert_missed(done, "quantize", "there is no integer kernel for HardSwish")
    assert done.sqnr_db("y") > 30


def test_sigmoid_is_quantized_where_there_is_a_kernel() -> None:
    text = """g (float[1, 3, 9, 9] x) => (float[1, 4, 7, 7] y) {
        a = Conv(x, w, b)  h = Sigmoid(a)  m = Mul(a, h)  y = Conv(m, v) }"""
    proto = model(text, **WEIGHTS, v=floats(4, 8, 1, 1))
    assert len(apply(plain("onnxruntime"), proto, feeds=CONV_FEEDS).applied) == 4
    assert_missed(apply(PLAIN, proto, feeds=CONV_FEEDS), "quantize", "there is no integer kernel for Sigmoid")


def test_a_result_of_matmul_stays_floating_point_where_floats_are_read() -> None:
    text = "g (float[N, 16] x) => (float[N, 24] y) { a = MatMul(x, w)  b = Add(a, c)  y = Exp(b) }"
    proto = model(text, w=floats(16, 24) / 4, c=floats(24))
    done = apply(PLAIN, proto, feeds=[{"x": floats(5, 16)}])
    assert "w_dequantized = DequantizeLinear<axis=1>(w_int8, w_scale)" in done.body
    assert "a = MatMul(x_dequantized, w_dequantized)\nb = Add(a, c)" in done.body
    assert_missed(done, "quantize", "it adds a constant to a result that stays floating point")


def test_products_of_activations_are_asked_for() -> None:
    text = """g (float[4, 16] x) => (float[4, 4] y) {
        a = MatMul(x, w)  b = MatMul(x, v)  t = Transpose(b)  y = MatMul(a, t) }"""
    proto = model(text, w=floats(16, 8), v=floats(16, 8, seed=1))
    feeds = [{"x": floats(4, 16)}]
    done = apply(PLAIN, proto, feeds=feeds)
    assert_missed(done, "quantize", "it multiplies two activations, which products=true asks for")
    done = apply(plain(products=True), proto, feeds=feeds)
    assert "y = MatMul(a_dequantized, t_dequantized)" in done.body
    assert done.sqnr_db("y") > 30


def test_constants_of_elementwise_operators_and_concat_become_codes() -> None:
    text = """g (float[1, 3, 9, 9] x) => (float[1, 4, 7, 7] y) {
        a = Conv(x, w)  m = Mul(a, k)  j = Concat<axis = 1>(m, z)  y = Conv(j, v) }"""
    proto = model(text, w=WEIGHTS["w"], k=np.abs(floats(8, 1, 1)) + 1, z=floats(1, 2, 7, 7) * 40, v=floats(4, 10, 1, 1))
    done = apply(PLAIN, proto, feeds=CONV_FEEDS)
    assert "k_dequantized = DequantizeLinear(k_uint8, k_scale" in done.body
    grids = {node.output[0]: tuple(node.input[1:]) for node in done.after.graph.node if "Linear" in node.op_type}
    assert grids["j_quantized"] == grids["m_quantized"]
    found = tensors(done.after)
    name = grids["j_quantized"][0]
    assert float(found[name]) * 255 >= 0.999 * float(np.ptp(floats(1, 2, 7, 7) * 40))
    assert done.sqnr_db("y") > 25


def test_tensorrt_reads_symmetric_integers_and_makes_none() -> None:
    done = apply(plain("tensorrt"), model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS)
    found = tensors(done.after)
    zeros = [value for name, value in found.items() if name.endswith("zero_point")]
    assert zeros and all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert ops(done.after)["QuantizeLinear"] == 3  # x, r (shared by Conv and Add), f
    assert ops(done.after)["Relu"] == 2
    assert "s = Add(b, r_dequantized)" in done.body
    assert "c" in found  # the bias stays float
    assert not any(value.dtype == np.int32 for value in found.values())
    assert done.sqnr_db("y") > 20


def test_openvino_reads_integers_of_sums_and_pools_too() -> None:
    done = apply(plain("openvino"), model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS)
    assert "s = Add(b_dequantized, r_dequantized)" in done.body
    assert "p = GlobalAveragePool(m)" in done.body
    assert "c" in tensors(done.after)


def test_qnn_quantizes_everything() -> None:
    text = """g (float[1, 3, 9, 9] x) => (float[1, 8, 7, 7] y) { a = Conv(x, w, b)  h = HardSwish(a)  y = Tanh(h) }"""
    done = apply(plain("qnn"), model(text, **WEIGHTS), feeds=CONV_FEEDS)
    assert not done.missed
    assert done.body.splitlines()[-1].startswith("y = DequantizeLinear(")
    assert ops(done.after)["QuantizeLinear"] == 4


def test_qnn_in_16_bits() -> None:
    done = apply(plain("qnn", activations="uint16"), model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS)
    assert tensors(done.after)["x_zero_point"].dtype == np.uint16
    assert tensors(done.after)["w_int8"].dtype == np.int8
    assert done.sqnr_db("y") > 35


@pytest.mark.parametrize("code", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_all_codes_of_activations(code: Any, symmetric: bool) -> None:
    done = apply(plain(activations=code, symmetric=symmetric), model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS)
    info = np.iinfo(code)
    found = tensors(done.after)
    assert found["x_zero_point"].dtype == code
    if symmetric:
        assert int(found["x_zero_point"]) == (info.min + info.max + 1) // 2
    assert "Relu" not in ops(done.after)  # where a Relu was, zero is the first code
    assert done.sqnr_db("y") > (45 if "16" in code else 20)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_codes_of_a_pass_before_are_kept(dtype: Any) -> None:
    text = """g (float[1, 3, 9, 9] x) => (float[1, 8, 7, 7] y) {
        d = DequantizeLinear<axis = 0>(q, s, z)  y = Conv(x, d, b) }"""
    codes = np.random.default_rng(0).integers(0, 100, (8, 3, 3, 3)).astype(dtype)
    scale = (np.abs(floats(8)) / 50 + 0.01).astype(np.float32)
    proto = model(text, q=codes, s=scale, z=np.full(8, 0 if dtype == np.int8 else 50, dtype), b=floats(8))
    done = apply(PLAIN, proto, feeds=CONV_FEEDS)
    found = tensors(done.after)
    assert np.array_equal(found["q"], codes)
    assert np.allclose(found["b_scale"], found["x_scale"] * scale, rtol=1e-6)
    assert done.sqnr_db("y") > 35


def test_weight_passes_come_before() -> None:
    proto = model(CONV, **WEIGHTS)
    both = Pipeline((*parse("weight-int8{min-elements=1}").passes(), PLAIN))
    alone = tensors(apply(PLAIN, proto, feeds=CONV_FEEDS).after)
    found = tensors(apply(both, proto, feeds=CONV_FEEDS).after)
    assert np.array_equal(found["w_int8"], alone["w_int8"])
    assert np.array_equal(found["b_int32"], alone["b_int32"])


def test_reduced_weights_cannot_overflow_16_bits() -> None:
    done = convolution(plain(reduce_range=True))
    codes = tensors(done.after)["w_int8"].astype(int)
    assert np.abs(codes).max() == 64
    assert 2 * 255 * np.abs(codes).max() < 2**15
    assert done.sqnr_db("y") > 30


def test_a_bias_that_is_large_widens_the_scales_of_the_weight() -> None:
    bias = floats(8)
    bias[2] = 3e5
    weight = WEIGHTS["w"].copy()
    weight[2] *= 1e-7
    done = apply(PLAIN, model(CONV, w=weight, b=bias), feeds=CONV_FEEDS)
    found = tensors(done.after)
    assert np.abs(found["b_int32"].astype(np.int64)).max() <= 2**30
    assert found["b_int32"][2] * float(found["b_scale"][2]) == pytest.approx(3e5, rel=1e-6)


def test_kept_codes_are_coarser_only_where_the_bias_needs_it() -> None:
    text = """g (float[1, 3, 9, 9] x) => (float[1, 8, 7, 7] y) {
        d = DequantizeLinear<axis = 0>(q, s)  y = Conv(x, d, b) }"""
    codes = np.random.default_rng(0).integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    scale, bias = np.full(8, 0.01, np.float32), floats(8)
    scale[5], bias[5] = 1e-12, 3.0
    done = apply(PLAIN, model(text, q=codes, s=scale, b=bias), feeds=CONV_FEEDS)
    found = tensors(done.after)
    (name,) = (key for key, value in found.items() if value.dtype == np.int8)
    others = np.arange(8) != 5
    assert np.array_equal(found[name][others], codes[others])
    assert not found[name][5].any()
    assert "q" not in found or name == "q"
    assert sum(node.op_type == "DequantizeLinear" for node in done.after.graph.node) == 4
    assert done.sqnr_db("y") > 30


def test_sums_that_could_overflow_are_left() -> None:
    deep = 70000
    text = f"g (float[1, {deep}] x) => (float[1, 2] y) {{ y = MatMul(x, w) }}"
    weight = np.ones((deep, 2), np.float32)
    done = apply(PLAIN, model(text, w=weight), feeds=[{"x": np.abs(floats(1, deep))}])
    assert_missed(done, "quantize", "a sum of its products can reach 2266950000, beyond 32 bits")


def test_the_factor_of_a_bias_goes_into_it() -> None:
    text = "g (float[N, 16] x) => (float[N, 24] y) { y = Gemm<beta = 0.5>(x, w, b) }"
    done = apply(PLAIN, model(text, w=floats(16, 24), b=floats(24)), feeds=[{"x": floats(5, 16)}])
    assert "y = Gemm<beta=1>(" in done.body
    assert done.sqnr_db("y") > 35


def at(opset: int) -> str:
    return f'<ir_version: {8 if opset < 19 else 10}, opset_import: ["": {opset}]> {CONV}'


def test_opsets_are_named() -> None:
    advice = "one scale a channel needs opset 13 and the model has 12: raise it with opset{to=13} first"
    assert_missed(apply(PLAIN, model(at(12), **WEIGHTS), feeds=CONV_FEEDS), "quantize", advice)
    why = "QuantizeLinear needs opset 10 and the model has 9: raise it with opset{to=10} first"
    assert_missed(apply(PLAIN, model(at(9), **WEIGHTS), feeds=CONV_FEEDS), "quantize", why)
    why = "16-bit activations needs opset 21 and the model has 20: raise it with opset{to=21} first"
    done = apply(plain(activations="int16"), model(at(20), **WEIGHTS), feeds=CONV_FEEDS)
    assert_missed(done, "quantize", why)


@pytest.mark.parametrize("opset", [10, 11, 12, 13, 18, 19, 21, 22])
def test_every_opset_from_10_on(opset: int) -> None:
    text = at(opset)
    done = apply(plain(granularity="tensor"), model(text, **WEIGHTS), feeds=CONV_FEEDS)
    assert tensors(done.after)["w_scale"].shape == ()
    assert done.sqnr_db("y") > 30


def test_the_advice_works() -> None:
    done = apply(
        Pipeline.of(*parse("opset{to=13}").steps, PLAIN),
        model(at(9), **WEIGHTS),
        feeds=CONV_FEEDS,
        changes=("opsets",),
    )
    assert "DequantizeLinear<axis=0>(w_int8, w_scale)" in done.body


def test_old_ir_versions_are_left() -> None:
    proto = model(CONV, **WEIGHTS)
    proto.ir_version = 3
    proto.opset_import[0].version = 11
    for name, value in WEIGHTS.items():
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    done = apply(plain("portable", granularity="tensor"), proto, feeds=CONV_FEEDS)
    assert done.after == done.before
    assert_missed(done, "quantize", "run initializers-from-inputs first")


def test_float16_is_left() -> None:
    text = "g (float16[N, 16] x) => (float16[N, 24] y) { y = MatMul(x, w) }"
    done = apply(PLAIN, model(text, w=floats(16, 24).astype(np.float16)), feeds=[{"x": np.ones((2, 16), np.float16)}])
    assert_missed(done, "quantize", "it does not compute in float32")


@pytest.mark.parametrize(
    ("text", "weights", "why"),
    [
        (
            "g (float[1, 3, 9, 9] x, float[8, 3, 3, 3] w) => (float[1, 8, 7, 7] y) { y = Conv(x, w) }",
            {},
            "its weight is a graph input, whose value callers may give: run initializers-from-inputs first",
        ),
        (
            "g (float[1, 3, 9, 9] x) => (float[1, 8, 7, 7] y) { v = Neg(w)  y = Conv(x, v) }",
            {"w": WEIGHTS["w"]},
            "its weight is computed: run fold-constants first",
        ),
        (
            "g (float[1, 3, 9, 9] x) => (float[1, 8, 7, 7] y) { v = Neg(b)  y = Conv(x, w, v) }",
            WEIGHTS,
            "its bias is not a constant",
        ),
        (
            "g (float[1, 3, 9, 9] x) => (float[1, 8, 7, 7] y) { y = Conv(x, w) }",
            {"w": np.where(np.arange(216).reshape(8, 3, 3, 3) == 5, np.nan, WEIGHTS["w"]).astype(np.float32)},
            "its weight cannot be quantized: it has a NaN",
        ),
    ],
)
def test_operators_whose_weight_is_not_to_be_had_are_left(text: str, weights: Any, why: str) -> None:
    feeds = [feed | ({} if weights else {"w": WEIGHTS["w"]}) for feed in CONV_FEEDS]
    done = apply(PLAIN, model(text, **weights), feeds=feeds, laws="NaN" not in why)
    assert_missed(done, "quantize", why)
    assert done.after == done.before


def test_what_is_quantized_already_is_left() -> None:
    proto = apply(PLAIN, model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS).after
    done = apply(PLAIN, proto, feeds=CHAIN_FEEDS)
    assert done.after == proto
    assert {one.why for one in done.missed if "quantized already" not in one.why} == set()


def test_blocked_weights_are_left() -> None:
    text = """g (float[4, 64] x) => (float[4, 8] y) {
        d = DequantizeLinear<axis = 0, block_size = 32>(q, s)  y = MatMul(x, d) }"""
    proto = model(text, q=np.ones((64, 8), np.int8), s=np.abs(floats(2, 8)))
    done = apply(PLAIN, proto, feeds=[{"x": floats(4, 64)}])
    assert_missed(done, "quantize", "its weight has one scale for each block")


def test_bodies_and_functions_say_why() -> None:
    text = """g (float[1, 3, 9, 9] x, bool c) => (float[1, 8, 7, 7] y) {
        y = If(c)<then_branch = t () => (float[1, 8, 7, 7] o) { o = Conv(x, w, b) },
                  else_branch = e () => (float[1, 8, 7, 7] o) { o = Conv(x, w) }>
    }"""
    feeds = [feed | {"c": np.array(True)} for feed in CONV_FEEDS]
    done = apply(PLAIN, model(text, **WEIGHTS), feeds=feeds)
    assert len(done.missed) == 2
    assert_missed(done, "quantize", "activations inside bodies and functions cannot be observed")


def test_a_value_that_a_body_captures_is_still_there() -> None:
    text = """g (float[1, 3, 9, 9] x, bool c) => (float[1, 8, 7, 7] y) {
        a = Conv(x, w, b)
        y = If(c)<then_branch = t () => (float[1, 8, 7, 7] o) { o = Neg(a) },
                  else_branch = e () => (float[1, 8, 7, 7] o) { o = Abs(a) }>
    }"""
    feeds = [feed | {"c": np.array(flag)} for feed in CONV_FEEDS for flag in (False, True)]
    done = apply(PLAIN, model(text, **WEIGHTS), feeds=feeds)
    assert "o = Neg(a_dequantized)" in done.body
    assert done.sqnr_db("y") > 35


@pytest.mark.parametrize("number", range(1, 8))
def test_the_gate_works_node_by_node(number: int) -> None:
    gate = Limits(frozenset({("static-int8", number)}))
    done = apply(PLAIN, model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS, gate=gate)
    assert len(done.applied) == 6 and len(done.disabled) == 1
    assert done.sqnr_db("y") > 20


@pytest.mark.parametrize(("pattern", "left"), [("w", "Conv"), ("s", "Add"), ("Gemm(*", "Gemm"), ("f", "Flatten")])
def test_what_skip_names_is_left(pattern: str, left: str) -> None:
    done = apply(plain(skip=(pattern,)), model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS)
    assert left in {one.op for one in assert_missed_all(done, f"skip has {pattern!r}")}


def assert_missed_all(done: Applied, why: str) -> list[Any]:
    found = [one for one in done.missed if why in one.why]
    assert found
    return found


def test_only_what_is_named_is_quantized() -> None:
    done = apply(plain(only=("v",)), model(CHAIN, **CHAIN_WEIGHTS), feeds=CHAIN_FEEDS)
    assert [one.op for one in done.applied] == ["Conv"]
    assert_missed(done, "quantize", "only has no pattern for it")
    assert "b_quantized" in done.body and "r_quantized" in done.body


def test_values_that_are_not_finite_or_empty_say_so() -> None:
    text = "g (float[N, 16] x) => (float[N, 24] y) { y = MatMul(x, w) }"
    proto = model(text, w=floats(16, 24))
    bad = floats(5, 16)
    bad[0, 0] = np.inf
    done = apply(PLAIN, proto, feeds=[{"x": bad}], laws=False)
    assert_missed(done, "quantize", "'x' has no known range: it was not finite on all calibration feeds")
    done = apply(PLAIN, proto, feeds=[{"x": np.zeros((0, 16), np.float32)}], laws=False)
    assert_missed(done, "quantize", "'x' has no known range: it was empty on all calibration feeds")


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="percentile must be from 50 to 100, and 40 is not"):
        StaticInt8(percentile=40)


def test_the_page_is_complete() -> None:
    assert [one.title for one in page(StaticInt8).sections] == list(SECTIONS)


def test_fitted_steps_are_nearer_in_squares() -> None:
    weight = floats(8, 3, 3, 3)
    weight[:, 0, 0, 0] = 5
    proto = model(CONV, w=weight, b=WEIGHTS["b"])

    def error(pass_: StaticInt8) -> float:
        found = tensors(apply(pass_, proto, feeds=CONV_FEEDS).after)
        return float(np.square(found["w_int8"] * found["w_scale"][:, None, None, None] - weight).sum())

    assert error(plain(fit=True)) < error(PLAIN)


@pytest.mark.parametrize("before", [(), parse("weight-int8{min-elements=1}").steps])
def test_the_weight_of_a_gemm_has_a_zero_point(before: Any) -> None:
    """Without one, onnxruntime computes it in floating point."""
    text = "g (float[40, 64] x) => (float[40, 32] y) { y = Gemm(x, w, b) }"
    proto = model(text, w=floats(64, 32), b=floats(32))
    done = apply(Pipeline.of(*before, PLAIN), proto, feeds=[{"x": floats(40, 64)}])
    (gemm,) = (node for node in done.after.graph.node if node.op_type == "Gemm")
    (weight,) = (node for node in done.after.graph.node if gemm.input[1] in node.output)
    assert len(weight.input) == 3
    zero = tensors(done.after)[weight.input[2]]
    assert zero.dtype == np.int8 and zero.shape == (32,) and not zero.any()
    assert sum(node.op_type == "DequantizeLinear" for node in done.after.graph.node) == 3
