"""Small models for the table of hostile ones, and protobuf's wire format for what its bindings refuse to write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
node = helper.make_node
Shape = Sequence[int | str | None] | None


def port(name: str, shape: Shape = (2, 3), kind: int = FLOAT) -> ValueInfoProto:
    """An input or output; `shape` None leaves even the rank open."""
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, values: ArrayLike) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def floats(name: str, *values: float) -> TensorProto:
    return tensor(name, np.array(values, np.float32))


def ints(name: str, *values: int) -> TensorProto:
    return tensor(name, np.array(values, np.int64))


def scalar(name: str, value: float) -> TensorProto:
    return tensor(name, np.float32(value))


def whole(
    nodes: Iterable[NodeProto], weights: Iterable[TensorProto] = (), *, inputs: Sequence[ValueInfoProto] | None = None,
    outputs: Sequence[ValueInfoProto] | None = None, opset: int = 17, ir: int = 8, domains: Sequence[str] = (),
    functions: Sequence[FunctionProto] = (), **more: Any,
) -> ModelProto:  # fmt: skip
    """A model from `x` to `y`, both floats of two rows and three columns unless said otherwise."""
    graph = helper.make_graph(
        list(nodes), "g", [port("x")] if inputs is None else list(inputs),
        [port("y")] if outputs is None else list(outputs), list(weights), **more,
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(one, 1) for one in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=ir)


def body(
    nodes: Iterable[NodeProto], inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto],
    weights: Iterable[TensorProto] = (),
) -> GraphProto:  # fmt: skip
    return helper.make_graph(list(nodes), "body", list(inputs), list(outputs), list(weights))


def function(
    name: str, nodes: Iterable[NodeProto], inputs: Sequence[str] = ("a",), outputs: Sequence[str] = ("r",)
) -> FunctionProto:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, list(inputs), list(outputs), list(nodes), imports)


def call(name: str, given: str, made: str) -> NodeProto:
    """A node that calls a function of the model."""
    return node(name, [given], [made], domain="own")


def plain() -> ModelProto:
    """A model that nothing is wrong with."""
    weight = np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3)
    return whole([node("MatMul", ["x", "w"], ["t"], "mm"), node("Relu", ["t"], ["y"], "act")], [tensor("w", weight)])


def save(folder: Path, model: ModelProto | bytes) -> None:
    (folder / "model.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())


def outside(name: str, **said: object) -> TensorProto:
    """A tensor of floats that has its values in an external file: `said` are its entries."""
    made = TensorProto(name=name, dims=[16], data_type=FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in said.items():
        made.external_data.add(key=key, value=str(value))
    return made


def reading(weight: TensorProto) -> ModelProto:
    """A model of 16 floats that adds `weight`, called w."""
    return whole(
        [node("Add", ["x", "w"], ["a"]), node("Identity", ["a"], ["y"])], [weight],
        inputs=[port("x", (16,))], outputs=[port("y", (16,))],
    )  # fmt: skip


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def part(number: int, content: bytes) -> bytes:
    """A field that holds bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def framed(graph: bytes, opset: int = 17, ir: int = 8) -> bytes:
    """The bytes of a model around those of a graph."""
    return number(1, ir) + part(7, graph) + part(8, part(1, b"") + number(2, opset))
