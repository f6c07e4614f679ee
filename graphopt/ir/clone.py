"""Copies of graphs, bodies and nodes: new nodes and tensors, shared weights, nothing lost."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

from graphopt.ir.attributes import Attrs
from graphopt.ir.node import Node
from graphopt.ir.values import Constant, Tensor, Variable

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

Map = dict[Any, Any]  # old tensor -> new tensor


def clone_graph(graph: Graph, by_name: dict[str, Tensor]) -> Graph:
    """Copy a graph with the bodies in it; captured values stay shared unless `by_name` maps them.

    The copy of a main graph has copies of the model's functions.
    """
    mapping: Map = {}
    if by_name:
        mapping = {
            tensor: by_name[tensor.name]
            for inner in graph.graphs()
            for node in inner.nodes
            for tensor in node.inputs
            if tensor.name in by_name
        }
    made = _graph(graph, mapping)
    made.__dict__["parent"] = None
    if graph.root is graph:
        made.__dict__["_functions"] = [_graph(function, {}) for function in graph.functions]
        for function in made.__dict__["_functions"]:
            function.__dict__["parent"] = made
    return made


def clone_node(node: Node, inputs: list[Tensor], outputs: list[Tensor], by_name: dict[str, Tensor]) -> Node:
    """A node of the same operator and attributes on other tensors; bodies are copied."""
    return _node(node, inputs, outputs, {t: by_name[t.name] for t in node.inputs if t.name in by_name})


def _graph(graph: Graph, mapping: Map) -> Graph:
    from graphopt.ir.graph import Function, Graph

    made: Graph = type(graph).__new__(type(graph))
    shell = Function(graph.name) if isinstance(graph, Function) else Graph(name=graph.name)
    made.__dict__.update(shell.__dict__)
    for key in ("doc_string", "opset", "ir_version", "producer_name", "producer_version", "name_idx"):
        made.__dict__[key] = graph.__dict__[key]
    for key in ("domain", "attrs", "overload"):
        if key in graph.__dict__:
            made.__dict__[key] = copy.copy(graph.__dict__[key])
    made.__dict__["import_domains"] = [copy.copy(one) for one in graph.import_domains or ()]
    for owned in (made.nodes, made.outputs, made.initializers):
        owned.owner = made
    for variable in graph.inputs:
        made.inputs.append(_tensor(variable, mapping))
    for constant in graph.initializers.declared():
        default_of = constant.__dict__.get("default_of")
        if default_of is None:
            made.initializers.add(_tensor(constant, mapping))
        else:
            made.initializers.add_default(constant.copy(), mapping[default_of])
    nodes = list(graph.nodes)
    for node in nodes:
        for output in node.outputs:
            _tensor(output, mapping)
    for node in nodes:
        ins = [_local(tensor, mapping) for tensor in node.inputs]
        made.nodes.append(_node(node, ins, [mapping[t] for t in node.outputs], mapping))
    made.outputs.extend(_local(tensor, mapping) for tensor in graph.outputs)
    if graph.origin is not None:
        made.__dict__["_origin"] = _origin(graph.origin, mapping)
    return made


def _origin(origin: Any, mapping: Map) -> Any:
    new = copy.copy(origin)
    new.infos = [(info, mapping.get(tensor)) for info, tensor in origin.infos]
    new.outputs = [(info, mapping.get(tensor, tensor)) for info, tensor in origin.outputs]
    new.annotated = {name: mapping.get(tensor, tensor) for name, tensor in origin.annotated.items()}
    return new


def _tensor(tensor: Any, mapping: Map) -> Any:
    if tensor not in mapping:
        if isinstance(tensor, Constant):
            mapping[tensor] = tensor.copy()
        else:
            new = Variable.declared(tensor.name, tensor.__dict__.get("_info"))
            for key in ("_dtype", "_shape", "_kind"):
                if key in tensor.__dict__:
                    new.__dict__[key] = copy.copy(tensor.__dict__[key])
            mapping[tensor] = new
    return mapping[tensor]


def _local(tensor: Any, mapping: Map) -> Any:
    if not tensor.name:
        return Variable.empty()
    return mapping.get(tensor, tensor)


def _node(node: Node, inputs: list[Any], outputs: list[Any], mapping: Map) -> Node:
    made = Node(node.op, node.name, None, inputs, outputs, node.domain)
    made.__dict__["_proto"] = node.proto
    made.__dict__["_store"] = node.__dict__.get("_store")
    old: Attrs | None = node.__dict__["_attrs"]
    if old is None:
        made.__dict__["_attrs"] = None
        return made
    new = Attrs({}, like=old)
    new._given = dict(old._given)
    for key, value in old.items():
        if isinstance(value, gs.Graph):
            new[key] = _body(value, made, mapping)
        elif isinstance(value, list) and value and isinstance(value[0], gs.Graph):
            new[key] = [_body(one, made, mapping) for one in value]
        elif isinstance(value, list | Constant):
            new[key] = value.copy()
            if new._given.get(key) is value:
                new._given[key] = new[key]
        else:
            new[key] = value
    made.__dict__["_attrs"] = new
    return made


def _body(body: Any, parent: Node, mapping: Map) -> Any:
    made = _graph(body, dict(mapping))
    made.__dict__["parent"] = parent
    return made
