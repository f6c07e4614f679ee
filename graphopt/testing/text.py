"""Models from text, and the nodes of a model as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from graphopt.ir.store import Store
from graphopt.ir.tensors import Stored, to_tensor_proto

HEADER = '<ir_version: 10, opset_import: ["": 21]>'
"""What a text without a header of its own begins with."""

_OWN_HEADER = re.compile(r"\s*<[^>]*\bir_version\b")
_SHOWN = 8  # elements of a tensor attribute that are shown; of longer ones only dtype and shape

A = AttributeProto


def model(text: str, /, **weights: Any) -> ModelProto:
    """A model from ONNX's textual syntax (see `onnx.parser`), with initializers from arrays.

    `text` is a graph such as `g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }`, then perhaps
    functions; `HEADER` is put in front unless it brings one (`<ir_version: 10, ...>`). Each weight
    becomes an initializer of that name of the main graph, with the dtype of the array; where an
    input has the same name, it becomes the default of that input.

    Raises ValueError when the text cannot be parsed or a weight is declared twice.
    """
    source = text if _OWN_HEADER.match(text) else f"{HEADER} {text}"
    try:
        made = onnx.parser.parse_model(source)
    except onnx.parser.ParseError as error:
        raise ValueError(f"the text of the model cannot be parsed: {' '.join(str(error).split())}") from None
    known = {one.name for one in made.graph.initializer}
    for name, values in weights.items():
        if name in known:
            raise ValueError(f"the text declares the initializer {name!r} already")
        made.graph.initializer.append(to_tensor_proto(name, np.asarray(values)))
    return made


def body(proto: ModelProto) -> str:
    """The nodes of `proto`, one a line, without their names and without initializers.

    A node is `y, z = domain.Op<key=value>(a, , b)`: attributes in alphabetical order, a left out
    slot empty, the default domain not written. The bodies of a node follow it, indented, each
    below `key: (inputs) => (outputs)`; functions follow the main graph, each below
    `function domain.name (inputs) => (outputs)`. There is no newline at the end.
    """
    lines = list(_nodes(proto.graph.node, ""))
    for function in proto.functions:
        head = f"function {function.domain}.{function.name}"
        attributes = sorted([*function.attribute, *(one.name for one in function.attribute_proto)])
        head += f"<{', '.join(attributes)}>" if attributes else ""
        lines.append(f"{head} ({', '.join(function.input)}) => ({', '.join(function.output)})")
        lines += _nodes(function.node, "  ")
    return "\n".join(lines)


def _nodes(nodes: Iterable[NodeProto], indent: str) -> Iterator[str]:
    for node in nodes:
        plain = sorted((a for a in node.attribute if a.type not in (A.GRAPH, A.GRAPHS)), key=lambda a: a.name)
        attributes = ", ".join(f"{a.name}={_attribute(a)}" for a in plain)
        domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
        overload = f":{node.overload}" if node.overload else ""
        call = f"{domain}{node.op_type}{overload}{f'<{attributes}>' if attributes else ''}({', '.join(node.input)})"
        yield f"{indent}{', '.join(node.output)} = {call}"
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            for graph in [attribute.g] if attribute.type == A.GRAPH else attribute.graphs:
                yield from _body(attribute.name, graph, indent + "  ")


def _body(name: str, graph: GraphProto, indent: str) -> Iterator[str]:
    ins, outs = ([one.name for one in ends] for ends in (graph.input, graph.output))
    yield f"{indent}{name}: ({', '.join(ins)}) => ({', '.join(outs)})"
    yield from _nodes(graph.node, indent + "  ")


def _attribute(attribute: AttributeProto) -> str:
    if attribute.ref_attr_name:
        return f"@{attribute.ref_attr_name}"
    if attribute.type == A.TENSOR:
        return _tensor(attribute.t)
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return repr(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return str(value)
    if attribute.type in (A.INTS, A.FLOATS):
        return f"[{', '.join(f'{one:g}' if isinstance(one, float) else str(one) for one in value)}]"
    if attribute.type == A.STRINGS:
        return f"[{', '.join(repr(one.decode('utf-8', 'backslashreplace')) for one in value)}]"
    return f"({A.AttributeType.Name(attribute.type).lower()})"


def _tensor(tensor: TensorProto) -> str:
    head = f"{TensorProto.DataType.Name(tensor.data_type).lower()}[{','.join(map(str, tensor.dims))}]"
    values = Stored(tensor, Store())
    if int(np.prod(tensor.dims, dtype=np.int64)) > _SHOWN:
        return head
    return f"{head} {{{', '.join(str(one) for one in values.load().ravel().tolist())}}}"
