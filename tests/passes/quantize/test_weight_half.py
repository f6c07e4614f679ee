"""weight-half: 16-bit tensors behind a Cast, and every reason to leave one."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper

from graphopt.testing import apply, assert_missed, model
from passes.quantize.weight_half import WeightHalf

SMALL = WeightHalf(min_elements=1)
OLD = '<ir_version: 7, opset_import: ["" : 12]> '
DENSE = "g (float[N, 16] x) => (float[N, 24] y) { y = MatMul(x, w) }"


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_weight_is_stored_in_16_bits_and_cast() -> None:
    weight = floats(16, 24)
    done = apply(SMALL, model(DENSE, w=weight))
    assert done.body == "w_float = Cast<to=1>(w_float16)\ny = MatMul(x, w_float)"
    (stored,) = done.after.graph.initializer
    assert np.array_equal(numpy_helper.to_array(stored), weight.astype(np.float16))
    assert done.sqnr_db("y") > 60


@pytest.mark.parametrize(("to", "relative"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
@pytest.mark.parametrize("exponent", [-14, -3, 0, 9, 15])
def test_no_weight_moves_by_more_than_half_a_unit_in_the_last_place(to: Any, relative: float, exponent: int) -> None:
    weight = (np.linspace(1, 1.999, 384).reshape(16, 24) * 2.0**exponent).astype(np.float32)
    done = apply(WeightHalf(to=to, min_elements=1), model(DENSE, w=weight), feeds=[])
    raw = numpy_helper.to_array(done.after.graph.initializer[0])
    stored = (raw if to == "float16" else raw.view(ml_dtypes.bfloat16)).astype(np.float64)
    assert (np.abs(stored - weight) <= relative * np.abs(weight)).all()


def test_rows_are_looked_up_in_16_bits() -> None:
    text = "g (int64[N] i) => (float[N, 8] y) { y = Gather(table, i) }"
    done = apply(SMALL, model(text, table=floats(32, 8)), feeds=[{"i": np.array([3, 31])}])
    assert done.body == "y_half = Gather(table_float16, i)\ny = Cast<to=1>(y_half)"


def test_biases_and_other_tensors_too() -> None:
    text = "g (float[N, 16] x) => (float[N, 24] y) { h = Gemm(x, w, b)  y = Add(h, p) }"
    done = apply(SMALL, model(text, w=floats(16, 24), b=floats(24), p=floats(24, seed=1)))
    assert len(done.applied) == 3


def test_a_tensor_that_a_body_reads_is_cast_outside() -> None:
    text = """g (float[N, 16] x, bool c) => (float[N, 24] y) {
        y = If (c) <then_branch = t () => (float[N, 24] a) { a = MatMul(x, w) },
                    else_branch = e () => (float[N, 24] b) { b = MatMul(x, w) }>
    }"""
    feeds = [{"x": floats(2, 16), "c": np.array(flag)} for flag in (True, False)]
    done = apply(SMALL, model(text, w=floats(16, 24)), feeds=feeds)
    assert [node.op_type for node in done.after.graph.node] == ["Cast", "If"]
    assert len(done.applied) == 1


def test_constant_nodes_in_old_opsets() -> None:
    text = OLD + "g (float[N, 4] x) => (float[N, 4] y) { w = Constant<value = float[4, 4] {" + ",".join(["0.3"] * 16)
    done = apply(SMALL, model(text + "}>()  y = MatMul(x, w) }"))
    assert [node.op_type for node in done.after.graph.node] == ["Cast", "MatMul"]


@pytest.mark.parametrize(
    ("text", "weights", "pass_", "why"),
    [
        (DENSE, {"w": floats(16, 24) * 1e6}, SMALL, "beyond what float16 can hold"),
        (DENSE, {"w": np.full((16, 24), np.nan, np.float32)}, SMALL, "it has a NaN or an infinity"),
        (OLD + DENSE, {"w": floats(16, 24)}, WeightHalf(to="bfloat16"), "needs opset 13: raise it with opset{to=13}"),
        (DENSE, {"w": floats(16, 24)}, WeightHalf(skip=("w*",)), "skip has 'w*'"),
        (
            "g (float[N, 16] x) => (float[N, 24] y, float[16, 24] w) { y = MatMul(x, w) }",
            {"w": floats(16, 24)},
            SMALL,
            "it is an output of a graph",
        ),
        (
            "g (float[N, 16] x, float[16, 24] w) => (float[N, 24] y) { y = MatMul(x, w) }",
            {"w": floats(16, 24)},
            SMALL,
            "it is also a graph input",
        ),
    ],
)
def test_what_is_left_and_why(text: str, weights: Any, pass_: WeightHalf, why: str) -> None:
    done = apply(pass_, model(text, **weights), feeds=[])
    assert_missed(done, "store-half", why)
    assert done.after == done.before


def test_large_values_fit_into_bfloat16() -> None:
    done = apply(WeightHalf(to="bfloat16"), model(DENSE, w=floats(16, 24) * 1e20), feeds=[])
    assert len(done.applied) == 1


def test_small_tensors_are_passed_over() -> None:
    done = apply(WeightHalf(), model(DENSE.replace("16", "4"), w=floats(4, 24)))
    assert not done.remarks


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="min-elements must not be negative, and -1 is"):
        WeightHalf(min_elements=-1)
