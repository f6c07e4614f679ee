"""Values in bodies and functions are seen as often as they are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from asking import Asking, Kept

from graphopt.analysis.activations import Extremes, Observation, Observed
from graphopt.testing import model

ROWS = np.random.default_rng(1).normal(0, 1, (6, 4)).astype(np.float32)
W = np.random.default_rng(0).normal(0, 0.3, (4, 4)).astype(np.float32)


def kept(proto: onnx.ModelProto, feeds: list[dict[str, Any]], *names: str) -> tuple[dict[str, Kept], Observed]:
    asked = Asking(proto, feeds)
    found = {name: Kept() for name in names}
    before = asked.source.proto.SerializeToString()
    answer = asked.observe(*(Observation((asked.value(name),), one) for name, one in found.items()))
    assert asked.source.proto.SerializeToString() == before
    return found, answer


def header(opset: int) -> str:
    return f'<ir_version: 8, opset_import: ["": {opset}]>'


BRANCHES = """g (bool c, float[N,4] x) => (float[N,4] y) {
    y = If (c) <
        then_branch = t () => (float[N,4] p) { a = MatMul(x, w)  p = Relu(a) },
        else_branch = e () => (float[N,4] q) { b = Neg(x)  q = Exp(b) }
    >
}"""


@pytest.mark.parametrize("opset", [11, 12, 13, 16, 18, 21])
def test_values_of_the_branch_that_is_taken(opset: int) -> None:
    proto = model(header(opset) + BRANCHES, w=W)
    feeds = [{"c": np.array(take), "x": ROWS[at : at + 2]} for at, take in ((0, True), (2, False), (4, True))]
    found, answer = kept(proto, feeds, "a", "b", "p")
    assert not answer.refused and answer.feeds == 3
    taken = np.concatenate([ROWS[:2], ROWS[4:]])
    assert np.allclose(found["a"].all(), taken @ W, rtol=1e-5, atol=1e-6)
    assert np.allclose(found["p"].all(), np.maximum(taken @ W, 0), rtol=1e-5, atol=1e-6)
    assert np.array_equal(found["b"].all(), -ROWS[2:4])
    assert len(found["a"].seen) == 2 and len(found["b"].seen) == 1


def test_a_branch_that_is_never_taken_shows_nothing() -> None:
    found, answer = kept(model(header(17) + BRANCHES, w=W), [{"c": np.array(True), "x": ROWS}], "b")
    assert not answer.refused and found["b"].seen == []


def test_branches_before_they_may_differ() -> None:
    _, answer = kept(model(header(9) + BRANCHES, w=W), [{"c": np.array(True), "x": ROWS}], "a")
    assert list(answer.refused.values()) == [
        "it is in a branch, which can only be empty from opset 11 on: opset{to=13} first"
    ]


def test_single_numbers_in_a_branch() -> None:
    text = """g (bool c, float[N,4] x) => (float y) {
        y = If (c) <
            then_branch = t () => (float p) { m = ReduceMax<keepdims=0>(x)  p = Neg(m) },
            else_branch = e () => (float q) { n = ReduceMin<keepdims=0>(x)  q = Neg(n) }
        >
    }"""
    proto = model(header(13) + text)
    found, answer = kept(proto, [{"c": np.array(one), "x": ROWS} for one in (True, False)], "m", "n")
    assert not answer.refused
    assert [values[0].shape for values in found["m"].seen] == [()]
    assert found["m"].seen[0][0] == ROWS.max() and found["n"].seen[0][0] == ROWS.min()


LOOP = """g (int64 n, float[N,4] x) => (float[N,4] y) {
    go = Constant<value = bool {1}>()
    y = Loop (n, go, x) <
        body = b (int64 i, bool cond, float[N,4] h) => (bool more, float[N,4] k) {
            more = Identity(cond)  a = MatMul(h, w)  k = Relu(a)
        }
    >
}"""


@pytest.mark.parametrize("opset", [11, 13, 16, 21])
def test_values_of_a_loop_come_once_a_round(opset: int) -> None:
    proto = model(header(opset) + LOOP, w=W)
    feeds = [{"n": np.array(count, np.int64), "x": ROWS} for count in (3, 1, 0)]
    found, answer = kept(proto, feeds, "a", "h", "k", "i")
    assert not answer.refused
    h, expected = ROWS, []
    for _ in range(3):
        expected.append((h, h @ W))
        h = np.maximum(h @ W, 0)
    assert len(found["a"].seen) == len(found["h"].seen) == 4
    for index, (before, after) in enumerate(expected):
        assert np.allclose(found["h"].seen[index][0], before, rtol=1e-4, atol=1e-6)
        assert np.allclose(found["a"].seen[index][0], after, rtol=1e-4, atol=1e-6)
    assert [int(values[0]) for values in found["i"].seen] == [0, 1, 2, 0]


def test_values_of_one_round_come_together_and_outer_ones_with_each() -> None:
    asked, together = Asking(model(header(16) + LOOP, w=W), [{"n": np.array(3, np.int64), "x": ROWS}]), Kept()
    answer = asked.observe(Observation(tuple(asked.value(name) for name in ("h", "a", "x")), together))
    assert not answer.refused and len(together.seen) == 3
    for h, a, x in together.seen:
        assert np.allclose(a, h @ W, rtol=1e-5, atol=1e-6) and np.array_equal(x, ROWS)


def test_a_loop_whose_rounds_differ_in_shape_is_refused_alone() -> None:
    text = """g (int64 n, float[N,4] x) => (float[M,4] y, float[N,4] z) {
        go = Constant<value = bool {1}>()
        y = Loop (n, go, x) <
            body = b (int64 i, bool cond, float[K,4] h) => (bool more, float[J,4] k) {
                more = Identity(cond)  a = Exp(h)  k = Concat<axis=0>(a, x)
            }
        >
        z = Relu(x)
    }"""
    asked = Asking(model(header(16) + text), [{"n": np.array(3, np.int64), "x": ROWS}])
    inner, outer = Observation((asked.value("a"),), Extremes()), Observation((asked.value("z"),), Extremes())
    answer = asked.observe(inner, outer)
    assert set(answer.refused) == {inner} and answer.refused[inner].startswith("onnxruntime does not give it: ")


@pytest.mark.parametrize("extra", ["", ", scan_output_axes=[1], scan_output_directions=[1]"])
@pytest.mark.parametrize("opset", [9, 11, 16, 21])
def test_values_of_a_scan(opset: int, extra: str) -> None:
    text = f"""g (float[4] s, float[N,4] x) => (float[4] y, float[A,B] z) {{
        y, z = Scan (s, x) <num_scan_inputs=1{extra},
            body = b (float[4] h, float[4] r) => (float[4] k, float[4] o) {{
                a = Add(h, r)  k = Mul(a, half)  o = Neg(a)
            }}
        >
    }}"""
    proto = model(header(opset) + text, half=np.float32(0.5))
    found, answer = kept(proto, [{"s": np.zeros(4, np.float32), "x": ROWS}], "a", "r")
    assert not answer.refused
    h, expected = np.zeros(4, np.float32), []
    for row in ROWS:
        expected.append(h + row)
        h = (h + row) / 2
    assert np.allclose(np.stack([values[0] for values in found["a"].seen]), expected, rtol=1e-5)
    assert np.array_equal(np.stack([values[0] for values in found["r"].seen]), ROWS)


FUNCTIONS = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
g (float[N,4] x) => (float[N,4] y) { u = local.Outer(x, w)  y = local.Inner(u, w) }
<domain: "local", opset_import: ["": 17, "local": 1]>
Outer (p, m) => (q) { r = local.Inner(p, m)  q = Neg(r) }
<domain: "local", opset_import: ["": 17]>
Inner (p2, m2) => (q2) { a = MatMul(p2, m2)  q2 = Relu(a) }"""


