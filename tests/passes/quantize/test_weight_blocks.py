"""weight-int4, weight-int2, weight-int16 and blocks of weight-int8: the form, where it goes, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

import graphopt
from graphopt.pipeline import Pass, Pipeline
from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.testing import apply, assert_missed, model
from passes.quantize.weight_int2 import WeightInt2
from passes.quantize.weight_int4 import WeightInt4
from passes.quantize.weight_int8 import WeightInt8
from passes.quantize.weight_int16 import WeightInt16

FOUR = WeightInt4(min_elements=1)
BLOCKS = WeightInt8("block", min_elements=1)
DENSE = "g (float[N, 70] x) => (float[N, 24] y) { y = MatMul(x, w) }"
_CORPUS = os.environ.get("GRAPHOPT_CORPUS")


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def at(opset: int, text: str) -> str:
    return f'<ir_version: 10, opset_import: ["": {opset}]> {text}'


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def test_a_weight_becomes_4_bit_codes_and_scales_of_blocks() -> None:
    done = apply(FOUR, model(DENSE, w=floats(70, 24)))
    assert done.body == (
        "w_dequantized = DequantizeLinear<axis=0, block_size=32>(w_int4, w_scale)\ny = MatMul(x, w_dequantized)"
    )
    stored = {one.name: one for one in done.after.graph.initializer}
    assert stored["w_int4"].data_type == TensorProto.INT4
    assert len(stored["w_int4"].raw_data) == 70 * 24 // 2
    assert list(stored["w_scale"].dims) == [3, 24]
    assert done.applied[0].why == "72 scales, one for each 32 along axis 0"
    assert done.sqnr_db("y") > 17


@pytest.mark.parametrize(
    ("symmetric", "signed", "number"), [(False, True, TensorProto.INT4), (True, False, TensorProto.UINT4)]
)
def test_zeros_are_4_bits_too(symmetric: bool, signed: bool, number: int) -> None:
    done = apply(WeightInt4(min_elements=1, symmetric=symmetric, signed=signed), model(DENSE, w=floats(70, 24)))
    stored = {one.name: one for one in done.after.graph.initializer}
    assert stored["w_zero_point"].data_type == number
    assert list(stored["w_zero_point"].dims) == [3, 24]
    assert len(stored["w_zero_point"].raw_data) == 36


def test_zero_points_and_fitted_ranges_are_worth_their_cost() -> None:
    proto = model(DENSE, w=floats(70, 24) + 0.3)
    plain, fitted, zeros = (
        apply(WeightInt4(min_elements=1, symmetric=symmetric, range=range_), proto).sqnr_db("y")  # type: ignore[arg-type]
        for symmetric, range_ in ((True, "max"), (True, "mse"), (False, "mse"))
    )
    assert plain + 0.4 < fitted
    assert fitted + 0.4 < zeros


def test_gather_looks_up_codes_and_scales_of_8_bits() -> None:
    text = "g (int64[N, M] i) => (float[N, M, 64] y) { y = Gather(w, i) }"
    done = apply(BLOCKS, model(text, w=floats(40, 64)), feeds=[{"i": np.array([[0, 39, 5]])}])
    assert done.body.splitlines() == [
        "y_quantized = Gather(w_int8, i)",
        "w_scale_moved = Gather(w_scale, i)",
        "y = DequantizeLinear<axis=-1, block_size=32>(y_quantized, w_scale_moved)",
    ]
    assert done.sqnr_db("y") > 38


def test_one_row_that_is_one_block_is_halved() -> None:
    """The scales of a single row of one block would be one scale, which DequantizeLinear reads as another form."""
    text = "g (int64 i) => (float[16] y) { y = Gather(w, i) }"
    done = apply(BLOCKS, model(text, w=floats(40, 16)), feeds=[{"i": np.array(3)}])
    assert "block_size=8" in done.body
    text = "g (int64[N] i) => (float[N, 16] y) { y = Gather(w, i) }"
    done = apply(BLOCKS, model(text, w=floats(40, 16)), feeds=[{"i": np.array([3])}])
    assert "block_size=32" in done.body


def test_a_vector_of_one_block_has_one_scale() -> None:
    done = apply(FOUR, model("g (float[4, 1000] x) => (float[4] y) { y = MatMul(x, w) }", w=floats(1000)), feeds=None)
    assert "block_size=32" in done.body
    done = apply(
        WeightInt4(min_elements=1, block=1024),
        model("g (float[4, 1000] x) => (float[4] y) { y = MatMul(x, w) }", w=floats(1000)),
    )
    assert done.body.startswith("w_dequantized = DequantizeLinear(w_int4, w_scale)")
    assert "it is one block" in done.applied[0].why or "not one axis" in done.applied[0].why


TIED = """g (int64[N] i, float[N, 64] x) => (float[N, 64] e, float[N, 40] y) {
    e = Gather(w, i)  t = Transpose(w)  y = MatMul(x, t) }"""


def test_tied_tables_stay_one_tensor_with_8_bits() -> None:
    feeds = [{"i": np.array([3, 1]), "x": floats(2, 64)}]
    done = apply(BLOCKS, model(TIED, w=floats(40, 64)), feeds=feeds)
    assert (
        done.body.splitlines()
        == [
            "e_quantized = Gather(w_int8, i)",
            "w_scale_moved_1 = Gather(w_scale, i)",
            "e = DequantizeLinear<axis=-1, block_size=32>(e_quantized, w_scale_moved_1)",
            "t_quantized = Transpose(w_int8)",
            "w_scale_moved = Transpose(w_scale)",
            "t = DequantizeLinear<axis=0, block_size=32>(t_quantized, w_scale_moved)",
            "y = MatMul(x, t)",
        ]
        or sum("w_int8" in line for line in done.body.splitlines()) == 2
    )
    assert set(tensors(done.after)) == {"w_int8", "w_scale"}


def test_tied_tables_stay_one_tensor_with_4_bits() -> None:
    """Floats are made before the Gather, which ONNX does not have for codes of 4 bits; Transpose moves codes."""
    feeds = [{"i": np.array([3, 1]), "x": floats(2, 64)}]
    done = apply(FOUR, model(TIED, w=floats(40, 64)), feeds=feeds)
    assert "e = Gather(w_dequantized, i)" in done.body
    assert "t_quantized = Transpose(w_int4)" in done.body
    assert "t = DequantizeLinear<axis=0, block_size=32>(t_quantized, w_scale_moved)" in done.body
    assert set(tensors(done.after)) == {"w_int4", "w_scale"}


def test_scales_follow_every_node_that_moves_8_bit_codes() -> None:
    text = """g (float[5, 64] x) => (float[5, 48] y) {
        a = Reshape(w, s)  b = Identity(a)  t = Transpose(b)  u = Unsqueeze(t, z)  v = Squeeze(u, z)
        y = MatMul(x, v) }"""
    shape, axes = np.array([48, 64], np.int64), np.array([0], np.int64)
    done = apply(
        WeightInt8("block", min_elements=1, symmetric=False),
        model(text, w=floats(4, 12, 64), s=shape, z=axes),
        feeds=None,
    )
    assert done.body.count("DequantizeLinear<axis=0, block_size=32>") == 1
    assert done.body.splitlines()[-2].startswith("v = DequantizeLinear")
    assert done.sqnr_db("y") > 38


@pytest.mark.parametrize("pass_", [WeightInt4(min_elements=1), WeightInt8("block", min_elements=1)])
def test_readers_that_disagree_on_blocks_get_one_scale(pass_: Pass) -> None:
    text = "g (float[5, 64] x) => (float[5, 64] y) { t = Transpose(w)  a = MatMul(x, w)  y = MatMul(a, t) }"
    done = apply(pass_, model(text, w=floats(64, 64)))
    assert "one scale, " in done.applied[0].why
    assert "have their channels along different axes" in done.applied[0].why


PARTS = """g (float[4, 2, 10] x) => (float[4, 1, 2, 8] y) {
    i = Slice(w, a, b)  f = Slice(w, b, c)  j = Concat<axis = 0>(f, i)  v = Unsqueeze(j, z)
    y = LSTM<hidden_size = 8>(x, v, r) }"""


@pytest.mark.parametrize(
    ("pass_", "attributes"),
    [(WeightInt8(min_elements=1), "axis=0"), (BLOCKS, "axis=1, block_size=32"), (FOUR, "axis=1, block_size=32")],
)
def test_weights_that_are_put_together_anew_become_floats_first(pass_: Pass, attributes: str) -> None:
    bounds = {name: np.array([value], np.int64) for name, value in (("a", 0), ("b", 8), ("c", 32), ("z", 0))}
    done = apply(pass_, model(PARTS, w=floats(32, 10), r=floats(1, 32, 8), **bounds), feeds=None)
    assert f"w_dequantized = DequantizeLinear<{attributes}>" in done.body
    assert "i = Slice(w_dequantized, a, b)" in done.body
    assert done.sqnr_db("y") > (14 if pass_ is FOUR else 35)


def test_parts_that_something_else_reads_too_are_left() -> None:
    text = "g (float[5, 16] x) => (float[5, 24] y, float[4, 24] z) { s = Slice(w, a, b)  y = MatMul(x, w)  z = Exp(s) }"
    bounds = {"a": np.array([0], np.int64), "b": np.array([4], np.int64)}
    done = apply(WeightInt8(min_elements=1), model(text, w=floats(16, 24), **bounds))
    assert_missed(done, "quantize", "Exp 'Exp(z)' reads it, and Exp is not an operator with weights")


def test_convolutions_get_scales_for_channels_and_one_point_gets_blocks() -> None:
    text = """g (float[1, 64, 9, 9] x) => (float[1, 16, 7, 7] y) { a = Conv(x, p)  y = Conv(a, w) }"""
    done = apply(FOUR, model(text, p=floats(48, 64, 1, 1), w=floats(16, 48, 3, 3)), feeds=None)
    found = tensors(done.after)
    assert found["p_scale"].shape == (48, 2, 1, 1)
    assert found["w_scale"].shape == (16,)
    whys = {one.node: one.why for one in done.applied}
    assert "blocks of 'Conv(y)' are not along one axis of it" in whys["w"]


@pytest.mark.parametrize(
    ("pass_", "opset", "why"),
    [
        (
            FOUR,
            20,
            "DequantizeLinear from 4 bits needs opset 21 and the model has 20: raise it with opset{to=21} first",
        ),
        (WeightInt4("tensor", min_elements=1), 13, "raise it with opset{to=21} first"),
        (
            WeightInt2(min_elements=1),
            24,
            "DequantizeLinear from 2 bits needs opset 25 and the model has 24: raise it with opset{to=25}",
        ),
        (WeightInt16(min_elements=1, form="dequantize"), 20, "DequantizeLinear from 16 bits needs opset 21"),
        (BLOCKS, 20, "one scale a block needs opset 21 and the model has 20: raise it with opset{to=21} first"),
        (FOUR, 9, "raise it with opset{to=21} first"),
    ],
)
def test_old_opsets_are_told_which_one_would_do(pass_: Pass, opset: int, why: str) -> None:
    done = apply(pass_, model(at(opset, DENSE), w=floats(70, 24)), feeds=())
    assert_missed(done, "quantize", why)
    assert done.after == done.before


@pytest.mark.parametrize(
    ("to", "pass_"),
    [(21, FOUR), (25, WeightInt2(min_elements=1)), (21, BLOCKS), (21, WeightInt16(min_elements=1, form="dequantize"))],
)
def test_the_advice_works(to: int, pass_: Pass) -> None:
    proto = model(at(13, DENSE), w=floats(70, 24))
    done = apply(Pipeline.of(*parse(f"opset{{to={to}}}").steps, pass_), proto, changes=("opsets",))
    assert "DequantizeLinear" in done.body


def test_codes_of_2_bits_are_not_moved() -> None:
    text = at(25, "g (float[5, 64] x) => (float[5, 48] y) { t = Transpose(w)  y = MatMul(x, t) }")
    proto = model(text, w=floats(48, 64))
    done = apply(WeightInt2("channel", min_elements=1), proto)
    assert_missed(
        done, "quantize", "it is read through Transpose 'Transpose(t)', and runtimes cannot move codes of 2 bits"
    )
    assert "t = Transpose(w_dequantized)" in apply(WeightInt2(min_elements=1), proto).body


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_weights_have_half_scales(dtype: Any) -> None:
    kind = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.BFLOAT16
    text = (
        f"g (float[N, 64] x) => (float[N, 48] y) {{ a = Cast<to = {kind}>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b) }}"
    )
    done = apply(FOUR, model(text, w=floats(64, 48, dtype=dtype)), feeds=None if dtype is np.float16 else ())
    assert {one.name: one.data_type for one in done.after.graph.initializer}["w_scale"] == kind


def test_zeros_and_odd_values_keep_their_blocks() -> None:
    weight = floats(70, 24)
    weight[:32, 0] = 0
    weight[32:, 1] = np.float32(1e-42)
    done = apply(FOUR, model(DENSE, w=weight))
    scale = tensors(done.after)["w_scale"]
    assert scale[0, 0] == 1
    assert (scale >= np.finfo(np.float32).tiny).all()
    weight[5, 5] = np.nan
    assert_missed(apply(FOUR, model(DENSE, w=weight), feeds=()), "quantize", "it has a NaN")


def test_bytes_are_what_they_should_be() -> None:
    proto = model("g (float[N, 256] x) => (float[N, 256] y) { y = MatMul(x, w) }", w=floats(256, 256))
    share = {
        name: apply(pass_, proto).after.ByteSize() / proto.ByteSize()
        for name, pass_ in {
            "4": WeightInt4(),
            "4 zeros": WeightInt4(symmetric=False),
            "8 blocks": WeightInt8("block"),
            "16": WeightInt16(),
        }.items()
    }
    assert share["4"] == pytest.approx(5 / 32, abs=0.002)
    assert share["4 zeros"] == pytest.approx(5.125 / 32, abs=0.002)
    assert share["8 blocks"] == pytest.approx(9 / 32, abs=0.002)
    assert share["16"] == pytest.approx(0.5 + 1 / 256, abs=0.002)


def test_16_bits_hardly_change_anything_and_halves_are_left() -> None:
    done = apply(WeightInt16(min_elements=1), model(DENSE, w=floats(70, 24)))
    assert done.sqnr_db("y") > 85
    done = apply(
        WeightInt16(min_elements=1),
        model("g (float16[N, 70] x) => (float16[N, 24] y) { y = MatMul(x, w) }", w=floats(70, 24, dtype=np.float16)),
    )
    assert_missed(done, "quantize", "it would not be smaller")


@pytest.mark.parametrize("block", [1, 0, -3])
def test_options_are_checked(block: int) -> None:
    with pytest.raises(ValueError, match=f"block must be at least 2, and {block} is not"):
        WeightInt4(block=block)


@pytest.mark.parametrize("kind", [WeightInt2, WeightInt4, WeightInt16])
def test_the_pages_are_complete(kind: type[Pass]) -> None:
    assert [one.title for one in page(kind).sections] == list(SECTIONS)


def test_options_are_written_as_they_are_read() -> None:
    assert str(Pipeline.of(WeightInt4(symmetric=False, block=64))) == "weight-int4{symmetric=false block=64}"
    assert parse("weight-int2{granularity=channel}").steps == (WeightInt2("channel"),)


@pytest.mark.skipif(_CORPUS is None, reason="GRAPHOPT_CORPUS is not set")
@pytest.mark.parametrize(
    ("name", "pipeline", "share"),
    [
        ("magika_v3_3", "opset{to=21},weight-int4{symmetric=false}", 0.15),
        ("silero_vad", "weight-int8{form=cast symmetric=false}", 0.33),
        ("resnet_4b_cifar10", "opset{to=21},weight-int8{granularity=block}", 0.35),
        ("tashkeel_bilstm_int8", "weight-int8", 1.0),
        ("mnist_cntk", "opset{to=21},weight-int4", 1.02),
    ],
)
def test_real_models(name: str, pipeline: str, share: float) -> None:
    path = Path(_CORPUS or "") / "models" / f"{name}.onnx"
    result = graphopt.optimize(path, pipeline=pipeline, budget="sqnr_db>=8")
    result.raise_unless_passed()
    assert result.to_proto().ByteSize() <= share * path.stat().st_size


@pytest.mark.parametrize(("pass_", "read"), [(FOUR, "w_dequantized"), (WeightInt8(min_elements=1), "w_int8")])
def test_the_shape_is_that_of_what_runtimes_have_a_shape_of(pass_: Pass, read: str) -> None:
    text = "g (float[N, 64] x) => (float[N, 24] y, int64[2] s) { y = MatMul(x, w)  s = Shape(w) }"
    values = np.random.default_rng(0).standard_normal((64, 24)).astype(np.float32)
    done = apply(pass_, model(text, w=values))
    (shape,) = [node for node in done.after.graph.node if node.op_type == "Shape"]
    assert list(shape.input) == [read]
