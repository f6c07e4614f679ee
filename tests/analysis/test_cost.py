"""Nodes, parameters, bytes, and multiply-accumulates by hand-computed figures."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphopt.analysis.cost import facts, macs
from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model
from graphopt.testing.samples import samples


def ones(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("text", "weights", "expected"),
    [
        ("g (float[N, 4] x) => (float[N, 7] y) { y = MatMul(x, w) }", {"w": ones(4, 7)}, 4 * 7),
        ("g (float[5, 4] x) => (float[5, 7] y) { y = MatMul(x, w) }", {"w": ones(4, 7)}, 5 * 4 * 7),
        ("g (float[2, 5, 4] x) => (float[2, 5, 7] y) { y = MatMul(x, w) }", {"w": ones(4, 7)}, 2 * 5 * 4 * 7),
        ("g (float[5, 4] x) => (float[5, 7] y) { y = Gemm<transB = 1>(x, w) }", {"w": ones(7, 4)}, 5 * 4 * 7),
        ("g (float[4, 5] x) => (float[5, 7] y) { y = Gemm<transA = 1>(x, w) }", {"w": ones(4, 7)}, 5 * 4 * 7),
        (
            "g (float[1, 3, 8, 8] x) => (float[1, 6, 6, 6] y) { y = Conv(x, w) }",
            {"w": ones(6, 3, 3, 3)},
            6 * 6 * 6 * 3 * 3 * 3,
        ),
        (
            "g (float[1, 4, 8, 8] x) => (float[1, 4, 6, 6] y) { y = Conv<group = 4>(x, w) }",
            {"w": ones(4, 1, 3, 3)},
            4 * 6 * 6 * 3 * 3,
        ),
        (
            "g (float[1, 4, 5, 5] x) => (float[1, 2, 10, 10] y) { y = ConvTranspose<strides = [2, 2]>(x, w) }",
            {"w": ones(4, 2, 2, 2)},
            4 * 5 * 5 * 2 * 2 * 2,
        ),
        ("g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, w) }", {"w": ones(4)}, 0),
    ],
)
def test_multiply_accumulates(text: str, weights: dict[str, object], expected: int) -> None:
    root = decode(model(text, **weights), Store())
    assert (macs(root, infer(root)).count, macs(root, infer(root)).unknown) == (expected, 0)


def test_a_recurrent_layer() -> None:
    """LSTM: per step and row, four gates of (inputs + hidden) * hidden."""
    text = "g (float[6, 2, 4] x) => (float[6, 1, 2, 3] y) { y = LSTM<hidden_size = 3>(x, w, r) }"
    root = decode(model(text, w=ones(1, 12, 4), r=ones(1, 12, 3)), Store())
    assert macs(root, infer(root)).count == 6 * 2 * 4 * 3 * (4 + 3)


def test_bodies_count_the_dearer_branch_or_one_round() -> None:
    text = """g (bool c, float[2, 4] x) => (float[2, 4] y, float[2, 4] z) {
        y = If(c)<then_branch = t () => (float[2, 4] o) { p = MatMul(x, w)  o = MatMul(p, w) },
                  else_branch = e () => (float[2, 4] o) { o = MatMul(x, w) }>
        n = Constant<value_int = 3>()
        z = Loop(n, , x)<body = b (int64 i, bool go, float[2, 4] s) => (bool on, float[2, 4] next) {
            on = Identity(go)  next = MatMul(s, w)
        }>
    }"""
    root = decode(model(text, w=ones(4, 4)), Store())
    assert macs(root, infer(root)).count == 3 * (2 * 4 * 4)


def test_facts() -> None:
    text = """g (bool c, float[N, 4] x, float[4] d) => (float[N, 4] y) {
        k = Constant<value = float[2] {1, 2}>()  a = Add(x, d)
        y = If(c)<then_branch = t () => (float[N, 4] o) <float[4] v = {1, 2, 3, 4}> { o = Add(a, v) },
                  else_branch = e () => (float[N, 4] o) { o = Neg(a) }>
    }"""
    low = np.ones(5, ml_dtypes.int4)
    root = decode(model(text, d=ones(4), low=low), Store())
    found = facts(root)
    assert found.nodes == 5
    assert found.operators == {"Constant": 1, "Add": 2, "If": 1, "Neg": 1}
    assert found.initializers == 3
    assert found.parameters == 2 + 4 + 5 + 4
    assert found.weight_bytes == 8 + 16 + 3 + 16


def test_every_sample_can_be_counted() -> None:
    for sample in samples():
        root = decode(sample.proto, Store())
        assert facts(root).nodes >= len(sample.proto.graph.node)
        assert macs(root, infer(root)).count >= 0


@pytest.mark.parametrize(
    ("text", "weights", "expected"),
    [
        (
            "g (float[5, 32] x) => (float[5, 7] y) "
            "{ y = com.microsoft.MatMulNBits<K = 32, N = 7, bits = 4, block_size = 32>(x, w, s) }",
            {"w": np.ones((7, 1, 16), np.uint8), "s": ones(7, 1)},
            5 * 32 * 7,
        ),
        (
            "g (float[5, 4] x) => (float[5, 7] y) { y = com.microsoft.DynamicQuantizeMatMul(x, w, s) }",
            {"w": np.ones((4, 7), np.int8), "s": ones(1)},
            5 * 4 * 7,
        ),
        (
            "g (float[1, 3, 8, 8] x) => (float[1, 6, 6, 6] y) "
            '{ y = com.microsoft.FusedConv<activation = "Relu">(x, w) }',
            {"w": ones(6, 3, 3, 3)},
            6 * 6 * 6 * 27,
        ),
        ("g (float[5, 4] x) => (float[5, 7] y) { y = example.MatMulNBits<K = 4, N = 7>(x, w) }", {"w": ones(4, 7)}, 0),
    ],
)
def test_operators_of_onnxruntime(text: str, weights: dict[str, object], expected: int) -> None:
    root = decode(model(text, **weights), Store())
    assert (macs(root, infer(root)).count, macs(root, infer(root)).unknown) == (expected, 0)
