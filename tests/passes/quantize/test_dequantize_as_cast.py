"""dequantize-as-cast: the same bits in operators that are folded at load, and whose weights are left."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.testing import Applied, apply, assert_missed, model
from passes.quantize.dequantize_as_cast import DequantizeAsCast

CONV = "(float[1, 4, 9, 9] x) => (float[1, 8, 7, 7] y)"
ALL = DequantizeAsCast("all")


def codes(*shape: int, dtype: Any = np.int8, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    low = 0 if np.dtype(dtype).name.startswith("uint") else -7
    return rng.integers(low, 7, shape, endpoint=True).astype(dtype)


def scales(*shape: int, dtype: Any = np.float32) -> Any:
    return (np.random.default_rng(1).random(shape) * 0.02 + 0.001).astype(dtype)


def header(opset: int) -> str:
    return f'<ir_version: 10, opset_import: ["": {opset}]>'


def conv(body: str, opset: int = 21, pass_: DequantizeAsCast | None = None, **weights: Any) -> Applied:
    return apply(pass_ or DequantizeAsCast(), model(f"{header(opset)} g {CONV} {{ {body} }}", **weights))


def ops(done: Applied) -> list[str]:
    return [line.split(" = ")[1].split("(")[0].split("<")[0] for line in done.body.splitlines()]


def loaded(proto: ModelProto) -> list[str]:
    """The operators that onnxruntime has left when it has loaded the model, in the main graph and in bodies."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "loaded.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        graphs = [onnx.load(options.optimized_model_filepath).graph]
    found = []
    while graphs:
        for node in graphs.pop().node:
            found += [] if node.op_type.startswith("Reorder") else [node.op_type]
            graphs += [one.g for one in node.attribute if one.HasField("g")]
    return found


def test_one_scale() -> None:
    done = conv("w = DequantizeLinear(q, s)  y = Conv(x, w)", q=codes(8, 4, 3, 3), s=scales())
    assert done.body == "w_Cast = Cast<to=1>(q)\nw = Mul(w_Cast, s)\ny = Conv(x, w)"
    assert done.applied[0].why == "one scale"
    assert done.sqnr_db("y") == float("inf")


def test_a_scale_for_each_channel_is_lined_up() -> None:
    done = conv("w = DequantizeLinear<axis = 0>(q, s)  y = Conv(x, w)", 13, q=codes(8, 4, 3, 3), s=scales(8))
    assert done.body == "w_Cast = Cast<to=1>(q)\nw = Mul(w_Cast, w_scale)\ny = Conv(x, w)"
    assert {one.name: list(one.dims) for one in done.after.graph.initializer} == {
        "q": [8, 4, 3, 3],
        "w_scale": [8, 1, 1, 1],
    }
    assert done.applied[0].why == "8 scales along axis 0"


def test_a_scale_for_each_index_of_the_last_axis_is_used_as_it_is() -> None:
    text = "g (float[5, 16] x) => (float[5, 24] y) { w = DequantizeLinear<axis = -1>(q, s)  y = MatMul(x, w) }"
    done = apply(ALL, model(text, q=codes(16, 24), s=scales(24)))
    assert done.body == "w_Cast = Cast<to=1>(q)\nw = Mul(w_Cast, s)\ny = MatMul(x, w)"


@pytest.mark.parametrize("opset", [10, 12, 13, 19, 21, 23])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_the_bits_are_those_of_dequantize_linear_with_a_zero_point(opset: int, kind: Any) -> None:
    zero = np.array(-7 if kind is np.int8 else 131, kind)
    done = conv(
        "w = DequantizeLinear(q, s, z)  y = Conv(x, w)", opset, q=codes(8, 4, 3, 3, dtype=kind), s=scales(), z=zero
    )
    assert ops(done) == ["Cast", "Sub", "Mul", "Conv"]
    assert done.sqnr_db("y") == float("inf")


@pytest.mark.parametrize("kind", [np.int16, np.uint16, ml_dtypes.int4, ml_dtypes.uint4])
def test_other_widths_with_zero_points_for_channels(kind: Any) -> None:
    zeros = codes(8, dtype=kind, seed=3)
    done = conv(
        "w = DequantizeLinear<axis = 0>(q, s, z)  y = Conv(x, w)", q=codes(8, 4, 3, 3, dtype=kind), s=scales(8), z=zeros
    )
    assert ops(done) == ["Cast", "Sub", "Mul", "Conv"]
    assert done.sqnr_db("y") == float("inf")


