"""no-op-casts: a cast goes where nothing can be lost, and only there."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto

from graphopt.pipeline.gate import Limits
from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.no_op_casts import NoOpCasts

TYPES = {"float": 1, "uint8": 2, "int8": 3, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "double": 11}
TYPES |= {"uint32": 12, "uint64": 13, "bfloat16": 16}


def cast(before: ModelProto | str, runs: bool = True, gate: Limits | None = None, **weights: object) -> Applied:
    proto = model(before, **weights) if isinstance(before, str) else before
    return apply(NoOpCasts(), proto, feeds=None if runs else (), gate=gate)


def test_to_the_same_type() -> None:
    done = cast("g (float[N] x) => (float[N] y) { a = Cast<to = 1>(x)  y = Relu(a) }")
    assert done.body == "y = Relu(x)"
    assert [(one.rule, one.before, one.after) for one in done.applied] == [("same-type", ("a",), ("x",))]


def test_to_another_type_stays() -> None:
    done = cast("g (float[N] x) => (double[N] y) { a = Cast<to = 11>(x)  y = Relu(a) }")
    assert done.remarks == ()


def test_a_claim_about_a_type_is_not_believed() -> None:
    """The declared type of the value between is wrong; the cast is not a no-op."""
    before = model("g (int32[N] x) => (int64[N] y) <int64[N] a> { a = Abs(x)  b = Cast<to = 7>(a)  y = Neg(b) }")
    assert apply(NoOpCasts(), before, feeds=(), laws=False).applied == ()


@pytest.mark.parametrize("version", [9, 13, 19, 21])
def test_versions(version: int) -> None:
    text = f'<ir_version: 8, opset_import: ["": {version}]> g (float[N] x) => (float[N] y) {{'
    assert cast(text + " a = Cast<to = 1>(x)  y = Relu(a) }").body == "y = Relu(x)"


def test_cast_like() -> None:
    done = cast("g (float[N] x, float[M] t) => (float[N] y) { a = CastLike(x, t)  y = Relu(a) }")
    assert done.body == "y = Relu(x)"
    assert cast("g (float[N] x, double[M] t) => (double[N] y) { a = CastLike(x, t)  y = Relu(a) }").applied == ()


def test_the_type_to_be_like_goes_too() -> None:
    done = cast("g (float[N] x) => (float[N] y) { a = CastLike(x, w)  y = Relu(a) }", w=np.ones(1, "f"))
    assert done.body == "y = Relu(x)" and not done.after.graph.initializer


LOSSLESS = [
    ("bool", "int32"),
    ("bool", "float"),
    ("uint8", "float16"),
    ("int8", "int16"),
    ("uint8", "int16"),
    ("int16", "float"),
    ("int32", "int64"),
    ("int32", "double"),
    ("uint32", "int64"),
    ("float16", "float"),
    ("float", "double"),
]
LOSING = [
    ("int64", "int32"),
    ("int32", "float"),
    ("float", "float16"),
    ("double", "float"),
    ("float", "int32"),
    ("int32", "uint64"),
    ("uint32", "int32"),
    ("int8", "uint8"),
    ("float", "bool"),
    ("int32", "bool"),
    ("float16", "bfloat16"),
    ("int64", "double"),
]


def there_and_back(first: str, between: str) -> str:
    body = f"a = Cast<to = {TYPES[between]}>(x)  b = Cast<to = {TYPES[first]}>(a)  y = Identity(b)"
    return f"g ({first}[N] x) => ({first}[N] y) {{ {body} }}"


@pytest.mark.parametrize(("first", "between"), LOSSLESS)
def test_there_and_back(first: str, between: str) -> None:
    done = cast(there_and_back(first, between))
    assert done.body == "y = Identity(x)"
    assert [one.rule for one in done.applied] == ["round-trip"]


def test_there_and_back_in_sixteen_bits() -> None:
    """onnxruntime computes little with bfloat16, but casts it."""
    assert cast(there_and_back("bfloat16", "float"), runs=False).body == "y = Identity(x)"


@pytest.mark.parametrize(("first", "between"), LOSING)
def test_what_would_be_lost(first: str, between: str) -> None:
    done = cast(there_and_back(first, between), runs="bfloat16" not in (first, between))
    assert done.applied == ()
    assert_missed(done, "round-trip", "does not hold every value")


def test_the_value_between_is_read() -> None:
    body = "a = Cast<to = 7>(x)  b = Cast<to = 6>(a)  y = Neg(b)  z = Neg(a)"
    assert (
        cast(f"g (int32[N] x) => (int32[N] y, int64[N] z) {{ {body} }}").body
        == "a = Cast<to=7>(x)\ny = Neg(x)\nz = Neg(a)"
    )


@pytest.mark.parametrize(
    ("first", "between", "last"),
    [
        ("int32", "int64", "int8"),
        ("int32", "double", "float"),
        ("bool", "int64", "float"),
        ("bool", "int64", "int32"),
        ("float16", "float", "double"),
        ("float", "double", "float16"),
        ("float16", "float", "bool"),
        ("uint8", "int32", "int8"),
    ],
)
def test_on_the_way(first: str, between: str, last: str) -> None:
    body = f"a = Cast<to = {TYPES[between]}>(x)  y = Cast<to = {TYPES[last]}>(a)"
    done = cast(f"g ({first}[N] x) => ({last}[N] y) {{ {body} }}")
    assert done.body == f"y = Cast<to={TYPES[last]}>(x)"
    assert [one.rule for one in done.applied] == ["on-the-way"]


def test_a_float_on_the_way_to_an_integer() -> None:
    """What is out of range is not defined, and may be something else from each type."""
    assert cast("g (float[N] x) => (int32[N] y) { a = Cast<to = 11>(x)  y = Cast<to = 6>(a) }").applied == ()


def test_on_the_way_but_read() -> None:
    text = "g (int32[N] x) => (int8[N] y, int64[N] a) { a = Cast<to = 7>(x)  y = Cast<to = 3>(a) }"
    done = cast(text)
    assert done.applied == ()
    assert_missed(done, "on-the-way", "'a' is read by others")


def test_strings_are_left_alone() -> None:
    done = cast("g (int32[N] x) => (string[N] y) { a = Cast<to = 7>(x)  y = Cast<to = 8>(a) }", runs=False)
    assert done.remarks == ()


def test_there_and_back_by_way_of_a_string_is_not_looked_at() -> None:
    done = cast("g (string[N] x) => (string[N] y) { a = Cast<to = 7>(x)  b = Cast<to = 8>(a)  y = Identity(b) }", False)
    assert done.remarks == ()


def test_a_cast_like_on_the_way_keeps_what_it_is_like() -> None:
    done = cast("g (int32[N] x, int8[M] t) => (int8[N] y) { a = Cast<to = 7>(x)  y = CastLike(a, t) }")
    assert done.body == "y = CastLike(x, t)"


def test_a_type_that_the_caller_of_a_function_gives() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (float[N] x) => (int64[N] y) { y = f.go<t = 7>(x) }
    <domain: "f", opset_import: ["": 21]> go <t> (x) => (y) { a = Cast<to = 1>(x)  y = Cast<to: int = @t>(a) }"""
    assert cast(text).applied == ()


