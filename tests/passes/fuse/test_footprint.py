"""What the fusions say of bytes holds to the byte."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model
from passes.fuse.footprint import bytes_of, bytes_of_constant, constant_bytes


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
    "y = Some<alpha = 0.5>(x)",
    'y = Some<mode = "linear">(x)',
    "y = Some<scales = [1.0, 2.0]>(x)",
]


@pytest.mark.parametrize("step", NODES)
def test_a_node_to_the_byte(step: str) -> None:
    proto = model(f"g (float[N, M] x) => (float[A, B] y) {{ {step} }}")
    proto.graph.node[0].ClearField("domain")
    (node,) = decode(proto, Store()).nodes
    assert bytes_of(node) == length(proto, "node")


@pytest.mark.parametrize("shape", [(), (1,), (200,), (3, 4, 130)])
def test_an_initializer_to_the_byte(shape: tuple[int, ...]) -> None:
    proto = model("g (float[N] x) => (float[A] y) { y = Add(x, w) }", w=np.ones(shape, np.float32))
    (held,) = decode(proto, Store()).initializers
    exact = length(proto, "initializer")
    assert bytes_of_constant(held) == constant_bytes("w", shape, 4 * int(np.prod(shape))) == exact


def test_a_list_to_the_byte() -> None:
    proto = ModelProto()
    proto.graph.initializer.append(numpy_helper.from_array(np.arange(3), "axes"))
    assert constant_bytes("axes", [3], 24) == length(proto, "initializer")
