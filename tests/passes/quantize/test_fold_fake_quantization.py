"""fold-fake-quantization: the codes that QuantizeLinear makes, and floats that are on a grid bit for bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.testing import Applied, apply, assert_missed, model
from passes.quantize.fold_fake_quantization import FoldFakeQuantization
from passes.quantize.grid import over, values_of
from passes.quantize.on_grid import grid_of

Array = np.ndarray[Any, Any]
SMALL = FoldFakeQuantization(min_elements=1)
CONV = "(float[1, 8, 9, 9] x) => (float[1, 16, 7, 7] y)"
FAKE = "q = QuantizeLinear<axis = 0>(w, s, z)  v = DequantizeLinear<axis = 0>(q, s, z)  y = Conv(x, v)"


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def at(opset: int, text: str, **weights: Any) -> ModelProto:
    return model(f'<ir_version: 10, opset_import: ["": {opset}]> g {text}', **weights)


def tensors(proto: ModelProto) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def exact(done: Applied, count: int = 1) -> Applied:
    assert len(done.applied) == count, [one.why for one in done.missed]
    assert done.differences and all(one["y"].sqnr_db == float("inf") for one in done.differences)
    return done


KINDS = [
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    ml_dtypes.int4,
    ml_dtypes.uint4,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
]


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_every_type(kind: Any, channels: bool) -> None:
    shape = (16,) if channels else ()
    scale = (np.random.default_rng(1).random(shape) * 0.02 + 0.004).astype(np.float32)  # some saturate
    integers = np.dtype(kind).name.startswith(("int", "uint"))
    zero = np.full(shape, 3 if integers else 0).astype(kind)
    done = exact(apply(SMALL, at(21, f"{CONV} {{ {FAKE} }}", w=floats(16, 8, 3, 3), s=scale, z=zero)))
    assert done.body == f"v = DequantizeLinear<axis=0>(w_{np.dtype(kind)}, s, z)\ny = Conv(x, v)"
    assert "w" not in tensors(done.after)
    assert done.applied[0].rule == "codes"
    assert done.applied[0].why == f"1152 codes of {np.dtype(kind)}"


def test_ties_go_to_the_even_code_and_what_is_beyond_saturates() -> None:
    weight = np.resize(np.array([0.5, 1.5, 2.5, -0.5, -1.5, 900, -900, 0], np.float32), (16, 8, 3, 3))
    text = f"{CONV} {{ q = QuantizeLinear(w, s)  v = DequantizeLinear(q, s)  y = Conv(x, v) }}"
    done = exact(apply(SMALL, at(13, text, w=weight, s=np.float32(1))))
    assert tensors(done.after)["w_uint8"].reshape(-1)[:8].tolist() == [0, 2, 2, 0, 0, 255, 0, 0]


@pytest.mark.parametrize("opset", [10, 12, 13, 19, 23])
def test_every_opset(opset: int) -> None:
    text = f"{CONV} {{ q = QuantizeLinear(w, s, z)  v = DequantizeLinear(q, s, z)  y = Conv(x, v) }}"
    exact(apply(SMALL, at(opset, text, w=floats(16, 8, 3, 3), s=np.float32(0.02), z=np.int8(0))))


def test_blocks_and_output_dtype() -> None:
    text = """(float[5, 32] x) => (float[5, 24] y) {
        q = QuantizeLinear<axis = 0, block_size = 16, output_dtype = 22>(w, s)
        v = DequantizeLinear<axis = 0, block_size = 16>(q, s)  y = MatMul(x, v) }"""
    scale = (np.random.default_rng(1).random((2, 24)) * 0.3 + 0.1).astype(np.float32)
    done = exact(apply(SMALL, at(21, text, w=floats(32, 24), s=scale)))
    assert tensors(done.after)["w_int4"].dtype == ml_dtypes.int4


def test_behind_movers_and_in_constant_nodes_and_bodies() -> None:
    text = """(bool c, float[5, 32] x) => (float[5, 24] y) {
        y = If(c)<then_branch = t () => (float[5, 24] o) {
                      k = Transpose(w)  q = QuantizeLinear(k, s, z)  v = DequantizeLinear(q, s, z)  o = MatMul(x, v) },
                  else_branch = e () => (float[5, 24] o) {
                      q2 = QuantizeLinear(u, s, z)  v2 = DequantizeLinear(q2, s, z)  o = MatMul(x, v2) }> }"""
    proto = at(13, text, w=floats(24, 32), s=np.float32(0.02), z=np.int8(0))
    stored = helper.make_node("Constant", [], ["u"], value=numpy_helper.from_array(floats(32, 24)))
    proto.graph.node[0].attribute[1].g.node.insert(0, stored)
    done = exact(apply(SMALL, proto), 2)
    assert done.body.count("Transpose") == 0
    assert done.body.count("Constant") == 0
    assert "w" not in tensors(done.after)


def test_codes_that_are_left() -> None:
    weights = {"w": floats(16, 8, 3, 3), "s": np.full(16, 0.02, np.float32), "z": np.zeros(16, np.int8)}
    text = f"(float[1, 8, 9, 9] x) => (float[1, 16, 7, 7] y, float[1, 16, 7, 7] u) {{ {FAKE}  u = Conv(x, w) }}"
    done = apply(SMALL, at(13, text, **weights))
    assert_missed(done, "codes", "Conv 'Conv(u)' reads its floats as well, and the file would grow")
    text = f"(float[1, 8, 9, 9] x) => (float[1, 16, 7, 7] y, int8[16, 8, 3, 3] q) {{ {FAKE} }}"
    assert_missed(apply(SMALL, at(13, text, **weights)), "codes", "'q' is a graph output")
    text = f"(float[1, 8, 9, 9] x, float[16] s) => (float[1, 16, 7, 7] y) {{ {FAKE} }}"
    done = apply(SMALL, at(13, text, **weights))
    assert [one.rule for one in done.missed] == ["codes"]
    text = f"(float[1, 8, 9, 9] x, float[16, 8, 3, 3] w) => (float[1, 16, 7, 7] y) {{ {FAKE} }}"
    assert apply(SMALL, at(13, text, **weights)).remarks == ()


def on_grid(scale: Any, low: int, high: int, shape: tuple[int, ...], seed: int = 0) -> Array:
    whole = np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(np.float32)
    whole[whole == 0] = 0.0
    return np.asarray(whole * np.asarray(scale, np.float32))


@pytest.mark.parametrize("seed", range(12))
def test_a_grid_is_found_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = np.exp2(rng.uniform(-100, 100) if seed < 6 else rng.uniform(-9, -1)).astype(np.float32)
    low, high = [(-127, 127), (-128, 127), (0, 255), (-200, 55), (-7, 7), (1, 3)][seed % 6]
    weight = on_grid(scale, low, high, (40, 50), seed)
    found = grid_of(weight, 0)
    assert found is not None
    grid, codes = found
    assert grid.axis is None
    assert codes.dtype == np.int8
    assert np.array_equal(values_of(codes, grid).view(np.int32), weight.view(np.int32))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("seed", range(12))
def test_a_grid_for_each_channel_is_found_again(seed: int, axis: int) -> None:
    rng = np.random.default_rng(seed)
    scales = np.exp2(rng.uniform(-12, 12, 30)).astype(np.float32)
    weight = on_grid(scales[:, None], -120, 100 if seed % 2 else 135, (30, 9 + 20 * seed), seed)
    weight[4] = 0
    weight = weight if axis == 0 else np.ascontiguousarray(weight.T)
    found = grid_of(weight, axis)
    assert found is not None
    grid, codes = found
    assert np.array_equal(values_of(codes, grid).view(np.int32), weight.view(np.int32))
    assert over(grid.scale, grid, weight.shape).shape == weight.shape
    assert grid_of(weight, None) is None


@pytest.mark.parametrize(
    "weight",
    [
        floats(40, 50),
        on_grid(0.01, -127, 127, (40, 50)) + np.float32(0.001),
        np.where(np.arange(2000) == 7, np.nextafter(np.float32(1), np.float32(2)), on_grid(0.25, -90, 90, (2000,))),
        on_grid(0.01, -150, 150, (40, 50)),
        np.where(np.arange(2000) == 7, np.float32(-0.0), on_grid(0.25, -90, 90, (2000,))),
        np.where(np.arange(2000) == 7, np.nan, on_grid(0.25, -90, 90, (2000,))).astype(np.float32),
        np.where(np.arange(2000) == 7, np.inf, on_grid(0.25, -90, 90, (2000,))).astype(np.float32),
        on_grid(2.0**-140, -90, 90, (2000,)),
    ],
)
def test_what_is_on_no_grid(weight: Array) -> None:
    assert grid_of(weight.astype(np.float32), None) is None


def test_zeros_are_on_a_grid() -> None:
    found = grid_of(np.zeros((3, 4), np.float32), 0)
    assert found is not None
    assert float(found[0].scale) == 1


@pytest.mark.parametrize("form", ["cast", "dequantize"])
@pytest.mark.parametrize("channels", [False, True])
def test_weights_on_a_grid_are_stored_as_integers(channels: bool, form: Any) -> None:
    scale = np.exp2(np.arange(16) / 7).reshape(16, 1, 1, 1) if channels else 0.013
    weight = on_grid(scale, -128, 127, (16, 8, 3, 3))
    done = exact(apply(FoldFakeQuantization(form), at(13, f"{CONV} {{ y = Conv(x, w) }}", w=weight)))
    assert done.applied[0].rule == "grid"
    assert done.applied[0].why == ("16 scales" if channels else "one scale, 0.013")
    assert tensors(done.after)["w_int8"].dtype == np.int8
    assert done.after.ByteSize() < 0.4 * done.before.ByteSize()
    assert ("DequantizeLinear" in done.body) == (form == "dequantize")


def test_a_recurrent_layer_and_an_old_opset() -> None:
    text = "(float[4, 2, 10] x) => (float[4, 1, 2, 8] y) { y = LSTM<hidden_size = 8>(x, w, r) }"
    weights = {"w": on_grid(0.01, -99, 99, (1, 32, 10)), "r": on_grid(0.02, -99, 127, (1, 32, 8))}
    exact(apply(SMALL, at(8, text, **weights)), 2)


def test_grids_that_are_left() -> None:
    weight = on_grid(0.01, -99, 99, (16, 8, 3, 3))
    body = f"{CONV} {{ y = Conv(x, w) }}"
    assert apply(SMALL, at(13, body, w=floats(16, 8, 3, 3))).remarks == ()
    done = apply(FoldFakeQuantization(skip=("w",)), at(13, body, w=weight))
    assert_missed(done, "grid", "skip has 'w'")
    done = apply(FoldFakeQuantization("dequantize"), at(9, body, w=weight))
    assert_missed(done, "grid", "one scale a channel needs opset 13 and the model has 9")
    text = "(float[1, 8, 9, 9] x, float[16, 8, 3, 3] w) => (float[1, 16, 7, 7] y) { y = Conv(x, w) }"
    assert_missed(apply(SMALL, at(13, text, w=weight)), "grid", "it is also a graph input")


def test_old_ir_versions_are_left() -> None:
    text = f'<ir_version: 3, opset_import: ["": 10]> g {CONV} {{ {FAKE.replace("<axis = 0>", "")} }}'
    proto = model(text)
    for name, values in (("z", np.int8(0)), ("s", np.float32(0.02)), ("w", floats(16, 8, 3, 3))):
        stored = numpy_helper.from_array(np.asarray(values))
        proto.graph.node.insert(0, helper.make_node("Constant", [], [name], value=stored))
    assert_missed(apply(SMALL, proto, feeds=()), "codes", "the model has IR version 3")


def test_the_page_and_the_options() -> None:
    assert [one.title for one in page(FoldFakeQuantization).sections] == list(SECTIONS)
    assert list(parse("fold-fake-quantization{form=dequantize}").passes()) == [FoldFakeQuantization("dequantize")]
    with pytest.raises(ValueError, match="min-elements must not be negative"):
        FoldFakeQuantization(min_elements=-1)
