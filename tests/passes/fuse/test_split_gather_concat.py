"""split-gather-concat: parts of one tensor, taken at once or put together again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.split_gather_concat import SplitGatherConcat


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def done(text: str, opset: int = 17, **tensors: Any) -> Applied:
    head = f'<ir_version: 8, opset_import: ["": {opset}]>'
    return apply(SplitGatherConcat(), model(f"{head} g {text}", **tensors))


HALVES = """(float[N, 4] x) => (float[N, 2] first_half, float[N, 2] last_half) {
    first_half = Slice(x, zero, two, one)  last_half = Slice(x, two, end, one) }"""
BOUNDS: dict[str, Any] = {"zero": ints(0), "two": ints(2), "one": ints(1), "end": ints(np.iinfo(np.int64).max)}


@pytest.mark.parametrize(("opset", "attrs"), [(11, "axis=1"), (17, "axis=1"), (18, "axis=1, num_outputs=2")])
def test_slices_that_cover_it(opset: int, attrs: str) -> None:
    found = done(HALVES, opset, **BOUNDS)
    assert found.body == f"first_half, last_half = Split<{attrs}>(x)"
    assert not found.after.graph.initializer


def test_slices_with_attributes() -> None:
    text = """(float[N, 4] x) => (float[N, 1] a, float[N, 3] b) {
        b = Slice<axes=[-1], starts=[1], ends=[100]>(x)  a = Slice<axes=[1], starts=[0], ends=[-3]>(x) }"""
    assert done(text, 9).body == "a, b = Split<axis=1, split=[1, 3]>(x)"


def test_parts_of_different_size() -> None:
    text = """(float[N, 6] x) => (float[N, 1] part_a, float[N, 3] part_b, float[N, 2] part_c) {
        part_a = Slice(x, s0, s1, one) part_b = Slice(x, s1, s4, one) part_c = Gather<axis=1>(x, last) }"""
    found = done(text, s0=ints(0), s1=ints(1), s4=ints(4), one=ints(1), last=ints(4, -1))
    assert found.body == "part_a, part_b, part_c = Split<axis=1>(x, split)"


def test_the_same_part_twice() -> None:
    text = HALVES.replace("=> (", "=> (float[N, 2] y, ").replace(
        "}", "again = Slice(x, zero, two, one) y = Neg(again) }"
    )
    found = done(text, **BOUNDS)
    assert found.body == "first_half, last_half = Split<axis=1>(x)\ny = Neg(first_half)"
    both = HALVES.replace("=> (", "=> (float[N, 2] again, ").replace("}", "again = Slice(x, zero, two, one) }")
    assert_missed(done(both, **BOUNDS), "cut-into-parts", "are both graph outputs")


@pytest.mark.parametrize(
    ("change", "value"),
    [("zero", ints(1)), ("end", ints(3)), ("two", ints(1)), ("one", ints(0))],
)
def test_slices_that_leave_something_out_or_overlap(change: str, value: np.ndarray) -> None:
    text = HALVES.replace("Slice(x, two, end", "Slice(x, cut, end").replace("float[N, 2]", "float[A, B]")
    assert not done(text, **(BOUNDS | {"cut": ints(2)} | {change: value})).applied


def test_steps_and_unknown_sizes() -> None:
    text = """(float[N, 4] x) => (float[N, 2] a, float[N, 2] b) {
        a = Slice(x, zero, end, one, two)  b = Slice(x, one, end, one, two) }"""
    assert not done(text, **BOUNDS).applied
    assert not done(HALVES.replace("float[N, 4] x", "float[N, K] x"), **BOUNDS).applied
    assert not done(HALVES.replace(" x)", " x, int64[1] two)"), **BOUNDS).applied  # a default is no constant


def test_two_axes() -> None:
    text = """(float[4, 4] x) => (float[2, 2] a, float[2, 2] b) {
        a = Slice(x, s, e, axes)  b = Slice(x, e, f, axes) }"""
    assert not done(text, s=ints(0, 0), e=ints(2, 2), f=ints(4, 4), axes=ints(0, 1)).applied


@pytest.mark.parametrize(
    "parts",
    [
        "a, b = Split<axis=1>(x) y = Concat<axis=1>(a, b)",
        "a, b = Split<axis=-1>(x) y = Concat<axis=1>(a, b)",
        "a = Slice(x, zero, two, one) b = Slice(x, two, end, one) y = Concat<axis=-1>(a, b)",
    ],
)
def test_put_together_as_it_was(parts: str) -> None:
    used: dict[str, Any] = {name: one for name, one in BOUNDS.items() if name in parts}
    found = done(f"(float[N, 4] z) => (float[N, 4] w) {{ x = Relu(z) {parts} w = Neg(y) }}", **used)
    assert found.body == "x = Relu(z)\nw = Neg(x)"
    assert not found.after.graph.initializer


def test_a_whole_that_is_an_output() -> None:
    text = "(float[N, 4] x) => (float[N, 4] y) { a, b = Split<axis=1>(x) y = Concat<axis=1>(a, b) }"
    assert_missed(done(text), "parts-of-a-whole", "'y' is a graph output and 'x' an input")


def test_put_together_in_another_order() -> None:
    text = """(float[N, 6] x) => (float[N, 6] y) {
        the_first_part, the_second_part, the_third_part = Split<axis=1>(x)
        y = Concat<axis=1>(the_third_part, the_first_part, the_second_part) }"""
    found = done(text)
    assert found.body == "y = Gather<axis=1>(x, indices)"
    (left,) = found.after.graph.initializer
    assert list(np.frombuffer(left.raw_data, np.int64)) == [4, 5, 0, 1, 2, 3]


def test_parts_that_others_read() -> None:
    text = """(float[N, 4] x) => (float[N, 4] y, float[N, 2] a) {
        a, b = Split<axis=1>(x) y = Concat<axis=1>(b, a) }"""
    assert not done(text).applied
    whole = text.replace("Concat<axis=1>(b, a)", "Concat<axis=1>(a, b)").replace("float[N, 4] x", "float[N, 4] z")
    found = done(whole.replace("a, b = ", "x = Relu(z) a, b = "))
    assert found.body == "y = Relu(z)\na, b = Split<axis=1>(y)"


def test_another_axis_or_another_tensor() -> None:
    for nodes in (
        "a, b = Split<axis=1>(x) y = Concat<axis=0>(a, b)",
        "a, b = Split<axis=1>(x) y = Concat<axis=1>(a, z)",
        "a, b = Split<axis=1>(x) c, d = Split<axis=1>(z) y = Concat<axis=1>(a, d)",
    ):
        assert not done(f"(float[2, 4] x, float[2, 2] z) => (float[A, B] y) {{ {nodes} }}").applied


def test_many_elements_and_long_lists() -> None:
    many = "(float[N, 100] x) => (float[N, 100] y) { a, b = Split<axis=1>(x) y = Concat<axis=1>(b, a) }"
    assert_missed(done(many), "parts-rearranged", "more than 64 elements")
    long = "(float[N, 40] x) => (float[N, 40] y) { a, b = Split<axis=1>(x) y = Concat<axis=1>(b, a) }"
    assert_missed(done(long), "parts-rearranged", "the file would grow")


@pytest.mark.parametrize("opset", [13, 18])
def test_uneven_splits(opset: int) -> None:
    """From opset 18 on the last part may be shorter."""
    attrs = "axis=1, num_outputs=2" if opset == 18 else "axis=1"
    size = 5 if opset == 18 else 6
    nodes = f"x = Relu(z) a, b = Split<{attrs}>(x) w = Concat<axis=1>(a, b) y = Neg(w)"
    assert done(f"(float[N, {size}] z) => (float[N, {size}] y) {{ {nodes} }}", opset).body == "x = Relu(z)\ny = Neg(x)"


def test_in_a_body() -> None:
    text = """(bool t, float[2, 4] x) => (float[2, 2] y) {
        y = If (t) <then_branch = p () => (float[2, 2] o) {
                        first_half = Slice(x, zero, two, one)  last_half = Slice(x, two, end, one)
                        o = Sub(first_half, last_half) },
                    else_branch = q () => (float[2, 2] n) { m = Slice(x, zero, two, one) n = Neg(m) }>
    }"""
    found = done(text, **BOUNDS)
    assert "    first_half, last_half = Split<axis=1>(x)" in found.body.splitlines()


GATES = "a, b, c = Split<axis=0>(w) v = Concat<axis=0>(c, a, b)"
WEIGHT = np.arange(24, dtype=np.float32).reshape(6, 4)


def test_a_weight_in_another_order() -> None:
    found = done(f"(float[N, 6] x) => (float[N, 4] y) {{ {GATES} y = MatMul(x, v) }}", w=WEIGHT)
    assert found.body == "y = MatMul(x, w)"
    (left,) = found.after.graph.initializer
    assert np.frombuffer(left.raw_data, np.float32).reshape(6, 4)[:, 0].tolist() == [16, 20, 0, 4, 8, 12]


def test_a_constant_node_in_another_order() -> None:
    text = """(float[N, 3] x) => (float[N, 1] y) {
        w = Constant<value = float[3, 1] {1, 2, 3}>() a, b, c = Split<axis=0>(w) v = Concat<axis=0>(c, a, b)
        y = MatMul(x, v) }"""
    assert done(text).body == "w = Constant<value=float[3,1] {3.0, 1.0, 2.0}>()\ny = MatMul(x, w)"


def test_a_weight_that_two_bodies_read() -> None:
    branch = "{ a, b, c = Split<axis=0>(w) v = Concat<axis=0>(c, a, b) o = MatMul(x, v) }"
    text = f"""(bool t, float[N, 6] x) => (float[N, 4] y) {{
        y = If (t) <then_branch = p () => (float[N, 4] o) {branch}, else_branch = q () => (float[N, 4] n) {{
            d = Slice(w, four, e, zero) f = Slice(w, zero, four, zero) v = Concat<axis=0>(d, f) n = MatMul(x, v) }}>
    }}"""
    bounds: dict[str, Any] = {"zero": ints(0), "four": ints(4), "e": ints(6)}
    found = done(text, w=WEIGHT, **bounds)
    assert len(found.applied) == 1 and [line.strip() for line in found.body.splitlines()] == [
        "y = If(t)",
        "else_branch: () => (n)",
        "n = MatMul(x, w)",
        "then_branch: () => (o)",
        "o = MatMul(x, w)",
    ]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("u = Neg(w) y = Concat<axis=0>(v, u)", "'w' is read as it is too"),
        ("d, e, f = Split<axis=0>(w) u = Concat<axis=0>(e, d, f) y = Add(v, u)", "in more than one way"),
        ("y = Concat<axis=0>(v, a)", "'w' is read as it is too"),
    ],
)
def test_a_weight_that_is_read_otherwise(more: str, why: str) -> None:
    found = done(f"(float[1] x) => (float[A, B] y) {{ {GATES} {more} }}", w=WEIGHT)
    assert not found.applied
    assert_missed(found, "weight-rearranged", why)
