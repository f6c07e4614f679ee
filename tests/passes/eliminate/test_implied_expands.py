"""implied-expands: what the readers would broadcast need not be expanded."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.implied_expands import ImpliedExpands


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def expand(body: str, m: str = "3, 1", out: str = "3, 4", kind: str = "float", **weights: object) -> Applied:
    text = f"g ({kind}[3, 4] x, {kind}[{m}] m) => ({kind}[{out}] y) {{ {body} }}"
    return apply(ImpliedExpands(), model(f'<ir_version: 8, opset_import: ["": 18]> {text}', **weights))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Sum", "Mean"])
def test_arithmetic(op: str) -> None:
    for operands in ("x, a", "a, x"):
        done = expand(f"a = Expand(m, s)  y = {op}({operands})", s=ints(3, 4))
        assert done.body == f"y = {op}({operands.replace('a', 'm')})" and not done.after.graph.initializer


@pytest.mark.parametrize("op", ["Min", "Max"])
def test_the_other_one_of_two_zeros(op: str) -> None:
    """Of 0.0 and -0.0 the kernels pick one when both operands are arrays, and the other one for a number."""
    done = expand(f"a = Expand(m, s)  y = {op}(a, x)", m="1", s=ints(3, 4))
    assert not done.applied
    assert_missed(done, "expand", "may pick the other one of two zeros")


def test_comparisons_and_choices() -> None:
    done = expand("a = Expand(m, s)  c = Less(x, a)  d = Equal(a, x)  e = Or(c, d)  y = Where(e, a, x)", s=ints(3, 4))
    assert done.body.splitlines() == ["c = Less(x, m)", "d = Equal(m, x)", "e = Or(c, d)", "y = Where(e, m, x)"]


@pytest.mark.parametrize(("m", "target"), [("4", (3, 4)), ("1", (3, 4)), ("3, 1", (1, 4)), ("", (3, 4))])
def test_ranks(m: str, target: tuple[int, ...]) -> None:
    m_type = f"float[{m}]" if m else "float"
    text = f"g (float[3, 4] x, {m_type} m) => (float[3, 4] y) {{ a = Expand(m, s)  y = Add(x, a) }}"
    assert apply(ImpliedExpands(), model(text, s=ints(*target))).body == "y = Add(x, m)"


def test_symbolic_dims() -> None:
    text = """g (float[N, L] x, float[N, 1] m) => (float[N, L] y) {
        s = Shape(x)  a = Expand(m, s)  b = Tanh(x)  y = Add(b, a) }"""
    done = apply(ImpliedExpands(), model(text))
    assert done.body.endswith("y = Add(b, m)")


def test_the_only_operand_that_is_as_long() -> None:
    for body in ("a = Expand(m, s)  y = Add(m, a)", "a = Expand(m, s)  y = Add(a, a)"):
        assert_missed(expand(body, s=ints(3, 4)), "expand", "may become smaller")
    done = expand("a = Expand(m, s)  y = Add(x, a)", out="2, 3, 4", s=ints(2, 3, 4))
    assert_missed(done, "expand", "may become smaller")


def test_two_expands_one_of_which_is_needed() -> None:
    text = (
        """g (float[3, 1] m, float[1, 4] n) => (float[3, 4] y) { a = Expand(m, s)  b = Expand(n, s)  y = Add(a, b) }"""
    )
    done = apply(ImpliedExpands(), model(text, s=ints(3, 4)))
    assert done.body == "y = Add(m, n)"
    text = text.replace("float[1, 4] n", "float[1, 1] n")
    done = apply(ImpliedExpands(), model(text, s=ints(3, 4)))
    assert done.body.count("Expand") == 1


def test_zero_sized_axes() -> None:
    text = "g (float[0, 4] x, float[1, 4] m) => (float[0, 4] y) { a = Expand(m, s)  y = Add(x, a) }"
    assert apply(ImpliedExpands(), model(text, s=ints(0, 4))).body == "y = Add(x, m)"


@pytest.mark.parametrize("reader", ["MatMul(w, a)", "Pow(x, a)", "PRelu(x, a)", "Neg(a)", "Concat<axis = 0>(x, a)"])
def test_readers_that_are_something_else(reader: str) -> None:
    body = f"a = Expand(m, s)  b = Add(x, a)  c = {reader}  y = Flatten(c)"
    done = expand(body, out="K, L", s=ints(3, 4), w=np.ones((3, 3), np.float32))
    assert done.remarks == ()


def test_outputs() -> None:
    text = "g (float[3, 4] x, float[3, 1] m) => (float[3, 4] y, float[3, 4] a) { a = Expand(m, s)  y = Add(x, a) }"
    assert_missed(apply(ImpliedExpands(), model(text, s=ints(3, 4))), "expand", "output of its graph")


def test_tiles_of_one_element() -> None:
    assert expand("a = Tile(m, s)  y = Add(x, a)", s=ints(1, 4)).body == "y = Add(x, m)"
    assert expand("a = Tile(m, s)  y = Add(x, a)", m="3, 2", s=ints(1, 2)).applied == ()


def test_readers_in_bodies() -> None:
    text = """g (bool c, float[3, 4] x, float[3, 1] m) => (float[3, 4] y) { a = Expand(m, s)
        y = If(c)<then_branch = t () => (float[3, 4] o) { o = Add(x, a) },
                  else_branch = e () => (float[3, 4] o) { o = Mul(a, x) }> }"""
    done = apply(ImpliedExpands(), model(text, s=ints(3, 4)))
    assert "o = Add(x, m)" in done.body and "o = Mul(m, x)" in done.body and "Expand" not in done.body


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        *((one, "bool") for one in ("And", "Or", "Xor")),
        *((one, "int32") for one in ("Mod", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
        *((one, "int32") for one in ("Min", "Max", "BitwiseAnd", "BitwiseOr", "BitwiseXor")),
        ("BitShift", "uint32"),
    ],
)
def test_every_operator_that_broadcasts(op: str, kind: str) -> None:
    out = "bool" if "Bit" not in op and op not in ("Mod", "Min", "Max") else kind
    attribute = '<direction = "LEFT">' if op == "BitShift" else ""
    text = f"g ({kind}[3, 4] x, {kind}[3, 1] m) => ({out}[3, 4] y) {{ a = Expand(m, s)  y = {op}{attribute}(x, a) }}"
    proto = model(f'<ir_version: 8, opset_import: ["": 18]> {text}', s=ints(3, 4))
    feeds = [{"x": np.arange(12).reshape(3, 4).astype(kind), "m": np.array([[1], [2], [5]]).astype(kind)}]
    assert apply(ImpliedExpands(), proto, feeds=feeds).body.endswith("(x, m)")


def test_a_tile_by_numbers_that_are_not_known() -> None:
    text = "g (float[3, 4] x, float[3, 1] m, int64[2] r) => (float[3, 4] y) { a = Tile(m, r)  y = Add(x, a) }"
    assert apply(ImpliedExpands(), model(text), feeds=()).applied == ()


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64"])
def test_integers_have_one_zero(kind: str) -> None:
    done = apply(
        ImpliedExpands(),
        model(
            f"g ({kind}[3, 4] x, {kind}[1] m) => ({kind}[3, 4] y) {{ a = Expand(m, s)  y = Max(a, x) }}", s=ints(3, 4)
        ),
        laws=kind in ("int32", "int64"),
    )
    assert done.body == "y = Max(m, x)"


def test_nothing_is_said_of_an_output_that_no_node_reads() -> None:
    assert expand("y = Expand(m, s)", s=ints(3, 4)).remarks == ()
