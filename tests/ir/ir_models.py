"""Small messages that the tests of the graph objects are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from graphopt.ir import Graph, Tensor, decode
from graphopt.ir.store import Store

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Shape = Sequence[int | str | None] | None


def info(name: str, kind: int = FLOAT, shape: Shape = (2,)) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def typed(name: str, kind: onnx.TypeProto) -> ValueInfoProto:
    return helper.make_value_info(name, kind)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """`node("Add", "x w", "y")`; a dash is a slot that is left out."""
    ins, outs = ([("" if name == "-" else name) for name in names.split()] for names in (inputs, outputs))
    return helper.make_node(op, ins, outs, **attributes)


def floats(name: str, *values: float) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values or (1.0, 2.0), np.float32), name)


def body(
    name: str, nodes: list[NodeProto], inputs: Sequence[Any] = (), outputs: Sequence[Any] = (), **rest: Any
) -> Any:
    """A graph; inputs and outputs are messages, or names of float vectors."""
    ins, outs = ([info(one) if isinstance(one, str) else one for one in many] for many in (inputs, outputs))
    return helper.make_graph(nodes, name, ins, outs, **rest)


def model(
    nodes: list[NodeProto],
    inputs: Sequence[Any] = ("x",),
    outputs: Sequence[Any] = ("y",),
    weights: Sequence[TensorProto] = (),
    *,
    opset: int = 21,
    ir: int = 13,
    domains: dict[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    **rest: Any,
) -> ModelProto:
    imports = [helper.make_opsetid("", opset)] if opset else []
    imports += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    graph = body("main", nodes, inputs, outputs, initializer=list(weights), **rest)
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))


def relu(**rest: Any) -> ModelProto:
    """y = Relu(x)."""
    return model([node("Relu", "x", "y", name="only")], **rest)


def with_attribute(attribute: AttributeProto) -> ModelProto:
    """One custom node that has `attribute`."""
    made = model([node("Custom", "x", "y", domain="my")], domains={"my": 1})
    made.graph.node[0].attribute.append(attribute)
    return made


def canonical(proto: Any) -> bytes:
    """What parsing and serializing makes of a message."""
    return bytes(type(proto).FromString(proto.SerializeToString()).SerializeToString())


def from_text(text: str) -> Graph:
    """The graph of a model in ONNX's text form; without a header it is of opset 21."""
    header = '<ir_version: 10, opset_import: ["" : 21]>\n'
    return decode(onnx.parser.parse_model(text if text.lstrip().startswith("<") else header + text), Store())


def value(graph: Graph, name: str) -> Tensor:
    """The tensor of that name that `graph`, or a graph inside of it, declares or reads."""
    return next(scope.tensors()[name] for scope in graph.graphs() if name in scope.tensors())


def shown(graph: Graph) -> list[str]:
    """The nodes of one graph, as `y = Op(x)`."""
    return [
        f"{', '.join(one.name or '-' for one in node.outputs)} = {node.op}"
        f"({', '.join(one.name or '-' for one in node.inputs)})"
        for node in graph.nodes
    ]
