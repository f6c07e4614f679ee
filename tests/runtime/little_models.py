"""Models of a node or two for the worker to run."""

from __future__ import annotations

import onnx
from onnx import TensorProto, TypeProto, ValueInfoProto, helper


def parsed(body: str) -> bytes:
    """A model from the text of its graph (ONNX's own syntax), opset 17."""
    return serialized(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {body}'))


def serialized(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())


def one_node(node: onnx.NodeProto, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> bytes:
    """A model of one node, opset 25 (every element type) and ai.onnx.ml 3."""
    graph = helper.make_graph([node], "g", inputs, outputs)
    opsets = [helper.make_opsetid("", 25), helper.make_opsetid("ai.onnx.ml", 3)]
    return serialized(helper.make_model(graph, opset_imports=opsets, ir_version=13))


def identity(kind: int | TypeProto) -> bytes:
    """y = Identity(x), of an element type (tensors of any shape) or of a type."""
    ports = [tensor(name, kind) if isinstance(kind, int) else helper.make_value_info(name, kind) for name in "xy"]
    return one_node(helper.make_node("Identity", ["x"], ["y"]), ports[:1], ports[1:])


def cast(source: int, target: int) -> bytes:
    """y = Cast(x)."""
    node = helper.make_node("Cast", ["x"], ["y"], to=target)
    return one_node(node, [tensor("x", source)], [tensor("y", target)])


def tensor(name: str, element: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, None)


DOUBLE = parsed("g (float[N] x) => (float[N] y) { y = Add(x, x) }")

# 2**40 turns of an empty loop: hours.
ENDLESS = parsed(
    """g (float x) => (float y) {
      turns = Constant <value_int = 1099511627776> ()
      go = Constant <value = bool {1}> ()
      y = Loop (turns, go, x) <body = b (int64 i, bool c, float v) => (bool d, float w) {
        d = Identity (c)
        w = Add (v, v)
      }>
    }"""
)

# n floats, of which one number comes out.
EXPAND = parsed(
    """g (int64[1] n) => (float y) {
      one = Constant <value_float = 1.0> ()
      wide = Expand (one, n)
      y = ReduceMax <keepdims = 0> (wide)
    }"""
)

RESHAPE = serialized(
    helper.make_model(
        helper.make_graph(
            [helper.make_node("Reshape", ["x", "s"], ["y"], name="first/reshape")],
            "g",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"]),
                helper.make_tensor_value_info("s", TensorProto.INT64, ["M"]),
            ],
            [tensor("y", TensorProto.FLOAT)],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
)
