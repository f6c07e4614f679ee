"""Values that are known before the model runs."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.analysis.constants import constant_node, constant_of, constant_values
from graphopt.ir import Constant, Graph, Tensor, decode
from graphopt.ir.store import Store
from graphopt.testing import model


def graph(nodes: str, inputs: str = "float[N] x", **weights: object) -> Graph:
    return decode(model(f"g ({inputs}) => (float[N] y) {{ {nodes} y = Relu(x) }}", **weights), Store())


def made(root: Graph, index: int = 0) -> Tensor:
    found: Tensor = root.nodes[index].outputs[0]
    return found


@pytest.mark.parametrize(
    ("attribute", "dtype", "expected"),
    [
        ("value = float[2] {1.5, -2}", np.float32, [1.5, -2]),
        ("value_int = 7", np.int64, 7),
        ("value_ints = [1, -2]", np.int64, [1, -2]),
        ("value_float = 0.5", np.float32, 0.5),
        ("value_floats = [0.5, 2.0]", np.float32, [0.5, 2]),
    ],
)
def test_constant_nodes(attribute: str, dtype: type, expected: object) -> None:
    root = graph(f"k = Constant<{attribute}>()")
    values = constant_values(made(root))
    assert values is not None and values.dtype == dtype and values.tolist() == expected
    assert constant_node(made(root)) is root.nodes[0]
    held = constant_of(made(root))
    assert isinstance(held, Constant) if attribute.startswith("value =") else held is None


def test_initializers() -> None:
    root = graph("a = Add(x, w)", w=np.float32(2))
    weight: Tensor = root.nodes[0].inputs[1]
    values = constant_values(weight)
    assert constant_node(weight) is None and values is not None and values == 2
    assert constant_of(weight) is weight


def test_what_is_not_known() -> None:
    root = graph('a = Add(x, w)  k = Constant<value_string = "t">()', "float[N] x, float w", w=np.float32(2))
    assert constant_values(root.nodes[0].inputs[0]) is None  # an input
    assert constant_values(root.nodes[0].inputs[1]) is None  # an input with a default
    assert constant_values(made(root, 0)) is None  # computed
    assert constant_values(made(root, 1)) is None  # a text


def test_a_constant_that_its_function_is_called_with() -> None:
    proto = model(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N] x) => (float[N] y) { y = local.f<v = 3, w = 0.5>(x) }
        <domain: "local", opset_import: ["": 21]>
        f <v, w> (a) => (b) {
            k = Constant<value_int: int = @v>()  l = Constant<value_float: float = @w>()
            m = Constant<value_ints: ints = @v>()  n = Constant<value: tensor = @v>()  b = Neg(a)
        }"""
    )
    for node in list(decode(proto, Store()).functions[0].nodes)[:4]:
        assert constant_values(node.outputs[0]) is None


def test_a_constant_of_another_domain() -> None:
    text = (
        '<ir_version: 10, opset_import: ["": 21, "acme": 1]> g () => (float y) { y = acme.Constant<value_int = 1>() }'
    )
    assert constant_values(made(decode(model(text), Store()))) is None
