"""hard-swish: clipped lines, alone and times their input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.hard_swish import HardSwish

SIGMOID = "HardSigmoid<alpha=0.166667, beta=0.5>(x)"


def scalars(**numbers: float) -> dict[str, Any]:
    return {name: np.asarray(number, np.float32) for name, number in numbers.items()}


def fused(nodes: str, opset: int = 13, kind: str = "float", **weights: Any) -> Applied:
    head = f'<ir_version: 8, opset_import: ["": {opset}]>'
    used = {
        name: one for name, one in weights.items() if f"{name})" in nodes or f"{name}," in nodes or f"({name}" in nodes
    }
    return apply(HardSwish(), model(f"{head} g ({kind}[N, 4] x) => ({kind}[N, 4] y) {{ {nodes} }}", **used))


ALL = scalars(k3=3, k0=0, k6=6, r6=1 / 6, k5=5, k1=1, half=0.5)


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Add(x, k3) c = Clip(a, k0, k6) y = Div(c, k6)",
        "a = Add(k3, x) c = Clip(a, k0, k6) y = Mul(c, r6)",
        "m = Mul(x, r6) a = Add(m, half) y = Clip(a, k0, k1)",
        "m = Div(x, k6) a = Add(m, half) y = Clip(a, k0, k1)",
    ],
)
def test_a_clipped_line(nodes: str) -> None:
    done = fused(nodes, **ALL)
    assert done.body == f"y = {SIGMOID}"
    assert not done.after.graph.initializer


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Add(x, k3) c = Clip<min=0.0, max=6.0>(a) y = Div(c, k6)",
        "m = Mul(x, r6) a = Add(m, half) y = Clip<min=0.0, max=1.0>(a)",
    ],
)
def test_limits_as_attributes(nodes: str) -> None:
    assert fused(nodes, opset=10, **ALL).body == f"y = {SIGMOID}"


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Add(x, k3) c = Clip(a, k0, k6) p = Mul(x, c) y = Div(p, k6)",
        "a = Add(k3, x) c = Clip(a, k0, k6) p = Mul(c, x) y = Mul(p, r6)",
        "a = Add(x, k3) c = Clip(a, k0, k6) q = Div(x, k6) y = Mul(q, c)",
        "a = Add(x, k3) c = Clip(a, k0, k6) q = Mul(x, r6) y = Mul(c, q)",
        "a = Add(x, k3) c = Clip(a, k0, k6) d = Div(c, k6) y = Mul(d, x)",
    ],
)
def test_a_line_times_its_input(nodes: str) -> None:
    old, new = fused(nodes, opset=13, **ALL), fused(nodes, opset=14, **ALL)
    assert len(old.body.splitlines()) == 2 and SIGMOID in old.body and "y = Mul(" in old.body
    assert_missed(old, "hard-sigmoid-times-to-hard-swish", "HardSwish needs opset 14, the model has 13")
    assert new.body == "y = HardSwish(x)"


def test_another_slope() -> None:
    assert (
        fused("a = Add(x, k3) c = Clip(a, k0, k5) y = Div(c, k5)", **ALL).body
        == "y = HardSigmoid<alpha=0.2, beta=0.6>(x)"
    )
    other = fused("a = Add(x, k3) c = Clip(a, k0, k5) p = Mul(x, c) y = Div(p, k5)", opset=14, **ALL)
    assert other.body.splitlines()[0].endswith("HardSigmoid<alpha=0.2, beta=0.6>(x)") and "HardSwish" not in other.body


def test_a_limit_that_does_not_fit() -> None:
    done = fused("a = Add(x, k3) c = Clip(a, k0, k5) y = Div(c, k6)", **ALL)
    assert not done.applied
    assert_missed(done, "clip-to-hard-sigmoid", "the upper limit 5 times 0.166667 is not 1")
    assert not fused("a = Add(x, k3) c = Clip(a, k1, k6) y = Div(c, k6)", **ALL).applied


def test_double() -> None:
    weights: dict[str, Any] = {name: one.astype(np.float64) for name, one in ALL.items()}
    done = fused("a = Add(x, k3) c = Clip(a, k0, k6) y = Div(c, k6)", kind="double", **weights)
    assert not done.applied
    assert_missed(done, "clip-to-hard-sigmoid", "'x' is double, not float")


def test_a_constant_that_adds_axes() -> None:
    text = "g (float[4] x) => (float[1, 4] y) { a = Add(x, b) c = Clip(a, k0, k6) y = Div(c, k6) }"
    done = apply(HardSwish(), model(text, b=np.full((1, 1), 3, np.float32), **scalars(k0=0, k6=6)))
    assert not done.applied
    assert_missed(done, "clip-to-hard-sigmoid", "may be of another shape")


def test_a_value_that_others_read() -> None:
    text = "g (float[4] x) => (float[4] y, float[4] c) { a = Add(x, k3) c = Clip(a, k0, k6) y = Div(c, k6) }"
    done = apply(HardSwish(), model(text, **scalars(k3=3, k0=0, k6=6)))
    assert not done.applied
    assert_missed(done, "clip-to-hard-sigmoid", "'c' is a graph output")


def test_in_a_body() -> None:
    nodes = "a = Add(x, k3) c = Clip(a, k0, k6) o = Div(c, k6)"
    done = apply(
        HardSwish(),
        model(
            f"""g (bool t, float[4] x) => (float[4] y) {{
                y = If (t) <then_branch = p () => (float[4] o) {{ {nodes} }},
                            else_branch = q () => (float[4] n) {{ n = Neg(x) }}>
            }}""",
            **scalars(k3=3, k0=0, k6=6),
        ),
    )
    assert f"o = {SIGMOID}" in done.body


def test_nothing_known_of_the_type() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "own": 1]>
    g (float[4] x) => (float[4] y) { y = own.f(x) }
    <domain: "own", opset_import: ["": 21]>
    f (x) => (y) {
        k3 = Constant<value = float {3.0}>() k0 = Constant<value = float {0.0}>() k6 = Constant<value = float {6.0}>()
        a = Add(x, k3) c = Clip(a, k0, k6) y = Div(c, k6)
    }"""
    done = apply(HardSwish(), model(text))
    assert not done.applied
    assert_missed(done, "clip-to-hard-sigmoid", "the element type of 'x' is not known")
