"""no-op-arithmetic: units go where they neither change a bit nor enlarge the result."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import SparseTensorProto, numpy_helper

from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.no_op_arithmetic import NoOpArithmetic

F, D, H, I32, I64, U8 = np.float32, np.float64, np.float16, np.int32, np.int64, np.uint8
TYPES = {F: "float", D: "double", H: "float16", I32: "int32", I64: "int64", U8: "uint8", np.bool_: "bool"}


def compute(step: str, shape: str = "N, 4", kind: type = F, version: int = 18, **weights: object) -> Applied:
    """What becomes of one step from x to y, between two operators that any type has."""
    head = f'<ir_version: 8, opset_import: ["": {version}]>'
    sides = f"g ({TYPES[kind]}[{shape}] x) => ({TYPES[kind]}[K] y)"
    body = f"a = Flatten<axis = 0>(x)  b = Reshape(x, keep)  c = {step}  y = Reshape(c, flat)"
    keep, flat = np.array([0] * (shape.count(",") + 1 if shape else 0), np.int64), np.array([-1])
    return apply(NoOpArithmetic(), model(f"{head} {sides} {{ {body} }}", keep=keep, flat=flat, **weights))


def gone(done: Applied) -> bool:
    return "y = Reshape(b, flat)" in done.body and "k" not in {one.name for one in done.after.graph.initializer}


UNITS = [
    ("Add(b, k)", F, -0.0),
    ("Add(k, b)", F, -0.0),
    ("Add(b, k)", I64, 0),
    ("Sub(b, k)", F, 0.0),
    ("Sub(b, k)", I32, 0),
    ("Mul(k, b)", F, 1.0),
    ("Mul(b, k)", D, 1.0),
    ("Mul(b, k)", I64, 1),
    ("Div(b, k)", F, 1.0),
    ("Div(b, k)", I32, 1),
    ("Pow(b, k)", F, 1.0),
    ("And(b, k)", np.bool_, True),
    ("Or(k, b)", np.bool_, False),
    ("Xor(b, k)", np.bool_, False),
    ("Equal(b, k)", np.bool_, True),
    ('BitShift<direction = "LEFT">(b, k)', U8, 0),
    ("BitwiseAnd(b, k)", I32, -1),
    ("BitwiseAnd(b, k)", U8, 255),
    ("BitwiseOr(b, k)", I32, 0),
    ("BitwiseXor(b, k)", I32, 0),
    ("Max(b, k)", F, -np.inf),
    ("Min(k, b)", F, np.inf),
    ("Max(b, k)", I32, -(2**31)),
    ("Min(b, k)", I64, 2**63 - 1),
]
NO_UNITS = [
    ("Add(b, k)", F, 0.0),
    ("Sub(b, k)", F, -0.0),
    ("Sub(k, b)", I32, 0),
    ("Div(k, b)", F, 1.0),
    ("Pow(k, b)", F, 1.0),
    ("Pow(b, k)", I32, 1),
    ("Mul(b, k)", F, 0.0),
    ("Mul(b, k)", F, np.nextafter(F(1), F(2))),
    ("And(b, k)", np.bool_, False),
    ("Or(b, k)", np.bool_, True),
    ("Xor(b, k)", np.bool_, True),
    ("Equal(b, k)", np.bool_, False),
    ('BitShift<direction = "LEFT">(k, b)', U8, 0),
    ("BitwiseAnd(b, k)", I32, 0),
    ("Max(b, k)", F, np.finfo(F).min),
    ("Min(b, k)", F, -np.inf),
    ("Max(b, k)", I32, 2**31 - 1),
]


@pytest.mark.parametrize(("step", "kind", "unit"), UNITS)
def test_units(step: str, kind: type, unit: object) -> None:
    for shape in ((), (1,), (4,), (1, 1)):
        assert gone(compute(step, kind=kind, k=np.full(shape, unit, kind))), shape


@pytest.mark.parametrize(("step", "kind", "number"), NO_UNITS)
def test_what_is_no_unit(step: str, kind: type, number: object) -> None:
    assert compute(step, kind=kind, k=np.array(number, kind)).remarks == ()


def test_not_every_element_is_the_unit() -> None:
    assert compute("Mul(b, k)", k=np.array([1, 1, 2, 1], F)).remarks == ()
    assert compute("Add(b, k)", k=np.array([-0.0, -0.0, 0.0, -0.0], F)).remarks == ()


def test_a_unit_of_another_type() -> None:
    """The exponent may be an integer; the base decides about the arithmetic."""
    assert gone(compute("Pow(b, k)", k=np.array(1)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 4)])
def test_units_with_more_axes(shape: tuple[int, ...]) -> None:
    assert_missed(compute("Mul(b, k)", k=np.ones(shape, F)), "unit", "it may change the shape")


def test_units_that_are_longer() -> None:
    assert_missed(compute("Mul(b, k)", "1, 4", k=np.ones((3, 1), F)), "unit", "it may change the shape")
    text = "g (float[N, 4] x) => (float[K, 4] y) { a = Mul(x, k)  y = Neg(a) }"
    feeds = [{"x": np.ones((rows, 4), F)} for rows in (1, 3)]
    done = apply(NoOpArithmetic(), model(text, k=np.ones((3, 4), F)), feeds=feeds)
    assert_missed(done, "unit", "it may change the shape")


def test_units_without_elements() -> None:
    assert compute("Mul(b, k)", "N, 1", k=np.ones((0,), F)).remarks == ()


def test_a_scalar_never_enlarges() -> None:
    """Not even the rank of x is known inside of the function."""
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (float[N] x) => (float[N] y) { y = f.go(x) }
    <domain: "f", opset_import: ["": 21]> go (x) => (y) {
        k = Constant<value_float = 1.0>()  a = Mul(x, k)  y = Neg(a) }"""
    assert "  y = Neg(x)" in apply(NoOpArithmetic(), model(text)).body
    longer = text.replace("value_float = 1.0", "value_floats = [1.0]")
    assert_missed(apply(NoOpArithmetic(), model(longer)), "unit", "that shape is not known")


