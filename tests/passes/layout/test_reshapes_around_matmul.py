"""reshapes-around-matmul: a product of all axes in place of one of a matrix made for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.layout.reshapes_around_matmul import ReshapesAroundMatmul

W = np.arange(12, dtype=np.float32).reshape(4, 3)
NODES = "a = Reshape(x, s)  b = MatMul(a, w)  y = Reshape(b, t)"


def freed(nodes: str = NODES, ends: str = "(float[N, 2, 4] x) => (float[A, B, C] y)", **weights: Any) -> Applied:
    given: dict[str, Any] = {"w": W, "s": [-1, 4], "t": [-1, 2, 3], **weights}
    arrays = {name: np.array(one, np.int64) if isinstance(one, list) else one for name, one in given.items()}
    return apply(ReshapesAroundMatmul(), model(f"g {ends} {{ {nodes} }}", **arrays))


def test_both_reshapes_go() -> None:
    done = freed()
    assert done.body == "y = MatMul(x, w)" and {one.name for one in done.graph.initializers} == {"w"}


def test_the_first_reshape_stays_for_others() -> None:
    done = freed(NODES + "  z = Neg(a)", "(float[N, 2, 4] x) => (float[A, B, C] y, float[D, E] z)")
    assert done.body == "a = Reshape(x, s)\ny = MatMul(x, w)\nz = Neg(a)"


def test_a_matrix_that_is_computed() -> None:
    done = freed("v = Relu(w)  a = Flatten<axis = 2>(x)  b = MatMul(a, v)  y = Reshape(b, t)")
    assert done.body == "v = Relu(w)\ny = MatMul(x, v)"


@pytest.mark.parametrize(
    ("nodes", "lists", "why"),
    [
        (NODES, {"s": [-1, 4], "t": [2, -1, 3]}, "the reshape behind it does not make [N, 2, 3]"),
        (NODES, {"s": [-1, 2], "w": W[:2]}, "the reshape before it does more than join the first axes"),
        (NODES, {"w": W[None], "t": [-1, 2, 3]}, "its second operand is not a matrix"),
    ],
)
def test_what_stays(nodes: str, lists: dict[str, Any], why: str) -> None:
    done = freed(nodes, **lists)
    assert not done.applied
    assert_missed(done, "around", why)


def test_a_product_that_others_read_stays() -> None:
    done = freed(NODES + "  z = Neg(b)", "(float[N, 2, 4] x) => (float[A, B, C] y, float[D, E] z)")
    assert not done.remarks


def test_inside_bodies() -> None:
    nodes = f"""y = If(c)<then_branch = t () => (float[A, B, C] y1) {{ {NODES.replace("y =", "y1 =")} }},
                          else_branch = e () => (float[D, E, F] y2) {{ y2 = MatMul(x, w) }}>"""
    done = freed(nodes, "(bool c, float[N, 2, 4] x) => (float[G, H, I] y)")
    assert "y1 = MatMul(x, w)" in done.body
