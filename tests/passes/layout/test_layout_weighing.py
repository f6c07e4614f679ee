"""What the layout passes say of bytes: as many for what is new as it takes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model
from passes.layout import weighing


def length(proto: ModelProto, field: str) -> int:
    whole = proto.graph.ByteSize()
    proto.graph.ClearField(field)
    return int(whole - proto.graph.ByteSize())


NODES = [
    "y = Add(x, x)",
    "[called] y = Add(x, x)",
    "y = Transpose<perm = [1, 0]>(x)",
    "y = Flatten<axis = -1>(x)",
    "y = Flatten<axis = 300>(x)",
    "y = MaxPool<kernel_shape = [1, 200], pads = [0, 1, 2, 3]>(x)",
]


@pytest.mark.parametrize("step", NODES)
def test_a_node_to_the_byte(step: str) -> None:
    proto = model(f"g (float[N, M] x) => (float[A, B] y) {{ {step} }}")
    proto.graph.node[0].ClearField("domain")
    (node,) = decode(proto, Store()).nodes
    assert weighing.node_bytes(node) == length(proto, "node")


@pytest.mark.parametrize("size", [0, 1, 4, 20])
def test_a_list(size: int) -> None:
    proto = ModelProto()
    held = numpy_helper.from_array(np.arange(size), "axes")
    proto.graph.initializer.append(held)
    told = weighing.list_bytes("axes", size, as_node=False)
    assert told == length(proto, "initializer")
    inside = numpy_helper.from_array(np.arange(size))
    proto.graph.node.append(helper.make_node("Constant", [], ["axes"], value=inside))
    assert weighing.list_bytes("axes", size, as_node=True) == length(proto, "node")


@pytest.mark.parametrize("shape", [(), (3,), (3, 4)])
def test_what_is_held_is_not_told_to_be_more_than_it_is(shape: tuple[int, ...]) -> None:
    """An initializer as it was read or made, and a Constant node."""
    proto = model("g (float[N] x) => (float[A] y) { k = Constant<value_int = 3>()  y = Add(x, w) }",
                  w=np.ones(shape, np.float32))  # fmt: skip
    graph = decode(proto, Store())
    (held,) = graph.initializers
    exact = length(proto, "initializer")
    assert weighing.held_bytes(held) == exact
    graph.set_values(held, np.zeros(shape, np.float32))
    assert exact - 4 <= weighing.held_bytes(held) <= exact
    assert weighing.held_bytes(graph.nodes[1].outputs[0]) == 0


def test_a_constant_node_that_is_held() -> None:
    proto = model("g (float[N] x) => (float[A] y) { y = Add(x, k) }")
    inside = numpy_helper.from_array(np.ones(30, np.float32))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=inside))
    made = decode(proto, Store()).nodes[0].outputs[0]
    exact = proto.graph.node[0].ByteSize() + 3
    assert exact - 16 <= weighing.held_bytes(made) <= exact
