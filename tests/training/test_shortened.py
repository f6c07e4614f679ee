"""Chains that become one step: the same values, and only where nobody else reads what is in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from graphopt.testing.text import model
from graphopt.training.program import Program

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

X = torch.linspace(-3, 3, 12).reshape(3, 4)
SCALARS = {"root": np.float32(2**0.5), "half": np.float32(0.5), "one": np.float32(1), "part": np.float32(0.5**0.5)}


def steps_of(program: Program) -> int:
    return len(next(iter(program._plans.values())).steps)


def run(nodes: str, wanted: Sequence[str] = (), **weights: Any) -> tuple[Any, int]:
    used = {name: one for name, one in SCALARS.items() if name in nodes}
    program = Program.of(model(f"g (float[3, 4] x) => (float[A, B] y) {{ {nodes} }}", **used, **weights))
    made = program({"x": X}, wanted=wanted)
    return made["y"], steps_of(program)


@pytest.mark.parametrize(
    "nodes",
    [
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
        "d = Mul(part, x) e = Erf(d) a = Add(one, e) m = Mul(a, x) y = Mul(half, m)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(a, half) y = Mul(x, m)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) h = Mul(x, half) y = Mul(h, a)",
    ],
)
def test_gelu_written_out_is_one_step(nodes: str) -> None:
    y, steps = run(nodes)
    torch.testing.assert_close(y, torch.nn.functional.gelu(X))
    assert steps == 1


@pytest.mark.parametrize(
    "nodes",
    [
        "d = Div(x, half) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) a = Add(e, half) m = Mul(x, a) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, one)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, m)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(d, a) y = Mul(m, half)",
        "d = Div(root, x) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) a = Add(e, e) m = Mul(x, a) y = Mul(m, half)",
    ],
)
def test_what_only_looks_like_gelu_is_left(nodes: str) -> None:
    assert run(nodes)[1] == 5


def test_gelu_that_is_read_inside_is_left() -> None:
    nodes = "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)"
    for name in ("d", "e", "a", "m"):
        assert run(nodes, wanted=[name])[1] == 5
    y, steps = run(f"{nodes.replace('y =', 'g =')} y = Add(g, e)")
    torch.testing.assert_close(y, torch.nn.functional.gelu(X) + torch.erf(X / 2**0.5))
    assert steps == 6


def test_trained_scalars_are_left() -> None:
    nodes = "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)"
    program = Program.of(model(f"g (float[3, 4] x) => (float[A, B] y) {{ {nodes} }}", **SCALARS))
    program.parameters["half"].requires_grad_(True)
    program({"x": X})["y"].sum().backward()
    assert program.parameters["half"].grad is not None


W, BIAS = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([5, 7], np.float32)


@pytest.mark.parametrize("nodes", ["m = MatMul(x, w) y = Add(m, b)", "m = MatMul(x, w) y = Add(b, m)"])
def test_a_product_takes_its_bias(nodes: str) -> None:
    y, steps = run(nodes, w=W, b=BIAS)
    torch.testing.assert_close(y, X @ torch.from_numpy(W) + torch.from_numpy(BIAS))
    assert steps == 1


@pytest.mark.parametrize("bias", [np.float32(3), np.ones((1,), np.float32), np.arange(3, dtype=np.float32)[:, None]])
def test_biases_of_other_shapes(bias: Any) -> None:
    y, steps = run("m = MatMul(x, w) y = Add(m, b)", w=W, b=bias)
    torch.testing.assert_close(y, X @ torch.from_numpy(W) + torch.from_numpy(np.asarray(bias)))
    assert steps == 1


def test_products_that_others_read_are_left() -> None:
    assert run("m = MatMul(x, w) y = Add(m, b)", wanted=["m"], w=W, b=BIAS)[1] == 2
    assert run("m = MatMul(x, w) y = Add(m, m)", w=W)[1] == 2
    assert run("m = MatMul(x, w) r = Relu(m) y = Add(m, r)", w=W)[1] == 3


def test_gradients_reach_weight_and_bias() -> None:
    program = Program.of(model("g (float[3, 4] x) => (float[A, B] y) { m = MatMul(x, w) y = Add(m, b) }", w=W, b=BIAS))
    for one in program.parameters.values():
        one.requires_grad_(True)
    program({"x": X})["y"].sum().backward()
    assert program.parameters["b"].grad.tolist() == [3, 3]
    torch.testing.assert_close(program.parameters["w"].grad, X.sum(0)[:, None].expand(4, 2))
