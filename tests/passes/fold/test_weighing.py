"""What is said of bytes holds to the byte: the file is that much longer with it than without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphopt.analysis.extent import Extent
from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model
from passes.fold.weighing import constant_node_bytes, held_bytes, initializer_bytes, node_bytes

SHAPES = [(), (1,), (3, 4), (200,), (1, 70, 300)]


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
    assert initializer_bytes(name, Extent(1, shape, values.size, values.nbytes)) == length(proto, "initializer")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_node(shape: tuple[int, ...]) -> None:
    proto = ModelProto()
    values = np.zeros(shape, np.float32)
    proto.graph.node.append(helper.make_node("Constant", [], ["output"], value=numpy_helper.from_array(values)))
    extent = Extent(1, shape, values.size, values.nbytes)
    assert constant_node_bytes("output", extent) == length(proto, "node")


@pytest.mark.parametrize("raw", [False, True])
def test_an_initializer_as_it_stands(raw: bool) -> None:
    """Small numbers in a field of integers take fewer bytes than they have in memory."""
    proto = model("g (int64[N] x) => (int64[N] y) { y = Add(x, w) }")
    values = np.arange(90, dtype=np.int64)
    held = numpy_helper.from_array(values, "w") if raw else helper.make_tensor("w", TensorProto.INT64, [90], values)
    proto.graph.initializer.append(held)
    (constant,) = decode(proto, Store()).initializers
    assert held_bytes(constant) == length(proto, "initializer")


@pytest.mark.parametrize(
    "step",
    [
        "y = Add(x, x)",
        "[some_name] y = Transpose<perm = [1, 0]>(x)",
        f"y = Constant<value = float[2, 60] {{{', '.join(['0.5'] * 120)}}}>()",
    ],
)
def test_a_node(step: str) -> None:
    proto = model(f"g (float[N, M] x) => (float[A, B] y) {{ {step} }}")
    (node,) = decode(proto, Store()).nodes
    told = node_bytes(node)
    assert told == length(proto, "node")
    node.outputs[0].name += "_longer"
    assert node_bytes(node) == told + len("_longer")


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
