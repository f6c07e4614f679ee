"""New nodes in the place of a group of nodes."""

from __future__ import annotations

import numpy as np

from graphopt.ir import Graph, Node, decode, encode
from graphopt.ir.store import Store
from graphopt.ir.supersede import supersede
from graphopt.testing import body, model


def graph(nodes: str, **weights: object) -> Graph:
    return decode(model(f"g (float[N] x) => (float[N] y) {{ {nodes} }}", **weights), Store())


def test_the_new_node_makes_what_the_root_made() -> None:
    root = graph("a = Neg(x) b = Relu(a) y = Mul(b, k)", k=np.float32(2))
    first, second, last = root.nodes
    output = last.outputs[0]
    supersede(last, [first, second, last], [Node("Abs", "", {}, [root.inputs[0]], [])])
    assert body(encode(root).proto) == "y = Abs(x)"
    assert root.outputs[0] is output and not list(root.initializers)


def test_constants_that_others_need_stay() -> None:
    root = graph("c = Constant<value_float = 1.0>() a = Mul(x, k) b = Add(a, c) y = Mul(b, k)", k=np.float32(2))
    nodes = list(root.nodes)
    supersede(nodes[2], nodes[1:3], [Node("Abs", "", {}, [root.inputs[0]], [])])
    assert body(encode(root).proto) == "b = Abs(x)\ny = Mul(b, k)"
    needed = graph("y = Mul(x, k)", k=np.float32(2))
    supersede(needed.nodes[0], [needed.nodes[0]], [Node("Abs", "", {}, [needed.inputs[0]], [])], lambda _: True)
    assert [one.name for one in needed.initializers] == ["k"]


def test_several_new_nodes() -> None:
    root = graph("a = Neg(x) y = Relu(a)")
    value = root.variable("v")
    new = [Node("Abs", "", {}, [root.inputs[0]], [value]), Node("Sqrt", "", {}, [value], [])]
    supersede(root.nodes[1], list(root.nodes), new)
    assert body(encode(root).proto) == "v = Abs(x)\ny = Sqrt(v)"