def test_slopes_of_1() -> None:
    assert gone(compute("PRelu(b, k)", k=np.ones(4, F)))
    assert gone(compute("LeakyRelu<alpha = 1.0>(b)"))
    assert compute("PRelu(b, k)", k=np.zeros(4, F)).applied == ()
    assert compute("LeakyRelu(b)").applied == ()


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min"])
def test_one_operand(op: str) -> None:
    assert gone(compute(f"{op}(b)"))
    assert compute(f"{op}(b, k)", k=np.array([3], F)).applied == ()


def test_the_same_operand_twice() -> None:
    for op, kind in (
        ("Max", F),
        ("Min", F),
        ("And", np.bool_),
        ("Or", np.bool_),
        ("BitwiseAnd", I32),
        ("BitwiseOr", U8),
    ):
        assert gone(compute(f"{op}(b, b)", kind=kind))
    assert compute("Add(b, b)").applied == ()
    assert compute("Xor(b, b)", kind=np.bool_).applied == ()


def test_operands_before_opset_7() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Mul<broadcast = 1>(x, k)  y = Neg(a) }"
    before = model(f'<ir_version: 8, opset_import: ["": 6]> {text}', k=np.ones(1, F))
    assert apply(NoOpArithmetic(), before, feeds=()).remarks == ()


def test_an_overridable_default_is_no_unit() -> None:
    text = "g (float[N] x, float[1] k) => (float[N] y) { a = Mul(x, k)  y = Neg(a) }"
    assert apply(NoOpArithmetic(), model(text, k=np.ones(1, F))).remarks == ()


def choose(body: str, **weights: object) -> Applied:
    text = f"g (bool[N] c, int32[N] p, int32[N] q) => (int32[N] y) {{ {body} y = Neg(z) }}"
    return apply(NoOpArithmetic(), model(text, **weights))


def test_where() -> None:
    assert choose("z = Where(k, p, q)", k=np.array(True)).body == "y = Neg(p)"
    assert choose("z = Where(k, p, q)", k=np.array([False])).body == "y = Neg(q)"
    assert choose("z = Where(c, p, p)").body == "y = Neg(p)"
    assert choose("z = Where(c, p, q)").remarks == ()


def test_where_enlarges() -> None:
    assert_missed(choose("z = Where(k, s, p)", k=np.array(True), s=np.array([1], I32)), "where", "smaller")
    assert_missed(choose("z = Where(c, s, s)", s=np.array([1], I32)), "where", "smaller")


def test_where_of_floats_may_lose_the_sign_of_zero() -> None:
    text = "g (float[N] p, float[N] q) => (float[N] y) { z = Where(k, p, q)  y = Neg(z) }"
    assert apply(NoOpArithmetic(), model(text, k=np.array(True))).applied == ()


def test_where_not_of_floats_may_lose_the_sign_of_zero() -> None:
    text = "g (bool[N] c, float[N] p) => (float[N] y) { n = Not(c)  y = Where(n, p, k) }"
    assert apply(NoOpArithmetic(), model(text, k=np.float32(0))).applied == ()


def test_where_not() -> None:
    done = choose("n = Not(c)  z = Where(n, p, q)")
    assert done.body == "z = Where(c, q, p)\ny = Neg(z)"
    text = "g (bool[N] c, int32[N] p, int32[N] q) => (int32[N] y, bool[N] n) { n = Not(c)  y = Where(n, p, q) }"
    assert_missed(apply(NoOpArithmetic(), model(text)), "where-not", "'n' is read by others")