def test_an_output_keeps_its_name() -> None:
    done = cast("g (float[N] x) => (float[N] y) { a = Relu(x)  y = Cast<to = 1>(a) }")
    assert done.body == "y = Relu(x)"
    assert_missed(cast("g (float[N] x) => (float[N] y) { y = Cast<to = 1>(x) }"), "same-type", "and 'x' an input")


def test_bodies() -> None:
    text = """g (bool c, float[N] x) => (float[N] y) {
        y = If(c)<then_branch = t () => (float[N] o) { p = Cast<to = 1>(x)  o = Neg(p) },
                  else_branch = e () => (float[N] o) { o = Cast<to = 1>(x) }> }"""
    done = cast(text)
    assert "o = Neg(x)" in done.body and "o = Cast<to=1>(x)" in done.body
    assert_missed(done, "same-type", "graph output")


def test_functions_say_the_type_themselves() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (int32[N] x) => (int32[N] y) { y = f.go(x) }
    <domain: "f", opset_import: ["": 21]> go (x) => (y) {
        a = Cast<to = 7>(x)  b = Cast<to = 9>(a)  c = Cast<to = 6>(b)  d = Cast<to = 9>(c)  y = Cast<to = 6>(d) }"""
    done = cast(text)  # the type of x is the caller's, that of b is known here
    assert done.body.splitlines()[2:] == ["  a = Cast<to=7>(x)", "  b = Cast<to=9>(a)", "  y = Cast<to=6>(b)"]


def test_a_long_chain_goes_at_once() -> None:
    steps = "  ".join(f"v{i + 1} = Cast<to = {1 if i % 2 else 11}>(v{i})" for i in range(40))
    done = cast(f"g (float[N] x) => (float[N] y) {{ v0 = Relu(x)  {steps}  y = Neg(v40) }}")
    assert done.body == "v0 = Relu(x)\ny = Neg(v0)"


def test_disabled_rewrites_are_asked_for_once() -> None:
    before = model(
        "g (float[N] x) => (float[N] y) { a = Cast<to = 1>(x)  b = Relu(a)  c = Cast<to = 1>(b)  y = Neg(c) }"
    )
    done = cast(before, gate=Limits(disabled=frozenset({("no-op-casts", 1)})))
    assert done.body == "a = Cast<to=1>(x)\nb = Relu(a)\ny = Neg(b)"
    assert len(done.disabled) == 1


def test_names_that_would_make_the_file_grow() -> None:
    long = "a_value_with_quite_a_long_name_" * 3
    reads = "  ".join(f"r{i} = {op}(a)" for i, op in enumerate(["Neg", "Abs", "Exp", "Relu", "Ceil"]))
    text = f"g (float[N] {long}) => (float[N] y) {{ a = Cast<to = 1>({long})  {reads}  y = Sum(r0, r1, r2, r3, r4) }}"
    assert_missed(cast(text), "same-type", "the file would grow")


ARRAYS = {**{name: np.dtype(name) for name in TYPES if name not in ("float", "bfloat16")}, "float": np.dtype("f4")}
ARRAYS["bfloat16"] = np.dtype(ml_dtypes.bfloat16)


def numbers_of(name: str) -> np.ndarray:
    """Every number of a type of up to 16 bits; of larger ones those at which others end."""
    dtype = ARRAYS[name]
    if name == "bool":
        return np.array([False, True])
    if dtype.itemsize <= 2:
        found = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
        with np.errstate(invalid="ignore"):
            return found if dtype.kind in "iu" else found[np.isfinite(found.astype(np.float64))]
    if dtype.kind == "f":
        ends = np.array(
            [1, 1 + 2.0**-23, 1 + 2.0**-52, 2.0**-149, 5e-324, 3.4e38, 1.7e308, 0.1, -(2.0**31)], np.float64
        )
        with np.errstate(all="ignore"):
            found = ends.astype(dtype)
        return found[np.isfinite(found)]
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    edges = {low, high} | {sign * (1 << bit) + by for bit in range(64) for by in (-1, 0, 1) for sign in (-1, 1)}
    return np.array([one for one in sorted(edges) if low <= one <= high], dtype)


def exact(numbers: np.ndarray) -> list[int | float]:
    """As Python's numbers, which compare without rounding."""
    return [int(one) if numbers.dtype.kind in "iub" else float(one) for one in numbers]