@pytest.mark.parametrize("kind", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_float8(kind: Any) -> None:
    values = np.random.default_rng(0).standard_normal((8, 4, 3, 3)).astype(kind)
    done = conv("w = DequantizeLinear<axis = 0>(q, s)  y = Conv(x, w)", q=values, s=scales(8))
    assert ops(done) == ["Cast", "Mul", "Conv"]
    assert done.sqnr_db("y") == float("inf")


def test_a_zero_point_of_zeros_takes_no_sub() -> None:
    done = conv(
        "w = DequantizeLinear<axis = 0>(q, s, z)  y = Conv(x, w)",
        q=codes(8, 4, 3, 3),
        s=scales(8),
        z=np.zeros(8, np.int8),
    )
    assert ops(done) == ["Cast", "Mul", "Conv"]


@pytest.mark.parametrize("axis", [0, 1])
def test_blocks(axis: int) -> None:
    text = f"""g (float[5, 32] x) => (float[5, 48] y)
        {{ w = DequantizeLinear<axis = {axis}, block_size = 16>(q, s, z)  y = MatMul(x, w) }}"""
    shape = (2, 48) if axis == 0 else (32, 3)
    done = apply(ALL, model(text, q=codes(32, 48), s=scales(*shape), z=codes(*shape)))
    assert ops(done) == ["Cast", "Gather", "Sub", "Gather", "Mul", "MatMul"]
    assert done.sqnr_db("y") == float("inf")
    assert loaded(done.after) == ["MatMul"]
    assert f"one for 16 elements along axis {axis}" in done.applied[0].why


def test_a_last_block_that_is_not_full() -> None:
    text = """g (float[5, 40] x) => (float[5, 24] y)
        { w = DequantizeLinear<axis = 0, block_size = 16>(q, s)  y = MatMul(x, w) }"""
    done = apply(ALL, model(text, q=codes(40, 24), s=scales(3, 24)))
    assert done.applied
    assert done.sqnr_db("y") == float("inf")


def test_scales_that_are_powers_of_two_only_are_cast_too() -> None:
    text = f"""{header(24)} g (float[5, 32] x) => (float[5, 24] y)
        {{ w = DequantizeLinear<axis = 0, block_size = 16, output_dtype = 1>(q, s)  y = MatMul(x, w) }}"""
    powers = np.exp2(np.arange(48).reshape(2, 24) % 7 - 5).astype(ml_dtypes.float8_e8m0fnu)
    values = np.random.default_rng(0).standard_normal((32, 24)).astype(ml_dtypes.float8_e4m3fn)
    done = apply(ALL, model(text.replace("ir_version: 10", "ir_version: 12"), q=values, s=powers), feeds=())
    assert ops(done) == ["Cast", "Cast", "Gather", "Mul", "MatMul"]
    x = np.random.default_rng(1).standard_normal((5, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(done.after.SerializeToString(), providers=["CPUExecutionProvider"])
    meant = values.astype(np.float32) * np.repeat(powers.astype(np.float32), 16, 0)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ meant, rtol=1e-5, atol=1e-5)


def test_float16_is_left() -> None:
    text = """g (float[5, 16] x) => (float[5, 24] y)
        { w = DequantizeLinear<axis = 1>(q, s)  a = Cast<to = 10>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b) }"""
    done = apply(ALL, model(text, q=codes(16, 24), s=scales(24, dtype=np.float16)))
    assert_missed(done, "cast", "its result is float16, and runtimes leave out roundings to that")


@pytest.mark.parametrize("opset", [13, 21])
def test_onnxruntime_computes_it_at_load(opset: int) -> None:
    before = model(
        f"{header(opset)} g {CONV} {{ w = DequantizeLinear<axis = 0>(q, s)  y = Conv(x, w) }}",
        q=codes(8, 4, 3, 3),
        s=scales(8),
    )
    assert "DequantizeLinear" in loaded(before)
    assert set(loaded(apply(DequantizeAsCast(), before).after)) == {"Conv"}


def test_bodies_and_their_captures_are_computed_at_load() -> None:
    text = """g (bool c, float[1, 4, 9, 9] x) => (float[1, 8, 7, 7] y) {
        v = DequantizeLinear<axis = 0>(p, s)
        y = If(c)<then_branch = t () => (float[1, 8, 7, 7] o) { w = DequantizeLinear<axis = 0>(q, s)  o = Conv(x, w) },
                  else_branch = e () => (float[1, 8, 7, 7] o) { o = Conv(x, v) }> }"""
    done = apply(DequantizeAsCast(), model(text, q=codes(8, 4, 3, 3), p=codes(8, 4, 3, 3, seed=1), s=scales(8)))
    assert len(done.applied) == 2
    assert set(loaded(done.after)) == {"If", "Conv"}


def test_a_scale_that_others_read_stays() -> None:
    text = """g (float[1, 4, 9, 9] x) => (float[1, 8, 7, 7] y, float[8] t)
        { w = DequantizeLinear<axis = 0>(q, s)  y = Conv(x, w)  t = Neg(s) }"""
    done = apply(DequantizeAsCast(), model(text, q=codes(8, 4, 3, 3), s=scales(8)))
    assert {one.name for one in done.after.graph.initializer} == {"q", "s", "w_scale"}


def test_functions() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "local": 1]> g (float[1, 4, 9, 9] x) => (float[1, 8, 7, 7] y)
        { y = local.f(x, q, s) }
        <domain: "local", opset_import: ["": 21]> f (x, q, s) => (y)
        { k = Constant<value_float = 0.5>()  c = Constant<value_ints = [1]>()
          w = DequantizeLinear<axis = 0>(q, s)  y = Conv(x, w) }"""
    done = apply(DequantizeAsCast(), model(text, q=codes(8, 4, 3, 3), s=scales(8)))
    assert done.remarks == ()
    proto = model(text.replace("y = local.f(x, q, s)", "y = local.f(x)").replace("f (x, q, s)", "f (x)"))
    for name, values in (("q", codes(8, 4, 3, 3)), ("s", scales(8))):
        stored = numpy_helper.from_array(values)
        proto.functions[0].node.insert(0, helper.make_node("Constant", [], [name], value=stored))
    done = apply(DequantizeAsCast(), proto)
    assert [one.scope for one in done.applied] == ["function local.f"]
    assert done.sqnr_db("y") == float("inf")


def test_codes_that_are_moved_first() -> None:
    text = """g (float[1, 4, 9, 9] x) => (float[1, 8, 7, 7] y)
        { t = Transpose<perm = [1, 0, 2, 3]>(q)  w = DequantizeLinear<axis = 0>(t, s)  y = Conv(x, w) }"""
    done = apply(DequantizeAsCast(), model(text, q=codes(4, 8, 3, 3), s=scales(8)))
    assert ops(done) == ["Transpose", "Cast", "Mul", "Conv"]


def test_recurrent_operators() -> None:
    text = """g (float[4, 2, 10] x) => (float[4, 1, 2, 8] y)
        { w = DequantizeLinear<axis = 1>(q, s)  v = DequantizeLinear<axis = 1>(r, s)
          y = LSTM<hidden_size = 8>(x, w, v) }"""
    done = apply(DequantizeAsCast(), model(text, q=codes(1, 32, 10), r=codes(1, 32, 8), s=scales(32)))
    assert len(done.applied) == 2
    assert loaded(done.after) == ["LSTM"]


KEPT = {
    "MatMul": ("y = MatMul(x, w)", "MatMul 'MatMul(y)' may run on integer weights"),
    "Gemm": ("y = Gemm(x, w)", "Gemm 'Gemm(y)' may run on integer weights"),
    "behind a Transpose": ("t = Transpose(w)  y = MatMul(x, t)", None),
    "Gemm transB": ("t = Transpose(w)  y = Gemm<transB = 1>(x, t)", None),
    "MatMul on the left": ("t = Transpose(x)  u = Transpose(w)  v = MatMul(u, t)  y = Transpose(v)", None),
    "Conv": (
        "d = Unsqueeze(x, two)  t = Transpose(w)  k = Unsqueeze(t, two)  c = Conv(d, k)  y = Squeeze(c, two)",
        None,
    ),
    "quantized data": (
        "i = QuantizeLinear(x, one)  f = DequantizeLinear(i, one)  v = Identity(w)  y = MatMul(f, v)",
        "MatMul 'MatMul(y)' may run on integers, its data are quantized as well",
    ),
    "QuantizeLinear": (
        "i = QuantizeLinear(w, one)  f = DequantizeLinear(i, one)  y = MatMul(x, f)",
        "QuantizeLinear 'QuantizeLinear(i)' makes integers of it again",
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_which_readers_compute_with_integers(case: str) -> None:
    body, why = KEPT[case]
    text = f"g (float[5, 16] x) => (float[5, 24] y) {{ w = DequantizeLinear<axis = 1>(q, s)  {body} }}"
    extra = {name: value for name, value in (("one", np.float32(0.05)), ("two", np.array([2]))) if name in body}
    proto = model(text, q=codes(16, 24), s=scales(24), **extra)
    if case == "behind a Transpose":  # q is then [N, K] with the scales of the columns of the product
        text = text.replace("axis = 1", "axis = 0")
        proto = model(text, q=codes(24, 16), s=scales(24))
        why = "MatMul 'MatMul(y)' may run on integer weights"
    done = apply(DequantizeAsCast(), proto)
    if why is None:
        assert done.applied
    else:
        assert_missed(done, "cast", why)
        assert not done.applied
    assert apply(ALL, proto, laws=False).applied


def test_scales_along_the_rows_have_no_kernel() -> None:
    text = "g (float[5, 16] x) => (float[5, 24] y) { w = DequantizeLinear<axis = 0>(q, s)  y = MatMul(x, w) }"
    assert apply(DequantizeAsCast(), model(text, q=codes(16, 24), s=scales(16))).applied


def test_16_bits_have_no_kernel() -> None:
    text = "g (float[5, 16] x) => (float[5, 24] y) { w = DequantizeLinear<axis = 1>(q, s)  y = MatMul(x, w) }"
    assert apply(DequantizeAsCast(), model(text, q=codes(16, 24, dtype=np.int16), s=scales(24))).applied


def test_a_scale_that_is_computed_or_overridable() -> None:
    text = "g (float[1, 4, 9, 9] x, float s) => (float[1, 8, 7, 7] y) { w = DequantizeLinear(q, s)  y = Conv(x, w) }"
    for extra in ({}, {"s": scales()}):
        done = apply(DequantizeAsCast(), model(text, q=codes(8, 4, 3, 3), **extra))
        assert_missed(done, "cast", "its scale is not a constant")
    text = text.replace("float s", "int8 z").replace("(q, s)", "(q, s, z)")
    done = apply(DequantizeAsCast(), model(text, q=codes(8, 4, 3, 3), s=scales()))
    assert_missed(done, "cast", "its zero point is not a constant")


def test_int32() -> None:
    text = """g (float[1, 4, 9, 9] x) => (float[1, 8, 7, 7] y)
        { w = Constant<value = float[8, 4, 3, 3] {%s}>()  b = DequantizeLinear<axis = 0>(q, s)  y = Conv(x, w, b) }"""
    text %= ", ".join(["0.5"] * 288)
    bias = np.array([2**31 - 1, -(2**31), 2**24 + 1, 0, 1, -1, 77, 2**30 + 3], np.int32)
    assert apply(DequantizeAsCast(), model(text, q=bias, s=scales(8))).sqnr_db("y") == float("inf")


def test_activations_are_not_looked_at() -> None:
    text = "g (uint8[N] x) => (float[N] y) { y = DequantizeLinear(x, s) }"
    assert apply(DequantizeAsCast(), model(text, s=scales())).remarks == ()


def test_skip() -> None:
    done = conv(
        "w = DequantizeLinear(q, s)  y = Conv(x, w)",
        pass_=DequantizeAsCast(skip=("Conv(*",)),
        q=codes(8, 4, 3, 3),
        s=scales(),
    )
    assert_missed(done, "cast", "skip has 'Conv(*'")


def test_a_result_that_is_a_graph_output_keeps_its_name() -> None:
    text = "g (float[N] x) => (float[8, 4] w, float[N] y) { w = DequantizeLinear<axis = 0>(q, s)  y = Neg(x) }"
    done = apply(DequantizeAsCast(), model(text, q=codes(8, 4), s=scales(8)))
    assert done.applied
    assert done.sqnr_db("w") == float("inf")


def test_an_empty_weight_and_one_without_axes() -> None:
    text = """g (float[N] x) => (float[N] y, float[0] w)
        { v = DequantizeLinear(p, s)  y = Add(v, x)  w = DequantizeLinear(q, s) }"""
    done = apply(DequantizeAsCast(), model(text, q=codes(0), p=codes(), s=scales()))
    assert len(done.applied) == 2


def test_old_ir_versions_are_left() -> None:
    text = f'<ir_version: 3, opset_import: ["": 10]> g {CONV} {{ w = DequantizeLinear(q, s)  y = Conv(x, w) }}'
    proto = model(text)
    for name, values in (("q", codes(8, 4, 3, 3)), ("s", scales())):
        stored = numpy_helper.from_array(values)
        proto.graph.node.insert(0, helper.make_node("Constant", [], [name], value=stored))
    done = apply(DequantizeAsCast(), proto, feeds=())
    assert_missed(done, "cast", "the model has IR version 3, where every initializer is an input")


def test_the_page_and_the_spelling() -> None:
    assert [one.title for one in page(DequantizeAsCast).sections] == list(SECTIONS)
    pipeline = parse("dequantize-as-cast{for=all}")
    assert list(pipeline.passes()) == [ALL]
