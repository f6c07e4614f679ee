"""quantized-moves: integers move themselves, and keep their bounds themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorAnnotation

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.quantized_moves import QuantizedMoves

S, T = np.float32(0.023), np.float32(0.05)


def moves(
    text: str,
    shape: str = "float[2, 3, 4] x",
    result: str = "uint8[A, B, C] y",
    opset: int = 17,
    z: Any = None,
    **weights: Any,
) -> Applied:
    given = {"s": S, "z": np.uint8(7) if z is None else z} | weights
    head = f'<ir_version: 8, opset_import: ["": {opset}]> g ({shape}) => ({result})'
    nodes = f"q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) {text} y = QuantizeLinear(m, s, z)"
    rng = np.random.default_rng(0)
    dims = [int(one) for one in shape[shape.index("[") + 1 : shape.index("]")].split(",")]
    feeds = [{"x": (4 * rng.standard_normal(dims)).astype(np.float32)} for _ in range(2)]
    return apply(QuantizedMoves(), model(f"{head} {{ {nodes} }}", **given), feeds=feeds)


@pytest.mark.parametrize("zero", [np.uint8(7), np.int8(-3)])
@pytest.mark.parametrize(
    ("call", "after", "weights"),
    [
        ("Transpose<perm=[2,0,1]>(f)", "Transpose<perm=[2, 0, 1]>(q)", {}),
        ("Reshape(f, k)", "Reshape(q, k)", {"k": np.array([4, 3, 2])}),
        ("Slice(f, k, l)", "Slice(q, k, l)", {"k": np.array([0, 1]), "l": np.array([2, 3])}),
        ("Gather<axis=1>(f, k)", "Gather<axis=1>(q, k)", {"k": np.array([2, 0])}),
        ("Expand(f, k)", "Expand(q, k)", {"k": np.array([2, 3, 4])}),
        ("Tile(f, k)", "Tile(q, k)", {"k": np.array([1, 2, 1])}),
    ],
)
def test_integers_move_themselves(call: str, after: str, weights: dict[str, Any], zero: Any) -> None:
    done = moves(f"m = {call}", result=f"{zero.dtype}[A, B, C] y", z=zero, **weights)
    assert done.body == f"q = QuantizeLinear(x, s, z)\ny = {after}"


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_one_move_after_the_other(opset: int) -> None:
    if opset < 13:
        text, weights = "u = Unsqueeze<axes=[0]>(f) m = Transpose<perm=[0,2,1,3]>(u)", {}
    else:
        text, weights = "u = Unsqueeze(f, k) m = Transpose<perm=[0,2,1,3]>(u)", {"k": np.array([0])}
    done = moves(text, result="uint8[A, B, C, D] y", opset=opset, **weights)
    lines = done.body.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("u_quantized = Unsqueeze")
    assert lines[2] == "y = Transpose<perm=[0, 2, 1, 3]>(u_quantized)"


@pytest.mark.parametrize(
    ("call", "weights"),
    [
        ("Relu(f)", {"z": np.uint8(0)}),
        ("Clip(f, l, h)", {"z": np.uint8(0), "l": np.float32(0), "h": np.float32(6)}),
        ("Clip(f, l)", {"l": np.float32(-1)}),
    ],
)
def test_bounds_that_the_grid_keeps(call: str, weights: dict[str, Any]) -> None:
    done = moves(f"m = {call}", **weights)
    assert done.body == "y = QuantizeLinear(x, s, z)"
    assert not {"l", "h"} & {one.name for one in done.after.graph.initializer}


@pytest.mark.parametrize(
    ("call", "weights"),
    [
        ("Relu(f)", {}),
        ("Clip(f, l, h)", {"z": np.uint8(0), "l": np.float32(0), "h": np.float32(5)}),
        ("Clip(f, l)", {"l": np.float32(-0.1)}),
    ],
)
def test_bounds_that_matter_stay(call: str, weights: dict[str, Any]) -> None:
    done = moves(f"m = {call}", **weights)
    assert done.after == done.before


def test_a_bound_before_the_grid_that_saturates() -> None:
    text = "g (float[N, 4] x) => (uint8[N, 4] y) { r = Relu(x) y = QuantizeLinear(r, s, z) }"
    assert apply(QuantizedMoves(), model(text, s=S, z=np.uint8(0))).body == "y = QuantizeLinear(x, s, z)"
    kept = apply(QuantizedMoves(), model(text, s=S, z=np.uint8(1)))
    assert kept.after == kept.before


def test_nothing_in_between() -> None:
    text = """g (float[N, 4] x) => (uint8[N, 4] y) {
        q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) r = QuantizeLinear(f, s, z) y = Add(q, r) }"""
    done = apply(QuantizedMoves(), model(text, s=S, z=np.uint8(1)))
    assert done.body == "q = QuantizeLinear(x, s, z)\ny = Add(q, q)"


def test_others_keep_the_floating_point() -> None:
    text = """g (float[N, 4] x) => (uint8[4, N] y, float[N, 4] e) {
        q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z)
        m = Transpose(f) y = QuantizeLinear(m, s, z) e = Exp(f) }"""
    done = apply(QuantizedMoves(), model(text, s=S, z=np.uint8(1)))
    assert "y = Transpose(q)" in done.body
    assert "e = Exp(f)" in done.body


def test_another_grid_stays() -> None:
    text = """g (float[N, 4] x) => (uint8[4, N] y) {
        q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) m = Transpose(f) y = QuantizeLinear(m, t, z) }"""
    done = apply(QuantizedMoves(), model(text, s=S, t=T, z=np.uint8(1)))
    assert done.after == done.before


def test_a_moved_value_that_others_read_stays() -> None:
    text = """g (float[N, 4] x) => (uint8[4, N] y, float[4, N] m) {
        q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) m = Transpose(f) y = QuantizeLinear(m, s, z) }"""
    done = apply(QuantizedMoves(), model(text, s=S, z=np.uint8(1)))
    assert_missed(done, "move", "'m' is read by others too")
    assert done.after == done.before


def test_a_graph_output_keeps_its_maker() -> None:
    text = """g (uint8[N, 4] q) => (uint8[N, 4] y) {
        f = DequantizeLinear(q, s, z) m = Relu(f) y = QuantizeLinear(m, s, z) }"""
    done = apply(QuantizedMoves(), model(text, s=S, z=np.uint8(0)))
    assert_missed(done, "pair", "'y' is a graph output and 'q' an input")


def test_vectors_of_scales_stay() -> None:
    text = """g (uint8[N, 4] q) => (uint8[4, N] y) {
        f = DequantizeLinear(q, s, z) m = Transpose(f) y = QuantizeLinear<axis=0>(m, s, z) }"""
    done = apply(QuantizedMoves(), model(text, s=np.full(4, S), z=np.zeros(4, np.uint8)))
    assert done.after == done.before


def test_the_largest_is_found_among_integers() -> None:
    shape, pool = "float[1, 2, 6, 6] x", "m = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(f)"
    done = moves(pool, shape, "uint8[A, B, C, D] y", 12)
    assert "y = MaxPool<kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]>(q)" in done.body
    done = moves(pool, shape, "uint8[A, B, C, D] y", 11)
    assert done.after == done.before


def test_integers_that_an_annotation_is_about_stay() -> None:
    text = """g (float[2, 3] x) => (uint8[A, B] y) {
        q = QuantizeLinear(x, s, z)  f = DequantizeLinear(q, s, z)  r = QuantizeLinear(f, s, z)
        y = Transpose(r) }"""
    proto = model(text, s=S, z=np.uint8(7))
    note = TensorAnnotation(tensor_name="r")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    proto.graph.quantization_annotation.append(note)
    done = apply(QuantizedMoves(), proto)
    assert not done.applied and any("a quantization annotation is about 'r'" in one.why for one in done.missed)