def holds(between: str, first: str) -> bool:
    """Whether every number of one type is one of the other."""
    numbers = numbers_of(first)
    with np.errstate(all="ignore"):
        return exact(numbers.astype(ARRAYS[between])) == exact(numbers)


@pytest.mark.parametrize("first", list(TYPES))
def test_what_is_said_to_hold_every_value_does(first: str) -> None:
    """Of any two types, the pass says what their numbers say."""
    for between in TYPES:
        if between != first:
            text = there_and_back(first, between)
            gone = apply(NoOpCasts(), model(text), laws=False).body == "y = Identity(x)"
            assert gone == holds(between, first), between


@pytest.mark.parametrize(
    ("kinds", "body"),
    [
        (("bool", "int32"), "a = Cast<to = 1>(x)  b = Cast<to = 6>(a)"),
        (("int32", "uint8"), "a = Cast<to = 7>(x)  b = Cast<to = 2>(a)"),
    ],
)
def test_truths_and_integers_on_the_way_to_integers(kinds: tuple[str, str], body: str) -> None:
    done = cast(f"g ({kinds[0]}[N] x) => ({kinds[1]}[N] y) {{ {body}  y = Identity(b) }}")
    assert [one.rule for one in done.applied] == ["on-the-way"] and done.body.startswith("b = Cast<to=")


def test_a_cast_like_another_value_still_reads_it() -> None:
    done = cast("g (int8[N] x, int64[M] t) => (int64[N] y) { a = Cast<to = 6>(x)  b = CastLike(a, t)  y = Neg(b) }")
    assert done.body == "b = CastLike(x, t)\ny = Neg(b)"


def test_nothing_is_said_of_types_that_are_not_looked_at() -> None:
    text = "g (float8e4m3fn[N] x) => (float8e4m3fn[N] y) { a = Cast<to = 1>(x)  y = Cast<to = 17>(a) }"
    assert cast(f'<ir_version: 9, opset_import: ["": 19]> {text}', runs=False).remarks == ()


def test_a_type_that_a_caller_gives() -> None:
    text = """<ir_version: 10, opset_import: ["": 18, "f": 1]> g (float[3] x) => (int32[3] y) { y = f.go<t = 6>(x) }
        <domain: "f", opset_import: ["": 18]> go <t> (x) => (y) { y = Cast<to: int = @t>(x) }"""
    assert cast(text).remarks == ()
