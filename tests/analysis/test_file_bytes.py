"""What is said of bytes holds to the byte: the file is that much longer with it than without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphopt.analysis.file_bytes import (
    constant_node_bytes,
    described_bytes,
    fresh,
    held_bytes,
    initializer_bytes,
    node_bytes,
    plain_bytes,
)
from graphopt.ir import Node, decode
from graphopt.ir.store import Store
from graphopt.testing import model

SHAPES = [(), (1,), (3, 4), (200,), (1, 70, 300)]
NODES = [
    "y = Add(x, x)",
    "[called] y = Add(x, x)",
    "y = Transpose<perm = [1, 0]>(x)",
    "y = Flatten<axis = -1>(x)",
    "y = Flatten<axis = 300>(x)",
    "y = MaxPool<kernel_shape = [1, 200], pads = [0, 1, 2, 3]>(x)",
    "y = Some<alpha = 0.5>(x)",
    'y = Some<mode = "linear">(x)',
    "y = Some<scales = [1.0, 2.0]>(x)",
]


def length(proto: ModelProto, field: str) -> int:
    """Bytes of the graph that the field takes, without the graph's own length prefix."""
    whole = proto.graph.ByteSize()
    proto.graph.ClearField(field)
    return int(whole - proto.graph.ByteSize())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["w", "w" * 130])
def test_an_initializer(shape: tuple[int, ...], name: str) -> None:
    proto = ModelProto()
    values = np.zeros(shape, np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(values, name))
    assert initializer_bytes(name, shape, values.nbytes) == length(proto, "initializer")


@pytest.mark.parametrize("shape", [*SHAPES, (0,)])
def test_a_constant_node(shape: tuple[int, ...]) -> None:
    proto = ModelProto()
    values = np.zeros(shape, np.int64)
    proto.graph.node.append(helper.make_node("Constant", [], ["output"], value=numpy_helper.from_array(values)))
    assert constant_node_bytes("output", shape, values.nbytes) == length(proto, "node")


@pytest.mark.parametrize("raw", [False, True])
def test_an_initializer_as_it_stands(raw: bool) -> None:
    """Small numbers in a field of integers take fewer bytes than they have in memory."""
    proto = model("g (int64[N] x) => (int64[N] y) { y = Add(x, w) }")
    values = np.arange(90, dtype=np.int64)
    held = numpy_helper.from_array(values, "w") if raw else helper.make_tensor("w", TensorProto.INT64, [90], values)
    proto.graph.initializer.append(held)
    (constant,) = decode(proto, Store()).initializers
    assert held_bytes(constant) == length(proto, "initializer")


@pytest.mark.parametrize("shape", SHAPES)
def test_an_initializer_with_new_values(shape: tuple[int, ...]) -> None:
    proto = model("g (float[N] x) => (float[A] y) { y = Add(x, w) }", w=np.ones(shape, np.float32))
    graph = decode(proto, Store())
    (held,) = graph.initializers
    exact = length(proto, "initializer")
    graph.set_values(held, np.zeros(shape, np.float32))
    assert held_bytes(held) == exact


def test_a_constant_node_as_it_stands() -> None:
    proto = model("g (float[N] x) => (float[A] y) { y = Add(x, k) }")
    inside = numpy_helper.from_array(np.ones(30, np.float32))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=inside))
    graph = decode(proto, Store())
    made, result = (one.outputs[0] for one in graph.nodes)
    assert held_bytes(result) == 0, "it is no constant"
    del proto.graph.node[1]
    assert held_bytes(made) == length(proto, "node")


@pytest.mark.parametrize("step", NODES)
def test_a_node_that_is_described(step: str) -> None:
    proto = model(f"g (float[N, M] x) => (float[A, B] y) {{ {step} }}")
    proto.graph.node[0].ClearField("domain")
    (node,) = decode(proto, Store()).nodes
    names = [one.name for one in (*node.inputs, *node.outputs)]
    told = described_bytes(node.op, names, node.attrs, node.name)
    assert told == plain_bytes(node) == node_bytes(node) == length(proto, "node")


@pytest.mark.parametrize(
    "step",
    [
        "y = Add(x, x)",
        "[some_name] y = Transpose<perm = [1, 0]>(x)",
        f"y = Constant<value = float[2, 60] {{{', '.join(['0.5'] * 120)}}}>()",
    ],
)
def test_a_node_as_it_stands(step: str) -> None:
    proto = model(f"g (float[N, M] x) => (float[A, B] y) {{ {step} }}")
    proto.graph.node[0].doc_string = "what it is for"
    (node,) = decode(proto, Store()).nodes
    told = node_bytes(node)
    assert told == length(proto, "node") > plain_bytes(node), "what stays with a node in its place is left out there"
    node.outputs[0].name += "_longer"
    assert node_bytes(node) == told + len("_longer")


def test_a_node_that_was_made() -> None:
    graph = decode(model("g (float[N] x) => (float[N] y) { y = Neg(x) }"), Store())
    made = Node("Softmax", "n", {"axis": 1}, [graph.inputs[0]], [graph.variable("z")])
    proto = ModelProto()
    proto.graph.node.append(helper.make_node("Softmax", ["x"], [made.outputs[0].name], name="n", axis=1))
    assert node_bytes(made) == length(proto, "node")


def test_a_constant_node_whose_values_lie_elsewhere(tmp_path: Path) -> None:
    """It is written with the values in it, once they have been read."""
    (tmp_path / "values.bin").write_bytes(bytes(400))
    proto = model("g (float[100] x) => (float[100] y) { y = Add(x, k) }")
    tensor = TensorProto(data_type=1, dims=[100], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "values.bin"), ("offset", "0"), ("length", "400")):
        tensor.external_data.add(key=key, value=value)
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=tensor))
    node = next(iter(decode(proto, Store(tmp_path)).nodes))
    inside = TensorProto(data_type=1, dims=[100], raw_data=bytes(400))
    plain = helper.make_node("Constant", [], ["k"], value=inside)
    assert 0 <= plain.ByteSize() + 3 - node_bytes(node) <= 8  # what goes is not said to be more than it is


def test_a_fresh_name_is_as_long_as_those_there_are() -> None:
    graph = decode(model("g (float[N] x) => (float[N] y) { y = Neg(x) }"), Store())
    names = [graph.fresh_name("x") for _ in range(20)]
    assert max(map(len, names)) <= len(fresh("x"))
