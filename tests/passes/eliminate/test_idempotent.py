"""idempotent: what is done already is not done again, whatever the input: zeros, infinities, NaN."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.idempotent import Idempotent

F = np.float32
SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -1e-45, 2.5, -2.5, 7, -7, 3.4e38, 0.5, np.nan, -0.0], F)


def again(body: str, kind: str = "float", version: int = 18, **weights: object) -> Applied:
    text = f'<ir_version: 8, opset_import: ["": {version}]> g ({kind}[N] x) => ({kind}[N] y) {{ {body} }}'
    feeds = [{"x": SPECIAL}, {"x": SPECIAL[:1]}, {"x": np.linspace(-30, 30, 501, dtype=F)}] if kind == "float" else None
    return apply(Idempotent(), model(text, **weights), feeds=feeds)


@pytest.mark.parametrize("op", ["Relu", "Abs", "Sign", "Ceil", "Floor", "Round"])
def test_twice_is_once(op: str) -> None:
    done = again(f"a = {op}(x)  b = {op}(a)  c = {op}(b)  y = Neg(c)")
    assert done.body == f"a = {op}(x)\ny = Neg(a)"
    assert {one.rule for one in done.applied} == {"repeated"}


@pytest.mark.parametrize("first", ["Ceil", "Floor", "Round"])
@pytest.mark.parametrize("second", ["Ceil", "Floor", "Round"])
def test_rounding_what_is_rounded(first: str, second: str) -> None:
    assert again(f"a = {first}(x)  b = {second}(a)  y = Neg(b)").body == f"a = {first}(x)\ny = Neg(a)"


def test_rounding_integers() -> None:
    text = "g (int32[N] x) => (float[N] y) { a = Cast<to = 1>(x)  b = Floor(a)  y = Neg(b) }"
    assert apply(Idempotent(), model(text)).body == "a = Cast<to=1>(x)\ny = Neg(a)"
    text = "g (double[N] x) => (float[N] y) { a = Cast<to = 1>(x)  b = Floor(a)  y = Neg(b) }"
    assert apply(Idempotent(), model(text)).applied == ()


@pytest.mark.parametrize(("op", "kind"), [("Neg", "float"), ("Neg", "int32"), ("Not", "bool"), ("BitwiseNot", "uint8")])
def test_inverses(op: str, kind: str) -> None:
    done = again(f"a = {op}(x)  b = {op}(a)  y = {op}(b)", kind)
    assert done.body == f"y = {op}(x)" and [one.rule for one in done.applied] == ["inverse"]


def test_an_inverse_of_which_the_first_is_read() -> None:
    text = "g (float[N] x) => (float[N] y, float[N] a) { a = Neg(x)  b = Neg(a)  y = Exp(b) }"
    assert apply(Idempotent(), model(text)).body == "a = Neg(x)\ny = Exp(x)"


@pytest.mark.parametrize("step", ["Relu", "Abs", "Exp", "Sqrt", "Sigmoid", "Softmax<axis = 0>"])
def test_relu_of_what_is_not_negative(step: str) -> None:
    op, _, attributes = step.partition("<")
    call = f"{op}<{attributes}(x)" if attributes else f"{op}(x)"
    done = again(f"a = {call}  b = Relu(a)  y = Neg(b)")
    assert "Relu" not in done.body.replace("a = Relu", "") and len(done.applied) == 1


@pytest.mark.parametrize("op", ["Tanh", "Neg", "Sin", "Log"])
def test_relu_of_what_may_be_negative(op: str) -> None:
    assert again(f"a = {op}(x)  b = Relu(a)  y = Neg(b)").applied == ()


def test_abs() -> None:
    assert again("a = Exp(x)  b = Abs(a)  y = Neg(b)").body == "a = Exp(x)\ny = Neg(a)"
    assert again("a = Relu(x)  b = Abs(a)  y = Neg(b)").applied == ()  # -0.0
    assert again("a = Neg(x)  b = Abs(a)  y = Neg(b)").body == "b = Abs(x)\ny = Neg(b)"
    assert again("a = BitwiseNot(x)  b = Abs(a)  y = BitwiseNot(b)", "uint8").body.count("Abs") == 0
    text = "g (float[N] x) => (float[N] y, float[N] a) { a = Neg(x)  y = Abs(a) }"
    assert_missed(apply(Idempotent(), model(text)), "covered", "'a' is read by others")


def test_through_views() -> None:
    done = again("a = Sigmoid(x)  b = Unsqueeze(a, k)  c = Squeeze(b, k)  d = Relu(c)  y = Neg(d)", k=np.array([0]))
    assert "Relu" not in done.body


CLIP = "a = {first}  b = Clip(a, lo, hi)  y = Neg(b)"


@pytest.mark.parametrize(
    ("first", "low", "high"),
    [
        ("Sigmoid(x)", 0, 1),
        ("Sigmoid(x)", -1, 6),
        ("Clip(x, lo, hi)", 0, 6),
        ("Clip(x, lo, hi)", 0.5, 0.5),
        ("Relu(x)", 0, np.inf),
        ("Relu(x)", -1, np.inf),
        ("Cos(x)", -np.inf, np.inf),
    ],
)
def test_clip_of_what_is_in_range(first: str, low: float, high: float) -> None:
    done = again(CLIP.format(first=first), lo=F(low), hi=F(high))
    assert done.body.splitlines()[1:] == ["y = Neg(a)"] and [one.rule for one in done.applied] == ["in-range"]


@pytest.mark.parametrize(
    ("first", "low", "high"),
    [("Sigmoid(x)", 0.1, 1), ("Sigmoid(x)", 0, 0.9), ("Tanh(x)", -1, 1), ("Cos(x)", 0, np.inf)],
)
def test_clip_of_what_may_be_out_of_range(first: str, low: float, high: float) -> None:
    assert again(CLIP.format(first=first), lo=F(low), hi=F(high)).applied == ()


@pytest.mark.parametrize(("low", "high"), [(0, 6), (0, np.inf), (1, 6), (0, 0), (0.5, 1)])
def test_relu_before_clip(low: float, high: float) -> None:
    done = again(CLIP.format(first="Relu(x)"), lo=F(low), hi=F(high))
    assert ("Relu" not in done.body) or "Clip" not in done.body
    assert len(done.applied) == 1


def test_relu_before_a_clip_that_lets_more_through() -> None:
    assert again(CLIP.format(first="Relu(x)"), lo=F(-1), hi=F(6)).applied == ()
    assert again(CLIP.format(first="Relu(x)"), lo=F(-0.0), hi=F(6)).applied == ()


def test_a_wide_clip_before_a_narrow_one() -> None:
    done = again("a = Clip(x, p, q)  b = Clip(a, r, s)  y = Neg(b)", p=F(-1), q=F(6), r=F(0), s=F(3))
    assert done.body == "b = Clip(x, r, s)\ny = Neg(b)"
    assert {one.name for one in done.after.graph.initializer} == {"r", "s"}
    assert again("a = Clip(x, p, q)  b = Clip(a, r, s)  y = Neg(b)", p=F(-1), q=F(2), r=F(0), s=F(3)).applied == ()


def test_a_covered_relu_that_is_read() -> None:
    text = "g (float[N] x) => (float[N] y, float[N] a) { a = Relu(x)  y = Clip(a, lo, hi) }"
    done = apply(Idempotent(), model(text, lo=F(0), hi=F(6)))
    assert_missed(done, "covered", "'a' is read by others")


def test_bounds_the_wrong_way_round() -> None:
    assert again("a = Clip(x, lo, hi)  b = Clip(a, lo, hi)  y = Neg(b)", lo=F(3), hi=F(1)).applied == ()
    assert again("a = Clip(x, lo, hi)  b = Relu(a)  y = Neg(b)", lo=F(3), hi=F(-1)).applied == ()


@pytest.mark.parametrize("body", ["a = Clip(x)  y = Neg(a)", "a = Relu(x)  b = Clip(a)  y = Neg(b)"])
def test_bounds_left_out_cut_infinities_off(body: str) -> None:
    assert again(body).applied == ()


@pytest.mark.parametrize("body", ["a = Clip(x)  y = Neg(a)", "a = Clip<min = -3.4028234663852886e38>(x)  y = Neg(a)"])
def test_bounds_of_old_versions(body: str) -> None:
    assert again(body, version=9).applied == ()


def test_attributes_as_bounds() -> None:
    done = again("a = Sigmoid(x)  b = Clip<min = 0.0, max = 1.0>(a)  y = Neg(b)", version=9)
    assert done.body == "a = Sigmoid(x)\ny = Neg(a)"
    done = again("a = Relu(x)  b = Clip<min = 0.0, max = 6.0>(a)  y = Neg(b)", version=10)
    assert done.body.startswith("b = Clip<max=6, min=0>(x)")


def test_bounds_of_an_integer_type() -> None:
    assert again("a = Clip(x)  y = Neg(a)", "int32").body == "y = Neg(x)"
    weights = {"lo": np.array(-128, np.int8), "hi": np.array(127, np.int8)}
    assert again("a = Clip(x, lo, hi)  y = Neg(a)", "int8", **weights).body == "y = Neg(x)"
    assert again("a = Clip(x, lo)  y = Neg(a)", "int8", lo=np.array(-127, np.int8)).applied == ()


def test_bounds_known_at_run_time_only() -> None:
    text = "g (float[N] x, float lo) => (float[N] y) { a = Sigmoid(x)  b = Clip(a, lo)  y = Neg(b) }"
    assert apply(Idempotent(), model(text)).applied == ()


def test_outputs_and_bodies() -> None:
    text = """g (bool c, float[N] x) => (float[N] y) { a = Relu(x)
        y = If(c)<then_branch = t () => (float[N] o) { p = Relu(a)  o = Neg(p) },
                  else_branch = e () => (float[N] o) { o = Relu(a) }> }"""
    done = apply(Idempotent(), model(text))
    assert "o = Neg(a)" in done.body
    assert_missed(done, "repeated", "'o' is a graph output and 'a' is made in another graph")


BITS = {"uint8": 8, "int8": 8, "uint16": 16, "int16": 16, "int32": 32, "int64": 64, "uint32": 32, "uint64": 64}


@pytest.mark.parametrize("kind", list(BITS))
def test_as_far_as_an_integer_type_goes_and_one_less(kind: str) -> None:
    """onnxruntime has no Clip of all these types: the answer is looked at, not the outputs."""
    info, dtype = np.iinfo(kind), np.dtype(kind)
    for low, high, whole in ((0, 0, True), (1, 0, False), (0, 1, False)):
        ends = {"l": dtype.type(info.min + low), "h": dtype.type(info.max - high)}
        text = f"g ({kind}[N] x) => ({kind}[N] y) {{ a = Clip(x, l, h)  y = Identity(a) }}"
        done = apply(Idempotent(), model(text, **ends), feeds=(), laws=whole)
        assert bool(done.applied) == whole


def test_an_abs_of_unsigned_integers() -> None:
    for kind in ("uint8", "uint16", "uint32", "uint64", "int32"):
        text = f"g ({kind}[N] x) => ({kind}[N] y) {{ a = Abs(x)  y = Identity(a) }}"
        assert bool(apply(Idempotent(), model(text), laws=False).applied) == (kind[0] == "u")


@pytest.mark.parametrize("op", ["Relu", "Abs", "Exp", "Sqrt", "Sigmoid", "Softmax"])
def test_a_bound_above_the_least_that_comes_out_cuts_off(op: str) -> None:
    assert "Clip" in again(f"a = {op}(x)  b = Clip(a, l, h)  y = Neg(b)", l=F(0.25), h=F(np.inf)).body
    assert again(f"a = {op}(x)  b = Clip(a, l, h)  y = Neg(b)", l=F(-1), h=F(np.inf)).applied


@pytest.mark.parametrize("op", ["Exp", "Sigmoid", "Softmax"])
def test_an_abs_of_what_is_positive(op: str) -> None:
    assert again(f"a = {op}(x)  b = Abs(a)  y = Neg(b)").body == f"a = {op}(x)\ny = Neg(a)"


@pytest.mark.parametrize("kind", ["float", "double", "float16"])
def test_a_bound_left_out_is_the_last_number_of_the_type(kind: str) -> None:
    zero = {"float": F(0), "double": np.float64(0), "float16": np.float16(0)}[kind]
    last = np.finfo(zero.dtype).max
    text = f"g ({kind}[N] x) => ({kind}[N] y) {{ a = Clip(x, z, m)  b = Clip(a, z)  y = Neg(b) }}"
    assert apply(Idempotent(), model(text, z=zero, m=last)).body == "a = Clip(x, z, m)\ny = Neg(a)"
    infinite = type(last)(np.inf)
    assert apply(Idempotent(), model(text, z=zero, m=infinite), feeds=()).body != "a = Clip(x, z, m)\ny = Neg(a)"


def test_bounds_as_inputs_from_their_first_version_on() -> None:
    assert again("a = Sigmoid(x)  b = Clip(a, l, h)  y = Neg(b)", version=11, l=F(0), h=F(1)).applied


def test_a_wide_clip_before_a_narrow_one_with_the_same_upper_bound() -> None:
    done = again("a = Clip(x, l, h)  b = Clip(a, m, h)  y = Neg(b)", l=F(-2), m=F(-1), h=F(2))
    assert done.body == "b = Clip(x, m, h)\ny = Neg(b)"


def test_bounds_as_inputs_that_cut_off_from_their_first_version_on() -> None:
    assert again("a = Sigmoid(x)  b = Clip(a, l, h)  y = Neg(b)", version=11, l=F(0.25), h=F(0.5)).applied == ()


def test_what_is_dequantized_from_signed_integers_may_be_negative() -> None:
    for kind, gone in (("int8", False), ("uint8", True)):
        text = f"g ({kind}[N] x) => (float[N] y) {{ a = DequantizeLinear(x, s)  b = Relu(a)  y = Neg(b) }}"
        assert bool(apply(Idempotent(), model(text, s=F(0.5))).applied) == gone


def test_a_zero_point_that_is_fed_says_nothing() -> None:
    text = "g (uint8[N] x, uint8 z) => (float[N] y) { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = Neg(b) }"
    assert apply(Idempotent(), model(text, s=F(0.5))).applied == ()


def test_bounds_that_a_clip_of_halves_leaves_out() -> None:
    """The last finite number of the type: no less, as a Clip that says so shows."""
    text = "g (float16[N] x) => (float16[N] y) { a = Clip(x, , one)  b = Clip(a, low, one)  y = Neg(b) }"
    done = apply(Idempotent(), model(text, one=np.float16(1), low=np.float16(-65504)))
    assert [rule.rule for rule in done.applied] == ["in-range"]


@pytest.mark.parametrize("version", [6, 10])
def test_bounds_that_an_old_clip_leaves_out(version: int) -> None:
    done = again("a = Sigmoid(x)  b = Clip<max = 1.0>(a)  y = Neg(b)", version=version)
    assert done.body == "a = Sigmoid(x)\ny = Neg(a)"
    assert again("a = Sigmoid(x)  b = Clip<max = 0.5>(a)  y = Neg(b)", version=version).applied == ()


def test_what_is_dequantized_from_a_type_that_is_no_grid() -> None:
    text = "g (int32[N] x) => (float[N] y) { a = DequantizeLinear(x, s)  b = Clip(a, lo, hi)  y = Neg(b) }"
    assert apply(Idempotent(), model(text, s=F(1), lo=F(-3e9), hi=F(3e9))).applied == ()
