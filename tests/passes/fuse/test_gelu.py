"""gelu: every usual way to write it."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.gelu import Gelu

NUMBERS = {
    "root": 2**0.5, "inverse": 2**-0.5, "one": 1, "half": 0.5, "two": 2, "three": 3, "coefficient": 0.044715,
    "slope": (2 / np.pi) ** 0.5, "off": 0.7,
}  # fmt: skip
GATES = [
    "d = Mul(x, c) y = Mul(d, half)",
    "d = Mul(half, x) y = Mul(d, c)",
    "d = Mul(c, half) y = Mul(d, x)",
    "d = Mul(x, c) y = Div(d, two)",
    "d = Div(x, two) y = Mul(c, d)",
]
ERF = ["a = Div(x, root) b = Erf(a)", "a = Mul(inverse, x) b = Erf(a)"]
INNER = [
    "p = Pow(x, three) k = Mul(coefficient, p) s = Add(x, k)",
    "o = Mul(x, x) p = Mul(o, x) k = Mul(p, coefficient) s = Add(k, x)",
    "o = Mul(coefficient, x) p = Mul(x, o) k = Mul(x, p) s = Add(x, k)",
    "o = Mul(x, x) k = Mul(o, coefficient) l = Add(one, k) s = Mul(x, l)",
    "o = Pow(x, two) k = Mul(o, coefficient) l = Add(one, k) s = Mul(x, l)",
]


def fused(nodes: str, opset: int = 20, kind: str = "float", runs: bool = True) -> Applied:
    dtype = {"float": np.float32, "double": np.float64}[kind]
    words = set(re.findall(r"\w+", nodes))
    tensors: dict[str, Any] = {name: np.asarray(one, dtype) for name, one in NUMBERS.items() if name in words}
    head = f'<ir_version: 9, opset_import: ["": {opset}]>'
    before = model(f"{head} g ({kind}[N, 4] x) => ({kind}[N, 4] y) {{ {nodes} }}", **tensors)
    return apply(Gelu(), before, feeds=None if runs else ())


@pytest.mark.parametrize(("core", "gate"), list(itertools.product(ERF, GATES)))
def test_exact(core: str, gate: str) -> None:
    done = fused(f"{core} c = Add(b, one) {gate}")
    assert done.body == "y = Gelu(x)"
    assert not done.after.graph.initializer


@pytest.mark.parametrize(("core", "gate"), [*itertools.product(INNER, GATES[:1]), *itertools.product(INNER[:1], GATES)])
def test_approximated(core: str, gate: str) -> None:
    done = fused(f"{core} a = Mul(slope, s) b = Tanh(a) c = Add(b, one) {gate}")
    assert done.body == "y = Gelu<approximate='tanh'>(x)"


def test_an_older_opset() -> None:
    for opset in (13, 19):
        done = fused(f"{ERF[0]} c = Add(b, one) {GATES[0]}", opset)
        assert not done.applied
        assert_missed(done, "gelu", f"Gelu needs opset 20, the model has {opset}")


def test_the_usual_order() -> None:
    """Where there is no Gelu, the factor of one half goes where it is looked for."""
    done = fused(f"{ERF[0]} c = Add(b, one) {GATES[2]}", 13)
    assert done.body.splitlines()[3:] == ["d_1 = Mul(x, c)", "y = Mul(d_1, half)"]
    assert_missed(done, "gelu", "Gelu needs opset 20")


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        (f"a = Div(x, two) b = Erf(a) c = Add(b, one) {GATES[0]}", "'two' is not 1.41421"),
        (f"{ERF[0]} c = Add(b, off) {GATES[0]}", None),
        (f"{ERF[0]} c = Add(b, one) d = Mul(x, c) y = Mul(d, off)", None),
    ],
)
def test_other_numbers(nodes: str, why: str | None) -> None:
    done = fused(nodes)
    assert not done.applied
    if why is not None:
        assert_missed(done, "gelu", why)


def test_double() -> None:
    done = fused(f"{ERF[0]} c = Add(b, one) {GATES[0]}", kind="double", runs=False)
    assert not done.applied
    assert_missed(done, "gelu", "'x' is double, not float")


def test_a_value_that_others_read() -> None:
    nodes = f"{ERF[0]} c = Add(b, one) d = Mul(x, c) z = Mul(d, half) e = Relu(b) y = Add(z, e)"
    done = fused(nodes)
    assert not done.applied
    assert_missed(done, "gelu", "'b' is also read by Relu")


def test_a_constant_that_adds_axes() -> None:
    nodes = f"{ERF[0]} c = Add(b, one) {GATES[0]}"
    text = f'<ir_version: 9, opset_import: ["": 20]> g (float[4] x) => (float[1, 4] y) {{ {nodes} }}'
    tensors: dict[str, Any] = {name: np.asarray(NUMBERS[name], np.float32) for name in ("root", "one")}
    done = apply(Gelu(), model(text, half=np.full((1, 1), 0.5, np.float32), **tensors))
    assert not done.applied
    assert_missed(done, "gelu", "may be of another shape")


def test_in_a_body() -> None:
    nodes = f"{ERF[0]} c = Add(b, one) d = Mul(x, c) o = Mul(d, half)"
    text = f"""<ir_version: 9, opset_import: ["": 20]> g (bool t, float[4] x) => (float[4] y) {{
        y = If (t) <then_branch = p () => (float[4] o) {{ {nodes} }},
                    else_branch = q () => (float[4] n) {{ n = Neg(x) }}>
    }}"""
    tensors: dict[str, Any] = {name: np.asarray(NUMBERS[name], np.float32) for name in ("root", "one", "half")}
    assert "o = Gelu(x)" in apply(Gelu(), model(text, **tensors)).body


def test_many_nodes_that_are_none() -> None:
    """A long chain of what might be the end of one, with one at its end."""
    links = [f"v{i + 1} = Mul(v{i}, half)" for i in range(300)]
    end = "a = Div(v300, root) b = Erf(a) c = Add(b, one) d = Mul(v300, c) y = Mul(d, half)"
    nodes = f"v0 = Neg(x) {' '.join(links)} {end}"
    assert len(fused(nodes).applied) == 1


@pytest.mark.parametrize(
    "core", [ERF[0], "p = Pow(x, three) k = Mul(coefficient, p) s = Add(x, k) a = Mul(s, slope) b = Tanh(a)"]
)
def test_both_forms_ask_for_the_type_and_the_shape(core: str) -> None:
    nodes = f"{core} c = Add(b, one) {GATES[0]}"
    done = fused(nodes, kind="double", runs="Erf" not in core)
    assert any("is double, not float" in one.why for one in done.missed) and not done.applied
