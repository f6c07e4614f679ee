"""embedding-rows: fewer rows, the same ids in, and the same results for the ids that are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from passes.prune.embedding_rows import EmbeddingRows
from passes.quantize.weight_half import WeightHalf
from passes.quantize.weight_int4 import WeightInt4
from passes.quantize.weight_int8 import WeightInt8
from passes.quantize.weight_mx import WeightMx

ROWS, WIDTH = 1000, 64
TEXT = f"g (int64[N, T] ids) => (float[N, T, {WIDTH}] y) {{ a = Gather(w, ids)  y = Relu(a) }}"
USED = np.asarray([[1, 5, 7], [999, 5, 500]])
FEEDS = [{"ids": USED}]


def table(rows: int = ROWS, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)


def plain() -> onnx.ModelProto:
    return model(TEXT, w=table())


def output(proto: onnx.ModelProto, ids: Any) -> np.ndarray[Any, Any]:
    return np.asarray(outputs_of(proto.SerializeToString(), [{"ids": np.asarray(ids)}])[0]["y"])


def stored(done: Applied) -> dict[str, np.ndarray[Any, Any]]:
    return {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}


def test_ids_in_use_keep_their_rows_to_the_bit() -> None:
    done = apply(EmbeddingRows(), plain(), feeds=FEEDS)
    assert done.body == "w_row = Gather(w_rows, ids)\na = Gather(w, w_row)\ny = Relu(a)"
    assert stored(done)["w"].shape == (6, WIDTH)
    assert np.array_equal(output(done.after, USED), output(plain(), USED))
    assert len(done.after.SerializeToString()) < len(plain().SerializeToString()) / 10


def distance(rows: Any, choices: Any) -> np.ndarray[Any, Any]:
    return np.square(np.asarray(rows, np.float64)[:, None] - np.asarray(choices, np.float64)[None]).sum(axis=2)


@pytest.mark.parametrize("shared", [1, 8])
def test_all_other_ids_get_the_nearest_row_that_is_left(shared: int) -> None:
    done = apply(EmbeddingRows(shared=shared), plain(), feeds=FEEDS)
    left, where = stored(done)["w"], stored(done)["w_rows"]
    assert left.shape == (5 + shared, WIDTH)
    apart = distance(table(), left)
    assert np.allclose(apart[np.arange(ROWS), where], apart.min(axis=1), atol=1e-3)
    assert np.array_equal(output(done.after, [[0, 2, 998]])[0], np.maximum(left[where[[0, 2, 998]]], 0))
    if shared == 1:
        assert np.allclose(left[-1], np.delete(table().astype(np.float64), np.unique(USED), axis=0).mean(axis=0))


def test_more_shared_rows_are_nearer() -> None:
    apart = []
    for shared in (1, 4, 64):
        found = stored(apply(EmbeddingRows(shared=shared), plain(), feeds=FEEDS))
        apart.append(float(np.square(table() - found["w"][found["w_rows"]]).sum()))
    assert apart[0] > apart[1] > apart[2]


def test_or_the_row_of_the_unknown_id() -> None:
    done = apply(EmbeddingRows(unknown=3), plain(), feeds=FEEDS)
    assert stored(done)["w"].shape == (6, WIDTH)  # the five in use, and that one
    assert np.array_equal(output(done.after, [[0, 2, 3]]), np.repeat(np.maximum(table()[3:4], 0)[None], 3, axis=1))


def test_negative_ids_count_from_the_end_as_before() -> None:
    done = apply(EmbeddingRows(), plain(), feeds=[{"ids": np.asarray([[-1, 3]])}])
    assert np.array_equal(output(done.after, [[-1, 999, 3, -997]]), output(plain(), [[-1, 999, 3, -997]]))


def test_ids_may_be_given_besides_those_seen_and_instead() -> None:
    both = apply(EmbeddingRows(ids="0:100, 500,600:602"), plain(), feeds=FEEDS)
    kept = [*range(100), 500, 600, 601, 999]
    assert stored(both)["w"].shape[0] == len(kept) + 1
    assert np.array_equal(output(both.after, [kept]), output(plain(), [kept]))
    given = apply(EmbeddingRows(ids="0:100", seen=False), plain(), feeds=FEEDS)
    assert stored(given)["w"].shape[0] == 101
    assert not np.array_equal(output(given.after, [[999]]), output(plain(), [[999]]))


def test_several_gathers_of_one_table_keep_what_any_of_them_needs() -> None:
    before = model(
        f"g (int64[N] ids, int32[N] more) => (float[N, {WIDTH}] y) "
        "{ a = Gather(w, ids)  b = Gather(w, more)  c = Gather(w, ids)  d = Add(a, b)  y = Add(c, d) }",
        w=table(),
    )
    feeds = [{"ids": np.asarray([1, 2]), "more": np.asarray([3, 2], np.int32)}]
    done = apply(EmbeddingRows(), before, feeds=feeds)
    assert stored(done)["w"].shape[0] == 4
    assert done.body.count("Gather(w_rows") == 2  # one for each tensor of ids
    assert done.sqnr_db("y") == np.inf


@pytest.mark.parametrize(
    "pass_", [WeightInt8(), WeightInt4(), WeightHalf(), WeightMx(min_elements=1)], ids=lambda one: str(one.name)
)
@pytest.mark.parametrize("unknown", [-1, 3])
def test_tables_that_are_stored_in_codes(pass_: Any, unknown: int) -> None:
    coded = apply(pass_, plain(), feeds=FEEDS).after
    done = apply(EmbeddingRows(unknown=unknown), coded, feeds=FEEDS)
    assert len(done.applied) == 1
    assert np.array_equal(output(done.after, USED), output(coded, USED))
    assert len(done.after.SerializeToString()) < len(coded.SerializeToString()) / 3
    assert output(done.after, [[0]]).shape == (1, 1, WIDTH)


def test_scales_of_rows_go_with_their_rows() -> None:
    codes = np.random.default_rng(0).integers(-127, 128, (ROWS, WIDTH)).astype(np.int8)
    before = model(
        TEXT.replace("Gather(w, ids)", "Gather(d, ids)").replace("{ a", "{ d = DequantizeLinear<axis = 0>(q, s, z)  a"),
        q=codes, s=np.linspace(0.01, 0.1, ROWS, dtype=np.float32), z=np.zeros(ROWS, np.int8),
    )  # fmt: skip
    done = apply(EmbeddingRows(), before, feeds=FEEDS)
    assert {name: one.shape for name, one in stored(done).items() if name != "q_rows"} == {
        "q": (6, WIDTH), "s": (6,), "z": (6,)
    }  # fmt: skip
    assert np.array_equal(output(done.after, USED), output(before, USED))
    assert "other ids get the nearest of them" in done.applied[0].why


def test_scales_that_rows_share_are_refused() -> None:
    before = model(
        TEXT.replace("Gather(w, ids)", "Gather(d, ids)").replace(
            "{ a", "{ d = DequantizeLinear<axis = 0, block_size = 2>(q, s)  a"
        ),
        q=np.ones((ROWS, WIDTH), np.int8), s=np.ones((ROWS // 2, WIDTH), np.float32),
    )  # fmt: skip
    assert_missed(apply(EmbeddingRows(), before, feeds=FEEDS), "rows", "its rows share what DequantizeLinear")


@pytest.mark.parametrize("tied", ["t = Transpose(w)  l = MatMul(a, t)", "l = Gemm<transB = 1>(f, w)"])
def test_tables_that_are_output_projections_are_left(tied: str) -> None:
    before = model(f"g (int64[N] ids) => (float[N, {ROWS}] l) {{ a = Gather(w, ids)  f = Relu(a)  {tied} }}", w=table())
    done = apply(EmbeddingRows(), before, feeds=[{"ids": np.asarray([1, 2])}])
    assert not done.applied
    assert_missed(done, "rows", "as a projection onto the vocabulary does")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = Gather(w, ids)  b = Neg(w)  c = Relu(a)", "Neg(b)' reads 'w', too"),
        ("r = Shape(ids)  a = Gather(w, r)  c = Relu(a)", "its indices are computed by Shape"),
        ("l = Shape<start = 1, end = 2>(ids)  r = Slice(p, z, l)  a = Gather(w, r)  c = Relu(a)", "computed by Slice"),
    ],
)
def test_what_cannot_be_trimmed_is_left_with_the_reason(text: str, why: str) -> None:
    before = model(
        f"g (int64[N, T] ids) => (float y) <int64[1] z = {{0}}> {{ {text}  y = ReduceMax<keepdims = 0>(c) }}",
        w=table(),
        p=np.arange(100),
    )
    assert_missed(apply(EmbeddingRows(), before, feeds=FEEDS), "rows", why)


def test_trimming_that_does_not_pay_is_missed_with_figures() -> None:
    before = model("g (int64[N] ids) => (float[N, 1] y) { a = Gather(w, ids)  y = Relu(a) }", w=table()[:, :1])
    done = apply(EmbeddingRows(), before, feeds=[{"ids": np.asarray([1, 2])}])
    remark = assert_missed(done, "rows", "with 3 of 1000 rows it would take 4012 bytes")
    assert "takes 4000" in remark.why


def test_a_model_without_tables_is_told() -> None:
    before = model("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    assert_missed(apply(EmbeddingRows(), before), "rows", "looks up no table")


def test_all_in_use_too_few_rows_and_names() -> None:
    every = [{"ids": np.arange(ROWS)[None]}]
    assert_missed(apply(EmbeddingRows(), plain(), feeds=every), "rows", "all of its 1000 rows are in use")
    assert_missed(apply(EmbeddingRows(min_rows=2000), plain(), feeds=FEEDS), "rows", "fewer than min-rows=2000")
    assert_missed(apply(EmbeddingRows(skip=("w",)), plain(), feeds=FEEDS), "rows", "skip has 'w'")
    assert_missed(apply(EmbeddingRows(only=("v",)), plain(), feeds=FEEDS), "rows", "only has no pattern")
    assert_missed(apply(EmbeddingRows(unknown=5000), plain(), feeds=FEEDS), "rows", "none for unknown=5000")


def test_a_row_with_a_nan_needs_an_id_for_the_others() -> None:
    values = table()
    values[3] = np.nan
    before = model(TEXT, w=values)
    assert_missed(apply(EmbeddingRows(), before, feeds=FEEDS), "rows", "NaN or infinities")
    assert apply(EmbeddingRows(unknown=1), before, feeds=FEEDS).applied


def test_overridable_tables_are_inputs() -> None:
    before = model(f"g (int64[N, T] ids, float[{ROWS}, {WIDTH}] w) => (float[N, T, {WIDTH}] y) "
                   "{ a = Gather(w, ids)  y = Relu(a) }", w=table())  # fmt: skip
    assert not apply(EmbeddingRows(), before, feeds=FEEDS).applied


def test_constant_nodes_bodies_and_captured_tables() -> None:
    before = model(
        f"""g (int64[N] ids, bool p) => (float[N, {WIDTH}] y) {{
            y = If (p) <then_branch = t () => (float[N, {WIDTH}] o) {{ a = Gather(w, ids)  o = Relu(a) }},
                        else_branch = e () => (float[N, {WIDTH}] o2) {{ o2 = Gather(w, ids) }}> }}""",
        w=table(),
    )
    held = before.graph.initializer[0]
    constant = onnx.helper.make_node("Constant", [], ["w"], value=held)
    feeds = [{"ids": np.asarray([1, 2]), "p": np.asarray(True)}, {"ids": np.asarray([4, 2]), "p": np.asarray(False)}]
    for as_node in (False, True):
        if as_node:
            before.graph.node.insert(0, constant)
            del before.graph.initializer[:]
        done = apply(EmbeddingRows(), before, feeds=feeds)
        assert len(done.applied) == 1 and done.sqnr_db("y") == np.inf
        assert len(done.after.SerializeToString()) < len(before.SerializeToString()) / 10


def test_already_trimmed_tables_are_left() -> None:
    once = apply(EmbeddingRows(), plain(), feeds=FEEDS)
    twice = apply(Pipeline((EmbeddingRows(min_rows=2),)), once.after, feeds=FEEDS)
    assert not twice.applied  # all rows but that of other ids are in use


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ids": "a:b"}, "'a:b' is neither"),
        ({"unknown": -2}, "unknown must be an id"),
        ({"seen": False}, "ids must say which ids stay"),
        ({"min_rows": 1}, "min-rows at least 2"),
        ({"shared": 0}, "shared at least 1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        EmbeddingRows(**options)
