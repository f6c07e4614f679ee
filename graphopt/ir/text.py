"""A model as text, one node a line, with weights as dtype, shape and a short hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from graphopt.ir.attributes import Opaque
from graphopt.ir.graph import Function, Graph
from graphopt.ir.node import Node
from graphopt.ir.values import Constant, Tensor

_SMALL = 8  # elements that are shown rather than hashed


def to_text(graph: Graph) -> str:
    """The whole model: main graph, then functions; stable, so that two texts can be compared."""
    lines = [f"opset {graph.opset}, ir {graph.ir_version}"]
    lines += _lines(graph, "graph", "")
    for function in graph.functions:
        attrs = f"<{', '.join(function.attrs)}>" if function.attrs else ""
        lines += _lines(function, f"function {function.domain}.", attrs)
    return "\n".join(lines) + "\n"


def node_lines(node: Node) -> list[str]:
    """A node as it stands in the text of its model, bodies included, without the indent of its place."""
    return list(_node(node, ""))


def initializer_line(constant: Constant) -> str:
    """An initializer as it stands in the text of its model."""
    return f"{constant.name} = {_value(constant)}"


def declared(tensor: Tensor) -> str:
    """An input or output of a graph as it stands in the text of its model: dtype, shape and name."""
    return _declared(tensor)


def content(value: Any) -> str:
    """A constant or the value of an attribute as text that is equal for equal values; of weights a hash."""
    return _value(value)


def _lines(graph: Graph, kind: str, attrs: str, indent: str = "") -> Iterator[str]:
    ins = ", ".join(_declared(one) for one in graph.inputs)
    outs = ", ".join(_declared(one) for one in graph.outputs)
    name = graph.name if isinstance(graph, Function) else f" {graph.name}"
    yield f"{indent}{kind}{name}{attrs} ({ins}) -> ({outs}) {{"
    for constant in graph.initializers.declared():
        yield f"{indent}  {constant.name} = {_value(constant)}"
    for node in graph.nodes:
        yield from _node(node, indent + "  ")
    yield f"{indent}}}"


def _node(node: Node, indent: str) -> Iterator[str]:
    plain = {k: v for k, v in node.attrs.items() if not _is_graph(v)}
    shown = ", ".join(f"{key}={_value(value)}" for key, value in plain.items())
    outs = ", ".join(out.name or "_" for out in node.outputs)
    ins = ", ".join(one.name or "_" for one in node.inputs)
    domain = "" if node.is_standard else f"{node.domain}."
    label = f"  # {node.name}" if node.name else ""
    yield f"{indent}{outs} = {domain}{node.op}{f'<{shown}>' if shown else ''}({ins}){label}"
    for key, value in node.attrs.items():
        if _is_graph(value):
            for body in value if isinstance(value, list) else [value]:
                yield from _lines(body, f"{key}:", "", indent + "  ")


def _is_graph(value: Any) -> bool:
    return isinstance(value, gs.Graph) or (isinstance(value, list) and bool(value) and isinstance(value[0], gs.Graph))


def _declared(tensor: Tensor) -> str:
    shape = tensor.shape
    dims = "?" if shape is None else ",".join("?" if dim is None else str(dim) for dim in shape)
    return f"{_dtype(tensor.onnx_dtype)}[{dims}] {tensor.name}"


def _value(value: Any) -> str:
    if isinstance(value, Opaque):
        return f"({type(value.proto).__name__} {value.proto.type})"
    if not isinstance(value, Constant):
        return repr(value)
    shape = ",".join(str(dim) for dim in value.shape)
    head = f"{_dtype(value.onnx_dtype)}[{shape}]"
    values = value.values
    if values.size <= _SMALL:
        return f"{head} {{{', '.join(str(one) for one in values.ravel().tolist())}}}"
    if values.dtype == object:
        data = memoryview(repr(values.tolist()).encode())
    else:
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data  # of the file, where it lies in one
    digest = hashlib.sha256(data).hexdigest()[:12]
    value.forget()
    return f"{head} #{digest}"


def _dtype(number: int) -> str:
    return TensorProto.DataType.Name(number).lower() if number else "?"