def test_values_of_a_function_come_once_a_call() -> None:
    found, answer = kept(model(FUNCTIONS, w=W), [{"x": ROWS}], "a", "r", "q2", "p2")
    assert not answer.refused
    first = ROWS @ W
    second = -np.maximum(first, 0) @ W
    seen = [values[0] for values in found["a"].seen]
    assert len(seen) == 2
    assert sorted(float(one.sum()) for one in seen) == pytest.approx(sorted([first.sum(), second.sum()]), rel=1e-4)
    assert np.allclose(found["r"].all(), np.maximum(first, 0), rtol=1e-5, atol=1e-6)
    assert len(found["q2"].seen) == len(found["p2"].seen) == 2


def test_a_function_that_nobody_calls() -> None:
    text = FUNCTIONS.replace("u = local.Outer(x, w)  y = local.Inner(u, w)", "y = MatMul(x, w)")
    _, answer = kept(model(text, w=W), [{"x": ROWS}], "a")
    assert list(answer.refused.values()) == ["nothing calls the function that it is in"]


def test_bodies_in_bodies_and_in_functions() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
    g (bool c, int64 n, float[N,4] x) => (float[N,4] y) { y = local.F(c, n, x, w) }
    <domain: "local", opset_import: ["": 17]>
    F (c, n, x, w) => (y) {
        y = If (c) <
            then_branch = t () => (float[N,4] p) {
                go = Constant<value = bool {1}>()
                p = Loop (n, go, x) <
                    body = b (int64 i, bool cond, float[N,4] h) => (bool more, float[N,4] k) {
                        more = Identity(cond)  a = MatMul(h, w)  k = Relu(a)
                    }
                >
            },
            else_branch = e () => (float[N,4] q) { q = Exp(x) }
        >
    }"""
    feeds = [{"c": np.array(take), "n": np.array(2, np.int64), "x": ROWS} for take in (True, False)]
    asked = Asking(model(text, w=W), feeds)
    one = Kept()
    answer = asked.observe(Observation((asked.value("a"),), one))
    assert not answer.refused
    assert np.allclose(one.seen[0][0], ROWS @ W, rtol=1e-5, atol=1e-6) and len(one.seen) == 2


def test_values_of_different_bodies_do_not_come_together() -> None:
    asked = Asking(model(header(17) + BRANCHES, w=W), [{"c": np.array(True), "x": ROWS}])
    answer = asked.observe(Observation((asked.value("a"), asked.value("b")), Kept()))
    assert list(answer.refused.values()) == ["its values are in different bodies"]


def test_a_type_that_is_not_known_is_most_likely_float() -> None:
    """In a function nothing says what its inputs are; where it is something else, onnxruntime says so."""
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
    g (bool c, float[N,4] x) => (float[N,4] y) { k = Cast<to=6>(x)  y = local.F(c, x, k) }
    <domain: "local", opset_import: ["": 17]>
    F (c, x, k) => (y) {
        y = If (c) <
            then_branch = t () => (float[N,4] p) { a = Neg(x)  i = Neg(k)  j = Cast<to=1>(i)  p = Add(a, j) },
            else_branch = e () => (float[N,4] q) { q = Exp(x) }
        >
    }"""
    found, answer = kept(model(text), [{"c": np.array(True), "x": ROWS}], "a", "i")
    assert np.array_equal(found["a"].all(), -ROWS)
    assert [why.startswith("onnxruntime does not give it: ") for why in answer.refused.values()] == [True]


def test_a_rank_that_is_not_known_is_found_at_the_run() -> None:
    """The shape comes out beside the value."""
    text = """g (bool c, float[N,4] x, int64[R] s) => (float y) {
        y = If (c) <
            then_branch = t () => (float p) { a = Reshape(x, s)  p = ReduceMax<keepdims=0>(a) },
            else_branch = e () => (float q) { q = ReduceMin<keepdims=0>(x) }
        >
    }"""
    feeds = [
        {"c": np.array(take), "x": ROWS, "s": np.array(shape, np.int64)}
        for take, shape in ((True, (2, 3, 4)), (False, (24,)), (True, (-1,)))
    ]
    found, answer = kept(model(header(16) + text), feeds, "a")
    assert not answer.refused
    assert [values[0].shape for values in found["a"].seen] == [(2, 3, 4), (24,)]
    assert np.array_equal(found["a"].seen[0][0].reshape(-1), ROWS.reshape(-1))
