"""packed-tables: the rows that standard operators make of bytes are those of DequantizeLinear, bit for bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from graphopt.pipeline import Pass
from graphopt.pipeline.page import SECTIONS, page
from graphopt.testing import apply, assert_missed, model
from graphopt.testing.running import PLAIN, USUAL, outputs_of
from passes.quantize.packed_tables import PackedTables
from passes.quantize.weight_int4 import WeightInt4

TEXT = "g (int64[N, M] i) => (float[N, M, C] y) { y = Gather(w, i) }"
FEEDS = [{"i": np.array([[0, 39, 5], [-1, 7, 7]])}, {"i": np.zeros((0, 2), np.int64)}]


def floats(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng([1, *shape]).standard_normal(shape).astype(dtype)


def quantized(weight_pass: Pass, proto: ModelProto) -> ModelProto:
    done = apply(weight_pass, proto, feeds=(), laws=False)
    assert done.applied, [one.why for one in done.missed]
    return done.after


FORMS: dict[str, Pass] = {
    "blocks": WeightInt4(min_elements=1),
    "blocks of 6": WeightInt4(min_elements=1, block=6),
    "zeros": WeightInt4(min_elements=1, symmetric=False),
    "unsigned": WeightInt4(min_elements=1, symmetric=False, signed=False),
    "unsigned around zero": WeightInt4(min_elements=1, signed=False),
    "rows": WeightInt4(min_elements=1, block=96),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_the_same_bits(form: str) -> None:
    proto = quantized(FORMS[form], model(TEXT, w=floats(40, 96)))
    done = apply(PackedTables(), proto, feeds=FEEDS)
    assert len(done.applied) == 1
    assert "DequantizeLinear" not in done.body
    for options in (PLAIN, USUAL):
        before = outputs_of(proto.SerializeToString(), FEEDS, options)
        after = outputs_of(done.after.SerializeToString(), FEEDS, options)
        for one, other in zip(before, after, strict=True):
            assert np.array_equal(one["y"], other["y"])
    stored = {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}
    assert max(one.nbytes for one in stored.values() if one.dtype == np.uint8) == 40 * 48


def test_what_is_written() -> None:
    proto = quantized(FORMS["blocks"], model(TEXT, w=floats(40, 96)))
    ops = [node.op_type for node in apply(PackedTables(), proto, feeds=FEEDS).after.graph.node]
    assert ops == ["Gather", "BitwiseAnd", "BitShift", "Concat", "Cast", "Sub", "Gather", "Mul", "Reshape"]


def test_two_lookups_share_one_table_and_bodies_read_it_too() -> None:
    text = """g (int64[N] i, bool c) => (float[N, 64] y, float[N, 64] z) {
        y = Gather(w, i)
        z = If(c)<then_branch = t () => (float[N, 64] o) { o = Gather(w, i) },
                  else_branch = e () => (float[N, 64] o) { o = Neg(y) }> }"""
    proto = quantized(FORMS["zeros"], model(text, w=floats(40, 64)))
    feeds = [{"i": np.array([1, 2]), "c": np.array(one)} for one in (True, False)]
    done = apply(PackedTables(), proto, feeds=feeds)
    assert len(done.applied) == 2
    assert sum(one.data_type == 2 and len(one.dims) == 3 for one in done.after.graph.initializer) == 2


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves(dtype: Any) -> None:
    text = "g (int64[N] i) => (float[N, 64] y) { e = Gather(w, i)  y = Cast<to = 1>(e) }"
    proto = quantized(FORMS["blocks"], model(text, w=floats(40, 64, dtype=dtype)))
    done = apply(PackedTables(), proto, feeds=[{"i": np.array([3, 1])}] if dtype is np.float16 else ())
    assert len(done.applied) == 1


@pytest.mark.parametrize(
    ("text", "shape", "form", "why"),
    [
        (TEXT, (40, 64), WeightInt4("channel", min_elements=1), "its scales are not for rows or blocks of them"),
        (TEXT, (40, 64), WeightInt4(min_elements=1, block=7), "are not whole blocks of an even number"),
        (TEXT, (40, 33), WeightInt4(min_elements=1), "its rows of 33 codes are not whole blocks"),
        (
            "g (int64[N] i, float[N, 64] x) => (float[N, 64] e, float[N, 40] y) "
            "{ e = Gather(w, i)  t = Transpose(w)  y = MatMul(x, t) }",
            (40, 64),
            WeightInt4(min_elements=1),
            "MatMul 'MatMul(y)' reads its codes, too",
        ),
    ],
)
def test_tables_that_are_left(text: str, shape: tuple[int, ...], form: Pass, why: str) -> None:
    proto = quantized(form, model(text, w=floats(*shape)))
    done = apply(PackedTables(), proto, feeds=())
    assert_missed(done, "packed-table", why)
    assert done.after == done.before


def test_skipped_tables_are_left() -> None:
    proto = quantized(FORMS["blocks"], model(TEXT, w=floats(40, 64)))
    assert_missed(apply(PackedTables(skip=("w_*",)), proto, feeds=()), "packed-table", "skip has 'w_*'")


def test_the_page_is_complete() -> None:
    assert [one.title for one in page(PackedTables).sections] == list(SECTIONS)
