"""ort-gelu: Gelu in all its spellings, with and without a bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.gelu import OrtGelu

F = np.float32
STARTS = {
    "Div": "a = Div(s, r) t = Erf(a)",
    "Mul": "a = Mul(s, i) t = Erf(a)",
}
ENDS = (
    "u = Add(t, one) v = Mul(s, u) y = Mul(v, half)",
    "u = Add(one, t) v = Mul(half, u) y = Mul(v, s)",
    "u = Add(t, one) h = Mul(half, s) y = Mul(u, h)",
)
TANH = "p = Pow(s, three) m = Mul(p, k) n = Add(s, m) a = Mul(n, w) t = Tanh(a)"
NUMBERS = {
    "r": F(np.sqrt(2)),
    "i": F(np.sqrt(0.5)),
    "one": F(1),
    "half": F(0.5),
    "three": F(3),
    "k": F(0.044715),
    "w": F(np.sqrt(2 / np.pi)),
}
BIAS = np.linspace(-1, 1, 4, dtype=F)


def gelu(text: str, opset: int = 17, **weights: Any) -> Applied:
    given = {name: value for name, value in NUMBERS.items() if name in _names(text)} | weights
    header = f'<ir_version: 9, opset_import: ["": {opset}]>'
    return apply(OrtGelu(), model(f"{header} g (float[N, M, 4] x) => (float[N, M, 4] y) {{ {text} }}", **given))


def _names(text: str) -> set[str]:
    return set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())


@pytest.mark.parametrize("opset", [9, 13, 17])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("start", STARTS.values())
def test_gelu_written_out(start: str, end: str, opset: int) -> None:
    text = f"{start} {end}".replace("(s", "(x").replace(" s)", " x)")
    done = gelu(text, opset)
    assert done.body == "y = com.microsoft.Gelu(x)"
    assert not done.after.graph.initializer


@pytest.mark.parametrize("end", ENDS)
def test_gelu_of_a_sum(end: str) -> None:
    done = gelu(f"s = Add(b, x) {STARTS['Div']} {end}", b=BIAS)
    assert done.body == "y = com.microsoft.BiasGelu(x, b)"


@pytest.mark.parametrize("end", ENDS)
def test_the_approximation_with_tanh(end: str) -> None:
    assert gelu(f"s = Add(x, b) {TANH} {end}", b=BIAS).body == "y = com.microsoft.FastGelu(x, b)"
    text = f"{TANH} {end}".replace("(s", "(x").replace(" s)", " x)")
    assert gelu(text).body == "y = com.microsoft.FastGelu(x)"


def test_an_operator_gets_its_bias() -> None:
    assert gelu("s = Add(x, b) y = Gelu(s)", 20, b=BIAS).body == "y = com.microsoft.BiasGelu(x, b)"
    done = gelu("s = Add(x, b) y = Gelu<approximate='tanh'>(s)".replace("'", '"'), 20, b=BIAS)
    assert done.body == "y = com.microsoft.FastGelu(x, b)"
    done = gelu("y = Gelu(x)", 20)
    assert done.after == done.before


@pytest.mark.parametrize("bias", [BIAS[:1], BIAS.reshape(1, 4), F(1)])
def test_what_is_no_vector_of_the_last_axis_is_added_before(bias: Any) -> None:
    done = gelu(f"s = Add(x, b) {STARTS['Div']} {ENDS[0]}", b=bias)
    assert done.body == "s = Add(x, b)\ny = com.microsoft.Gelu(s)"


def test_a_sum_that_others_read_is_added_before() -> None:
    done = gelu(f"s = Add(x, b) {STARTS['Div']} {ENDS[0].replace('y =', 'z =')} y = Add(s, z)", b=BIAS)
    assert done.body == "s = Add(x, b)\nz = com.microsoft.Gelu(s)\ny = Add(s, z)"


@pytest.mark.parametrize(
    ("text", "alpha"),
    [
        ("t = Sigmoid(x) y = Mul(x, t)", "1"),
        ("t = Sigmoid(x) y = Mul(t, x)", "1"),
        ("a = Mul(x, c) t = Sigmoid(a) y = Mul(x, t)", "1.702"),
    ],
)
def test_quick_gelu(text: str, alpha: str) -> None:
    done = gelu(text, **({"c": F(1.702)} if "c)" in text else {}))
    assert done.body == f"y = com.microsoft.QuickGelu<alpha={alpha}>(x)"


def test_a_factor_of_more_dims_is_another_shape() -> None:
    text = "g (float[4] x) => (float[1, 4] y) { a = Mul(x, c) t = Sigmoid(a) y = Mul(x, t) }"
    done = apply(OrtGelu(), model(text, c=np.ones((1, 1), F)))
    assert_missed(done, "quick-gelu", "'c' may have more dims than 'x'")
    assert done.after == done.before


def test_another_number_is_no_gelu() -> None:
    done = gelu(f"{STARTS['Div']} {ENDS[0]}".replace("(s", "(x"), half=F(0.51))
    assert done.after == done.before
    done = gelu(f"{STARTS['Div']} {ENDS[0]}".replace("(s", "(x"), r=F(1.41))
    assert_missed(done, "gelu", "'r' is not 1.414")
    assert done.after == done.before


def test_a_value_that_others_read_stays() -> None:
    text = f"{STARTS['Div']} {ENDS[0].replace('y =', 'z =')} y = Add(t, z)".replace("(s", "(x")
    done = gelu(text)
    assert_missed(done, "gelu", "'t' is also read by Add")
    assert done.after == done.before


def test_other_dtypes_stay() -> None:
    numbers = {"r": np.sqrt(np.float64(2)), "one": np.float64(1), "half": np.float64(0.5)}
    nodes = f"{STARTS['Div']} {ENDS[0]}".replace("(s", "(x")
    before = model(f"g (double[N, 4] x) => (double[N, 4] y) {{ {nodes} }}", **numbers)
    done = apply(OrtGelu(), before, feeds=())  # onnxruntime has no Erf of doubles either
    assert_missed(done, "gelu", "not known to be float32")
    assert done.after == done.before


@pytest.mark.parametrize("name", ["i", "one", "half"])
def test_a_number_that_adds_a_dim_is_no_part_of_it(name: str) -> None:
    weights = {"i": F(np.sqrt(0.5)), "one": F(1), "half": F(0.5)}
    weights[name] = weights[name].reshape(1, 1, 1, 1)
    text = "a = Mul(x, i) t = Erf(a) u = Add(t, one) v = Mul(x, u) y = Mul(v, half)"
    before = model(f"g (float[N, M, 4] x) => (float[1, N, M, 4] y) {{ {text} }}", **weights)
    done = apply(OrtGelu(), before)
    assert not done.applied
    assert_missed(done, "gelu", "may have more dims than")
