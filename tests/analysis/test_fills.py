"""Values that are one number everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.analysis.fills import fill_of
from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model


def filled(nodes: str, **weights: object) -> float | None:
    graph = decode(model(f"g (int64[2] s, float[4] x) => (float[A] y) {{ {nodes}  y = Relu(z) }}", **weights), Store())
    found = fill_of(graph.tensors()["z"])
    return None if found is None else float(found[0])


@pytest.mark.parametrize(
    ("nodes", "number"),
    [
        ("z = ConstantOfShape(s)", 0.0),
        ("z = ConstantOfShape<value = float[1] {2.5}>(s)", 2.5),
        ("a = ConstantOfShape<value = float[1] {2.5}>(s)  b = Transpose(a)  z, c = Split<num_outputs = 2>(b)", 2.5),
        ("z = Expand(k, s)", 3.0),
        ("z = Constant<value_floats = [1.5, 1.5]>()", 1.5),
        ("a = ConstantOfShape(s)  z = Exp(a)", None),
        ("z = Identity(x)", None),
        ("z = Expand(m, s)", None),
        ("z = Constant<value_floats = [0.0, -0.0]>()", None),
    ],
)
def test_what_is_seen(nodes: str, number: float | None) -> None:
    assert filled(nodes, k=np.full((1, 1), 3, np.float32), m=np.array([[1, 2]], np.float32)) == number
