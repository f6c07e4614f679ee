"""scale-after-sum: c * x + d becomes c * (x + d / c) before a padded convolution."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from graphopt.pipeline import Pipeline
from graphopt.testing import apply, assert_missed, model
from passes.fold.scale_after_sum import ScaleAfterSum
from passes.fold.scale_bias import FoldScaleBias


def before(
    middle: str, pads: str = "pads = [1, 1, 1, 1]", out: str = "float[1, 2, 6, 6] y", factor: float = 0.7
) -> ModelProto:
    return model(
        f"""g (float[1, 2, 6, 6] x) => ({out}) <float c = {{{factor}}}, float d = {{0.3}}, float[1] e = {{0.3}}> {{
            {middle}  y = Conv<{pads}>(b, w) }}""",
        w=np.random.default_rng(0).standard_normal((2, 2, 3, 3)).astype(np.float32),
    )


@pytest.mark.parametrize(
    "middle",
    ["a = Mul(x, c)  b = Add(a, d)", "a = Mul(c, x)  b = Add(d, a)", "a = Mul(x, c)  b = Add(a, e)"],
)
def test_the_order_is_turned_around(middle: str) -> None:
    done = apply(ScaleAfterSum(), before(middle))
    assert [node.op_type for node in done.after.graph.node] == ["Add", "Mul", "Conv"]


def test_the_factor_then_goes_into_the_weights() -> None:
    done = apply(Pipeline((ScaleAfterSum(), FoldScaleBias())), before("a = Mul(x, c)  b = Add(a, d)"))
    assert [node.op_type for node in done.after.graph.node] == ["Add", "Conv"]


def test_constant_nodes_go_with_what_read_them() -> None:
    middle = "k = Constant<value = float {0.3}>()  a = Mul(x, c)  b = Add(a, k)"
    done = apply(ScaleAfterSum(), before(middle))
    assert [node.op_type for node in done.after.graph.node] == ["Add", "Mul", "Conv"]


@pytest.mark.parametrize(
    "untouched",
    [
        before("a = Mul(x, c)  b = Add(a, d)", pads="pads = [0, 0, 0, 0]", out="float[1, 2, 4, 4] y"),  # all folds
        before("a = Mul(x, c)  b = Add(a, d)", out="float[1, 2, 6, 6] y, float[1, 2, 6, 6] a"),
        before("a = Mul(x, c)  b = Add(a, d)", out="float[1, 2, 6, 6] y, float[1, 2, 6, 6] b"),
        before("a = Add(x, c)  b = Add(a, d)"),
        before("a = Mul(x, x)  b = Add(a, d)"),
    ],
)
def test_left_alone(untouched: ModelProto) -> None:
    assert not apply(ScaleAfterSum(), untouched).applied


@pytest.mark.parametrize(("factor", "why"), [(0.0, "zero"), (1e-7, "too large"), (float("inf"), "not finite")])
def test_left_with_the_reason(factor: float, why: str) -> None:
    done = apply(ScaleAfterSum(), before("a = Mul(x, c)  b = Add(a, d)", factor=factor), feeds=[])
    assert_missed(done, "mul-add-to-add-mul", why)


def test_padding_that_is_automatic_counts_as_padding() -> None:
    done = apply(ScaleAfterSum(), before("a = Mul(x, c)  b = Add(a, d)", pads='auto_pad = "SAME_UPPER"'))
    assert [node.op_type for node in done.after.graph.node] == ["Add", "Mul", "Conv"]


@pytest.mark.parametrize(("pads", "size"), [('auto_pad = "SAME_UPPER"', "6, 6"), ("pads = [0, 0, 0, 1]", "4, 5")])
def test_any_padding_counts(pads: str, size: str) -> None:
    assert apply(ScaleAfterSum(), before("a = Mul(x, c)  b = Add(a, d)", pads, f"float[1, 2, {size}] y")).applied


def test_one_reader_that_pads_among_two() -> None:
    middle = "a = Mul(x, c)  b = Add(a, d)  n = Conv(b, w)  m = Abs(n)"
    text = before(middle)
    text.graph.output.add(name="m").type.tensor_type.elem_type = 1
    text.graph.output[-1].type.tensor_type.shape.dim.add(dim_param="q")
    for _ in range(3):
        text.graph.output[-1].type.tensor_type.shape.dim.add()
    assert apply(ScaleAfterSum(), text).applied


def test_numbers_of_64_bits_stay() -> None:
    text = """g (double[1, 2, 6, 6] x) => (double[1, 2, 6, 6] y) <double c = {0.7}, double d = {0.3}> {
        a = Mul(x, c)  b = Add(a, d)  y = Conv<pads = [1, 1, 1, 1]>(b, w) }"""
    assert apply(ScaleAfterSum(), model(text, w=np.ones((2, 2, 3, 3))), feeds=()).applied == ()


def test_a_summand_of_the_graph_around() -> None:
    text = """g (bool q, float[1, 2, 6, 6] x) => (float[1, 2, 6, 6] y) <float c = {0.7}, float d = {0.3}> {
        y = If(q)<then_branch = t () => (float[1, 2, 6, 6] o) {
                      a = Mul(x, c)  b = Add(a, d)  o = Conv<pads = [1, 1, 1, 1]>(b, w) },
                  else_branch = e () => (float[1, 2, 6, 6] p) { p = Neg(x) }> }"""
    w = np.random.default_rng(0).standard_normal((2, 2, 3, 3)).astype(np.float32)
    assert apply(ScaleAfterSum(), model(text, w=w)).applied
