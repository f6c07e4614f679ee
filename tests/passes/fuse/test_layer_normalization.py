"""layer-normalization: every usual way to write it, and the shorter form before opset 17."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.layer_normalization import LayerNormalization

RNG = np.random.default_rng(5)
SQUARES = ["q = Pow(d, two)", "q = Mul(d, d)", "e = Sub(x, m) q = Pow(e, two)", "e = Sub(x, m) q = Mul(e, e)"]
QUOTIENTS = [
    "s = Sqrt(a) n = Div(d, s)",
    "s = Sqrt(a) r = Reciprocal(s) n = Mul(r, d)",
    "s = Sqrt(a) r = Div(one, s) n = Mul(d, r)",
    "r = Pow(a, minus) n = Mul(d, r)",
]
TAIL = "g = Mul(n, scale) y = Add(g, bias)"


def mean(out: str, value: str, opset: int, axes: str = "[-1]") -> str:
    axes_as_input = opset >= 18
    return f"{out} = ReduceMean({value}, axes)" if axes_as_input else f"{out} = ReduceMean<axes={axes}>({value})"


def steps(
    square: str = SQUARES[0], quotient: str = QUOTIENTS[0], tail: str = TAIL, opset: int = 17, axes: str = "[-1]"
) -> str:
    head = f"{mean('m', 'x', opset, axes)} d = Sub(x, m) {square}"
    return f"{head} {mean('v', 'q', opset, axes)} a = Add(eps, v) {quotient} {tail}"


def fused(nodes: str, opset: int = 17, shape: str = "N, 3, 4", kind: str = "float", **more: Any) -> Applied:
    dtype = np.float64 if kind == "double" else np.float32
    known: dict[str, Any] = {
        "two": np.asarray(2, dtype),
        "one": np.asarray(1, dtype),
        "minus": np.asarray(-0.5, dtype),
        "eps": np.asarray(1e-5, dtype),
        "scale": RNG.standard_normal(4).astype(dtype),
        "bias": RNG.standard_normal(4).astype(dtype),
        "axes": np.array([-1]),
    } | more
    words = set(re.findall(r"\w+", nodes.replace("axes=", "")))
    tensors = {name: one for name, one in known.items() if name in words}
    head = f'<ir_version: 9, opset_import: ["": {opset}]>'
    return apply(
        LayerNormalization(), model(f"{head} g ({kind}[{shape}] x) => ({kind}[{shape}] y) {{ {nodes} }}", **tensors)
    )


@pytest.mark.parametrize(("square", "quotient"), list(itertools.product(SQUARES, QUOTIENTS)))
def test_every_way_to_write_it(square: str, quotient: str) -> None:
    done = fused(steps(square, quotient))
    assert done.body == "y = LayerNormalization<axis=-1, epsilon=1e-05>(x, scale, bias)"
    assert {one.name for one in done.after.graph.initializer} == {"scale", "bias"}


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_axes_as_attribute_and_as_input(opset: int) -> None:
    assert fused(steps(opset=opset), opset).body == "y = LayerNormalization<axis=-1, epsilon=1e-05>(x, scale, bias)"


def test_several_axes() -> None:
    more = {name: RNG.standard_normal((3, 4)).astype(np.float32) for name in ("scale", "bias")}
    done = fused(steps(axes="[1, 2]"), scale=more["scale"], bias=more["bias"])
    assert done.body == "y = LayerNormalization<axis=-2, epsilon=1e-05>(x, scale, bias)"


def test_without_a_bias() -> None:
    done = fused(steps(tail="y = Mul(scale, n)"))
    assert done.body == "y = LayerNormalization<axis=-1, epsilon=1e-05>(x, scale)"


def test_a_bias_of_another_kind_stays() -> None:
    done = fused(steps(), bias=RNG.standard_normal((3, 4)).astype(np.float32))
    assert done.body.splitlines() == ["g = LayerNormalization<axis=-1, epsilon=1e-05>(x, scale)", "y = Add(g, bias)"]
    assert_missed(done, "bias-behind", "'bias' is not of the shape")


@pytest.mark.parametrize(
    ("nodes", "more", "why"),
    [
        (steps(axes="[1]"), {}, "are not the last ones"),
        (steps(axes="[0, 2]"), {}, "are not the last ones"),
        (steps(), {"scale": np.ones(1, np.float32)}, "'scale' is not of the shape"),
        (steps(), {"scale": np.ones((3, 4), np.float32)}, "'scale' is not of the shape"),
        (steps().replace("v = ReduceMean<axes=[-1]>", "v = ReduceMean<axes=[1]>"), {}, "over different axes"),
    ],
)
def test_what_is_no_layer_normalization(nodes: str, more: dict[str, Any], why: str) -> None:
    done = fused(nodes, **more)
    assert not done.applied
    assert_missed(done, "scale-and-bias", why)


def test_sizes_that_may_differ() -> None:
    text = f'<ir_version: 9, opset_import: ["": 17]> g (float[N, K] x) => (float[N, K] y) {{ {steps()} }}'
    numbers: dict[str, Any] = {"two": np.float32(2), "eps": np.float32(1e-5)}
    ones = np.ones(4, np.float32)
    feeds = [{"x": RNG.standard_normal((2, 4)).astype(np.float32)}]
    done = apply(LayerNormalization(), model(text, scale=ones, bias=ones, **numbers), feeds=feeds)
    assert not done.applied
    assert_missed(done, "scale-and-bias", "may be of another shape")


def test_double() -> None:
    done = fused(steps(), kind="double")
    assert not done.applied
    assert_missed(done, "scale-and-bias", "'x' is double, not float or float16 or bfloat16")


def test_values_that_others_read() -> None:
    done = fused(steps(tail="g = Mul(n, scale) h = Add(g, bias) w = Relu(s) y = Add(h, w)"))
    assert not done.applied
    assert_missed(done, "scale-and-bias", "'s' is also read by Relu")


FOLDED = "r = Reciprocal(s) f = Mul(r, scale) u = Mul(x, f) w = Mul(m, f) the_bias = Sub(bias, w) y = Add(u, the_bias)"


@pytest.mark.parametrize("tail", [FOLDED, FOLDED.replace("r = Reciprocal(s) f = Mul(r, scale)", "f = Div(scale, s)")])
@pytest.mark.parametrize("square", SQUARES[:2])
def test_the_scale_in_the_inverse_root(tail: str, square: str) -> None:
    nodes = steps(square, "s = Sqrt(a)", tail)
    assert fused(nodes).body == "y = LayerNormalization<axis=-1, epsilon=1e-05>(x, scale, bias)"
    old = fused(nodes, 13)
    two = "two"
    assert old.body.splitlines() == [
        "m = ReduceMean<axes=[-1]>(x)",
        "d = Sub(x, m)",
        f"q = Pow(d, {two})",
        "v = ReduceMean<axes=[-1]>(q)",
        "a = Add(eps, v)",
        "s = Sqrt(a)",
        "s_1 = Div(d, s)",
        "s_2 = Mul(s_1, scale)",
        "y = Add(s_2, bias)",
    ]
    assert_missed(old, "scale-and-bias", "LayerNormalization needs opset 17, the model has 13")


def test_a_reciprocal_before_opset_17() -> None:
    done = fused(steps(SQUARES[0], QUOTIENTS[1]), 13)
    assert "n = Div(d, s)" in done.body and "Reciprocal" not in done.body
    short = fused(steps(SQUARES[1], QUOTIENTS[1]), 13)  # a constant for Pow would take more than the Reciprocal
    assert not short.applied


def test_the_usual_form_before_opset_17() -> None:
    done = fused(steps(), 13)
    assert not done.applied
    assert_missed(done, "scale-and-bias", "needs opset 17")


def test_in_a_body() -> None:
    nodes = steps(tail="g = Mul(n, scale) o = Add(g, bias)")
    text = f"""<ir_version: 9, opset_import: ["": 17]> g (bool t, float[N, 4] x) => (float[N, 4] y) {{
        y = If (t) <then_branch = p () => (float[N, 4] o) {{ {nodes} }},
                    else_branch = z () => (float[N, 4] k) {{ k = Neg(x) }}>
    }}"""
    numbers: dict[str, Any] = {"two": np.float32(2), "eps": np.float32(1e-5)}
    done = apply(
        LayerNormalization(), model(text, scale=np.ones(4, np.float32), bias=np.ones(4, np.float32), **numbers)
    )
    assert "o = LayerNormalization<axis=-1, epsilon=1e-05>(x, scale, bias)" in done.body


def test_nothing_to_normalize() -> None:
    done = fused(steps(), shape="N, 0", scale=np.zeros(0, np.float32), bias=np.zeros(0, np.float32))
    assert_missed(done, "scale-and-bias", "nothing to normalize")


@pytest.mark.parametrize("opset", [16, 17])
def test_a_bias_behind_is_taken_from_the_version_on_that_has_the_operator(opset: int) -> None:
    """Before, an operator of that name is somebody else's, and of no known shape."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}]> g (float[N, 4] x) => (float[N, 4] y) {{
        n = LayerNormalization(x, scale)  y = Add(n, bias) }}"""
    four = np.ones(4, np.float32)
    done = apply(LayerNormalization(), model(text, scale=four, bias=four), feeds=(), laws=False)
    assert bool(done.applied) == (opset == 17)


def test_a_scale_that_is_fed_in_the_old_form() -> None:
    """The shorter form needs its type, which is not known in a function."""
    text = """<ir_version: 8, opset_import: ["": 13]> g (float[N, 4] x, float[4] scale) => (float[N, 4] y) {
        m = ReduceMean<axes = [-1]>(x)  d = Sub(x, m)  q = Pow(d, two)  v = ReduceMean<axes = [-1]>(q)
        a = Add(eps, v)  the_root = Sqrt(a)  the_reciprocal = Reciprocal(the_root)
        n = Mul(the_reciprocal, d)  g = Mul(n, scale)  y = Add(g, bias) }"""
    weights = {"two": np.float32(2), "eps": np.float32(1e-5), "bias": np.ones(4, np.float32)}
    assert apply(LayerNormalization(), model(text, **weights)).applied == ()


def test_the_old_form_of_a_square_that_is_a_product() -> None:
    """With names as long as these a constant for Pow pays."""
    text = """<ir_version: 8, opset_import: ["": 13]> g (float[N, 4] x) => (float[N, 4] y) {
        m = ReduceMean<axes = [-1]>(x)  d = Sub(x, m)  q = Mul(d, d)  v = ReduceMean<axes = [-1]>(q)
        a = Add(eps, v)  s = Sqrt(a)
        the_reciprocal_of_the_root = Reciprocal(s)
        n = Mul(the_reciprocal_of_the_root, d)  g = Mul(n, scale)  y = Add(g, bias) }"""
    four = np.ones(4, np.float32)
    done = apply(LayerNormalization(), model(text, eps=np.float32(1e-5), bias=four, scale=four))
    assert "Reciprocal" not in done.body and "n = Div(d, s)" in done.body
    longer = text.replace("s = Sqrt", "the_root_of_it_all = Sqrt").replace(
        "Reciprocal(s)", "Reciprocal(the_root_of_it_all)"
    )
    assert apply(LayerNormalization(), model(longer, eps=np.float32(1e-5), bias=four, scale=four)).applied
