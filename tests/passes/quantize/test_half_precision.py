"""half-precision: what computes in 16 bits, where the casts are, and why a node stays in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.quantize.half_precision import HalfPrecision

HALF = HalfPrecision()


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def operators(done: Applied) -> list[str]:
    return [node.op_type for node in done.after.graph.node]


def test_a_chain_computes_in_16_bits_between_two_casts() -> None:
    text = "g (float[N, 8] x) => (float[N, 6] y) { h = MatMul(x, w)  a = Add(h, b)  y = Relu(a) }"
    done = apply(HALF, model(text, w=floats(8, 6), b=floats(6)))
    assert done.body == (
        "x_float16 = Cast<to=10>(x)\nh_float16 = MatMul(x_float16, w_float16)\n"
        "a_float16 = Add(h_float16, b_float16)\ny_float16 = Relu(a_float16)\ny = Cast<to=1>(y_float16)"
    )
    assert len(done.applied) == 3
    assert done.sqnr_db("y") > 50


def test_a_node_that_is_kept_gets_float32() -> None:
    text = "g (float[N, 8] x) => (float[N, 6] y) { h = MatMul(x, w)  s = Sigmoid(h)  y = MatMul(s, v) }"
    done = apply(HalfPrecision(keep=("Sigmoid",)), model(text, w=floats(8, 6), v=floats(6, 6)))
    assert operators(done) == ["Cast", "MatMul", "Cast", "Sigmoid", "Cast", "MatMul", "Cast"]
    assert_missed(done, "halve", "keep has 'Sigmoid'")


def test_large_activations_stay_in_float32() -> None:
    text = "g (float[N, 8] x) => (float[N, 6] y) { h = MatMul(x, w)  t = MatMul(h, big)  y = MatMul(t, small) }"
    weights = {"w": floats(8, 6), "big": floats(6, 6) * 3e4, "small": floats(6, 6) * 1e-4}
    done = apply(HALF, model(text, **weights), feeds=[{"x": floats(4, 8)}])
    remark = assert_missed(done, "halve", "too near 65504")
    assert "'t' reached" in remark.why
    assert [one.node for one in done.applied] == ["MatMul(h)"]


def test_weights_that_do_not_fit_stay() -> None:
    text = "g (float[N, 8] x) => (float[N, 6] y) { s = Mul(x, tiny)  y = MatMul(s, w) }"
    done = apply(HALF, model(text, tiny=np.float32(1e-6), w=floats(8, 6) * 1e5), feeds=[{"x": floats(4, 8)}])
    assert_missed(done, "halve", "'w' has values that float16 cannot hold")
    assert_missed(done, "halve", "no MatMul, Conv, Gemm or the like is beside it that becomes float16 too")
    assert done.after == done.before


def test_an_island_without_a_product_is_not_worth_its_casts() -> None:
    done = apply(HALF, model("g (float[N, 8] x) => (float[N, 8] y) { h = Relu(x)  y = Neg(h) }"))
    assert_missed(done, "halve", "no MatMul")
    assert done.after == done.before


def test_what_reads_both_forms_is_cast_once() -> None:
    text = """g (float[N, 8] x) => (float[N, 8] y, float[N, 8] z) {
        h = MatMul(x, w)  y = LpNormalization(h)  a = Relu(h)  z = MatMul(a, w)
    }"""
    done = apply(HALF, model(text, w=floats(8, 8)))
    assert operators(done).count("Cast") == 3
    assert_missed(done, "halve", "LpNormalization may leave the range of float16 inside")
    assert [one.name for one in done.after.graph.initializer] == ["w_float16"]


def test_inside_bodies() -> None:
    text = """g (float[2, 8] x, bool c) => (float[2, 8] y) {
        y = If (c) <then_branch = t () => (float[2, 8] a) { h = MatMul(x, w)  a = Relu(h) },
                    else_branch = e () => (float[2, 8] b) { b = MatMul(x, w) }>
    }"""
    feeds = [{"x": floats(2, 8), "c": np.array(flag)} for flag in (True, False)]
    done = apply(HalfPrecision(unobserved="convert"), model(text, w=floats(8, 8)), feeds=feeds)
    assert {one.node for one in done.applied} == {"MatMul(h)", "Relu(a)", "MatMul(b)"}
    assert operators(done) == ["Cast", "If"]
    assert done.sqnr_db("y") > 50


def test_bfloat16_needs_an_opset_that_has_it() -> None:
    text = '<ir_version: 7, opset_import: ["" : 12]> g (float[N, 8] x) => (float[N, 6] y) { y = MatMul(x, w) }'
    done = apply(HalfPrecision(to="bfloat16"), model(text, w=floats(8, 6)), feeds=[{"x": floats(2, 8)}])
    assert_missed(done, "halve", "MatMul has no inputs that may be bfloat16")


def test_other_domains_and_types_are_left() -> None:
    text = "g (float[N, 8] x, int64[N] i) => (float[N, 6] y, int64[N] j) { y = MatMul(x, w)  j = Abs(i) }"
    done = apply(HALF, model(text, w=floats(8, 6)))
    assert [one.node for one in done.applied] == ["MatMul(y)"]
    assert not done.missed


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"headroom must be at least 1, and 0.5 is not"):
        HalfPrecision(headroom=0.5)