def test_the_first_version_that_broadcasts_as_numpy() -> None:
    for version, applied in ((6, False), (7, True)):
        head = f'<ir_version: 8, opset_import: ["": {version}]>'
        text = f"{head} g (float[N] x) => (float[N] y) {{ a = Mul(x, k)  y = Neg(a) }}"
        assert bool(apply(NoOpArithmetic(), model(text, k=np.ones(1, F)), laws=False).applied) == applied


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64"])
def test_units_of_every_integer_type(kind: str) -> None:
    for op, unit, other in (("Mul", 1, 2), ("Add", 0, 1), ("Max", np.iinfo(kind).min, 1)):
        for number, applied in ((unit, True), (other, False)):
            text = f"g ({kind}[N] x) => ({kind}[N] y) {{ a = {op}(x, k)  y = Identity(a) }}"
            done = apply(NoOpArithmetic(), model(text, k=np.dtype(kind).type(number)), laws=False)
            assert bool(done.applied) == applied, op


@pytest.mark.parametrize(("op", "unit"), [("BitwiseAnd", 255), ("BitwiseOr", 0), ("BitwiseXor", 0), ("BitShift", 0)])
def test_only_one_pattern_of_bits_is_the_unit(op: str, unit: int) -> None:
    attribute = '<direction = "RIGHT">' if op == "BitShift" else ""
    for number in (0, 1, 254, 255):
        text = f"g (uint8[N] x) => (uint8[N] y) {{ a = {op}{attribute}(x, k)  y = Identity(a) }}"
        done = apply(NoOpArithmetic(), model(text, k=np.uint8(number)), laws=False)
        assert bool(done.applied) == (number == unit)


@pytest.mark.parametrize(("op", "unit"), [("And", True), ("Or", False), ("Xor", False), ("Equal", True)])
def test_only_one_truth_is_the_unit(op: str, unit: bool) -> None:
    for truth in (False, True):
        text = f"g (bool[N] x) => (bool[N] y) {{ a = {op}(x, k)  y = Not(a) }}"
        assert bool(apply(NoOpArithmetic(), model(text, k=np.bool_(truth))).applied) == (truth is unit)


def test_half_precision_has_units_too() -> None:
    text = "g (float16[N] x) => (float16[N] y) { a = Mul(x, k)  y = Neg(a) }"
    assert apply(NoOpArithmetic(), model(text, k=H(1))).body == "y = Neg(x)"


def test_a_where_in_a_function_that_does_not_know_its_types() -> None:
    """It may be of floating-point numbers, whose zeros may lose their sign."""
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (float[N] x) => (float[N] y) { y = f.go(x) }
    <domain: "f", opset_import: ["": 21]> go (x) => (y) {
            c = Constant<value = bool {1}>()  a = Where(c, x, x)  y = Neg(a) }"""
    assert apply(NoOpArithmetic(), model(text)).applied == ()


def test_bfloat16_has_units_too() -> None:
    text = "g (bfloat16[N] x) => (bfloat16[N] y) { a = Mul(x, k)  y = Identity(a) }"
    one = np.ones((), ml_dtypes.bfloat16)
    assert apply(NoOpArithmetic(), model(text, k=one), feeds=()).body == "y = Identity(x)"


def test_equal_to_one_is_no_copy_of_a_number() -> None:
    text = "g (int32[N] x) => (bool[N] y) { a = Equal(x, k)  y = Not(a) }"
    assert apply(NoOpArithmetic(), model(text, k=I32(1))).applied == ()


def test_the_minimum_with_any_integer_but_the_greatest() -> None:
    for number, applied in ((2**31 - 1, True), (0, False), (2**31 - 2, False)):
        assert bool(compute("Min(b, k)", kind=I32, k=I32(number)).applied) == applied


def test_units_that_are_stored_sparse_are_not_read() -> None:
    proto = model("g (float[2] x) => (float[2] y) { a = Mul(x, k)  y = Neg(a) }")
    values = numpy_helper.from_array(np.ones(2, F), "k")
    indices = numpy_helper.from_array(np.arange(2), "k_indices")
    proto.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=[2]))
    assert apply(NoOpArithmetic(), proto).applied == ()


def test_a_branch_whose_condition_may_have_more_axes() -> None:
    """The function is called with values of two ranks, and the constant branch may be the smaller one."""
    text = """<ir_version: 10, opset_import: ["": 18, "f": 1]>
        g (int64[2, 3] x, int64[4] z) => (int64[A, B] y, int64[C] w) { y = f.go(x)  w = f.go(z) }
        <domain: "f", opset_import: ["": 18]> go (x) => (y) {
            c = Constant<value = bool {1}>()  k = Constant<value_ints = [7]>()  y = Where(c, k, x) }"""
    assert_missed(apply(NoOpArithmetic(), model(text)), "where", "may be smaller")
