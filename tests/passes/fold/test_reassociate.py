"""reassociate: constants that are added, or multiplied, one after the other become one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fold.reassociate import Reassociate

X, Y = "float[N, 4] x", "float[N, 4] y"


def joined(text: str, runs: bool = True, **weights: Any) -> Applied:
    return apply(Reassociate(), model(text, **weights), feeds=None if runs else ())


def value(done: Applied) -> Any:
    (only,) = done.after.graph.initializer
    return numpy_helper.to_array(only)


SUMS = {"Add({}, {})": (1, 1), "Add({1}, {0})": (1, 1), "Sub({}, {})": (1, -1), "Sub({1}, {0})": (-1, 1)}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(SUMS, SUMS)))
@pytest.mark.parametrize("dtype", ["float", "double", "int32", "uint8", "int64"])
def test_sums(first: str, second: str, dtype: str) -> None:
    array = np.dtype({"float": "f4", "double": "f8"}.get(dtype, dtype))
    text = f"g ({dtype}[N, 4] x) => ({dtype}[N, 4] y) {{ a = {first.format('x', 'c')}  y = {second.format('a', 'd')} }}"
    done = joined(text, c=np.array(200).astype(array), d=np.array(101).astype(array))
    (one, plus), (two, more) = SUMS[first], SUMS[second]
    whole = two * plus * 200 + more * 101
    assert value(done) == np.array(whole).astype(array)
    assert done.body in ({"y = Sub(d, x)"} if one * two < 0 else {"y = Add(x, d)", "y = Add(d, x)"})


@pytest.mark.parametrize(
    ("first", "second", "factor"),
    [
        ("Mul(x, c)", "Mul(d, a)", 12.0),
        ("Div(x, c)", "Mul(a, d)", 3 / 4),
        ("Mul(c, x)", "Div(a, d)", 4 / 3),
        ("Div(x, c)", "Div(a, d)", 1 / 12),
    ],
)
@pytest.mark.parametrize("dtype", ["float", "double", "float16"])
def test_products(first: str, second: str, factor: float, dtype: str) -> None:
    array = np.dtype({"float": "f4", "double": "f8", "float16": "f2"}[dtype])
    text = f"g ({dtype}[N, 4] x) => ({dtype}[N, 4] y) {{ a = {first}  y = {second} }}"
    done = joined(text, c=np.array(4, array), d=np.array(3, array))
    assert done.body in ("y = Mul(x, d)", "y = Mul(d, x)")
    assert value(done) == array.type(factor)


def test_products_of_integers_wrap_around_and_quotients_stay() -> None:
    text = "g (int32[N, 4] x) => (int32[N, 4] y) { a = Mul(x, c)  y = Mul(a, d) }"
    done = joined(text, c=np.array(1 << 20, np.int32), d=np.array(1 << 15, np.int32))
    assert (done.body, value(done)) == ("y = Mul(x, d)", 0)
    done = joined(text.replace("Mul(x", "Div(x"), c=np.array(7, np.int32), d=np.array(7, np.int32))
    assert not done.remarks


def test_a_chain_becomes_one_node_a_kind() -> None:
    chain = "a = Add(x, c)  b = Sub(a, d)  e = Add(b, f)  h = Mul(e, i)  j = Mul(h, k)  y = Relu(j)"
    weights: dict[str, Any] = {name: np.float32(place + 2) for place, name in enumerate("cdfik")}
    done = joined(f"g ({X}) => ({Y}) {{ {chain} }}", **weights)
    assert done.body == "e = Add(x, f)\nj = Mul(e, k)\ny = Relu(j)"
    assert [one.rule for one in done.applied] == ["sum", "sum", "product"]


def test_a_constant_that_others_read_gives_way_to_the_other_one() -> None:
    text = f"g ({X}) => ({Y}, float z) {{ a = Add(x, c)  y = Add(d, a)  z = Neg(d) }}"
    assert joined(text, c=np.float32(2), d=np.float32(3)).body == "y = Add(c, x)\nz = Neg(d)"
    text = f"g ({X}) => ({Y}) {{ a = Mul(x, c)  y = Mul(a, c) }}"
    assert value(joined(text, c=np.float32(3))) == 9


def test_shapes() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Mul(x, c)  y = Mul(a, d) }}"
    row = np.arange(1, 5, dtype=np.float32)
    np.testing.assert_array_equal(value(joined(text, c=row, d=np.float32(2))), row * 2)
    np.testing.assert_array_equal(value(joined(text, c=np.float32(2), d=row)), row * 2)
    text = "g (float[1, 1, 4] x) => (float[1, 5, 4] y) { a = Mul(x, c)  y = Mul(a, d) }"
    column = np.arange(1, 6, dtype=np.float32).reshape(5, 1)
    assert_missed(joined(text, c=column, d=row), "product", "along different axes")
    text = "g (float[N, 16] x) => (float[N, 16] y, float[16] z) { a = Mul(x, c)  y = Mul(a, d)  z = Neg(c) }"
    assert_missed(joined(text, c=np.tile(row, 4), d=np.float32(2)), "product", "the file would grow")


def test_what_would_not_be_a_normal_number() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Mul(x, c)  y = Mul(a, d) }}"
    for c, d in ((1e30, 1e30), (1e-30, 1e-30), (0.0, 2.0), (np.inf, 2.0), (np.nan, 2.0), (1e-20, 1e-20)):
        assert_missed(joined(text, False, c=np.float32(c), d=np.float32(d)), "product", "not a normal number")
    assert_missed(joined(text.replace("Mul(a", "Div(a"), False, c=np.float32(1), d=np.float32(0)), "product", "normal")
    text = f"g ({X}) => ({Y}) {{ a = Add(x, c)  y = Add(a, d) }}"
    assert_missed(joined(text, False, c=np.float32(3e38), d=np.float32(3e38)), "sum", "not a normal number")


def test_constants_that_cancel_may_be_meant_to_round() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Add(x, c)  y = Sub(a, c) }}"
    assert_missed(joined(text, c=np.float32(12582912)), "sum", "meant to round")
    text = "g (int32[N, 4] x) => (int32[N, 4] y) { a = Add(x, c)  y = Sub(a, c) }"
    assert value(joined(text, c=np.array(3, np.int32))) == 0


def test_values_that_others_read() -> None:
    for more, out in (("z = Neg(a)", "z"), ("", "a")):
        text = f"g ({X}) => ({Y}, float[N, 4] {out}) {{ a = Add(x, c)  y = Add(a, d)  {more} }}"
        assert_missed(joined(text, c=np.float32(1), d=np.float32(2)), "sum", "'a' is read elsewhere too")
    text = f"g ({X}) => ({Y}) {{ a = Add(x, c)  y = Mul(a, d) }}"
    assert not joined(text, c=np.float32(1), d=np.float32(2)).remarks
    text = f"g ({X}, float c) => ({Y}) {{ a = Add(x, c)  y = Add(a, d) }}"
    assert not joined(text, c=np.float32(1), d=np.float32(2)).remarks


def test_old_broadcasting_bodies_and_functions() -> None:
    text = f'<ir_version: 4, opset_import: ["": 6]> g ({X}) => ({Y}) {{ a = Add(x, c)  y = Add(a, c) }}'
    assert not joined(text, False, c=np.ones((2, 4), np.float32)).remarks
    text = f"""g ({X}, bool k) => ({Y}) {{
        y = If (k) <then_branch = t () => (float[a, b] z) {{ p = Add(x, c)  z = Add(p, c) }},
                    else_branch = e () => (float[a, b] r) {{ r = Relu(x) }}>
    }}"""
    assert "z = Add(x, c)" in joined(text, c=np.float32(2)).body
    text = f"""<ir_version: 10, opset_import: ["": 21, "own": 1]> g ({X}) => ({Y}) {{ y = own.f(x) }}
    <domain: "own", opset_import: ["": 21]> f (x) => (z) {{
        c = Constant<value = float {{2.0}}>()  d = Constant<value = float {{3.0}}>()  a = Mul(x, c)  z = Mul(a, d)
    }}"""
    assert joined(text).body.splitlines()[-2:] == ["  d = Constant<value=float[] {6.0}>()", "  z = Mul(x, d)"]


def test_what_is_declared_of_a_constant_node_follows_its_values() -> None:
    text = (
        "g (float[N, 4] x) => (float[N, 4] y) <float[1] d>"
        " { d = Constant<value = float[1] {2}>()  a = Add(x, c)  y = Add(a, d) }"
    )
    done = joined(text, c=np.ones((1, 4), np.float32))
    assert done.body == "d = Constant<value=float[1,4] {3.0, 3.0, 3.0, 3.0}>()\ny = Add(x, d)"
    (declared,) = done.after.graph.value_info
    assert [one.dim_value for one in declared.type.tensor_type.shape.dim] == [1, 4]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64"])
def test_sums_of_every_integer_type(dtype: str) -> None:
    """onnxruntime adds only some of them."""
    text = f"g ({dtype}[N, 4] x) => ({dtype}[N, 4] y) {{ a = Add(x, c)  y = Add(a, d) }}"
    done = joined(text, runs=False, c=np.dtype(dtype).type(100), d=np.dtype(dtype).type(27))
    assert int(value(done)) == 127


@pytest.mark.parametrize("which", ["c", "d"])
def test_a_constant_that_is_an_output_too_keeps_its_values(which: str) -> None:
    text = f"g ({X}) => ({Y}, float[4] {which}) {{ a = Add(x, c)  y = Add(a, d) }}"
    done = joined(text, c=np.full(4, 2, "f"), d=np.full(4, 3, "f"))
    held = {one.name: numpy_helper.to_array(one).tolist() for one in done.after.graph.initializer}
    assert held[which] == [2.0 if which == "c" else 3.0] * 4


def test_constants_that_both_are_outputs_would_make_the_file_grow() -> None:
    text = f"g ({X}) => ({Y}, float[4] c, float[4] d) {{ a = Add(x, c)  y = Add(a, d) }}"
    assert joined(text, c=np.full(4, 2, "f"), d=np.full(4, 3, "f")).applied == ()


@pytest.mark.parametrize("op", ["Max", "Min", "Pow", "PRelu", "Mod", "Equal"])
def test_what_is_neither_a_sum_nor_a_product(op: str) -> None:
    kind = "bool" if op == "Equal" else "int64"
    text = f"g (int64[N, 4] x) => ({kind}[N, 4] y) {{ a = Mul(x, c)  y = {op}(a, d) }}"
    assert joined(text, op not in ("PRelu",), c=np.int64(2), d=np.int64(3)).remarks == ()


def test_what_is_added_in_a_body_is_not_added_outside() -> None:
    text = """g (bool q, float[N, 4] x) => (float[N, 4] y) { a = Add(x, c)
        y = If(q)<then_branch = t () => (float[N, 4] o) { o = Add(a, d) },
                  else_branch = e () => (float[N, 4] p) { p = Neg(x) }> }"""
    assert joined(text, c=np.float32(2), d=np.float32(3)).remarks == ()
