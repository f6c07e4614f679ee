"""Copies of graphs, bodies and nodes: new nodes and tensors, shared weights, nothing lost."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

from graphopt.ir.garbage import collector_paused
from graphopt.ir.node import Node
from graphopt.ir.order import reads
from graphopt.ir.settle import settle
from graphopt.ir.values import Constant, Tensor, Variable

if TYPE_CHECKING:
    from graphopt.ir.decode import Origin
    from graphopt.ir.graph import Graph

_SETTINGS = ("doc_string", "ir_version", "producer_name", "producer_version", "name_idx")


def clone_graph(graph: Graph, by_name: dict[str, Tensor]) -> Graph:
    """Copy a graph with the bodies in it; captured values stay shared unless `by_name` maps them.

    The copy of a main graph has copies of the model's functions, and shares nothing but weights.
    """
    from graphopt.ir.graph import Function

    with collector_paused():
        whole = graph.root is graph
        if whole:
            settle(graph)
        made = _Copies(captures=not (whole or isinstance(graph, Function)))
        if by_name:
            made.tensors.update((one, by_name[one.name]) for one in _captured(graph) if one.name in by_name)
        clone = made.graph(graph)
        if whole:
            functions: list[Any] = clone.__dict__["_functions"]
            for function in graph.functions:
                functions.append(_Copies(captures=False).graph(function))
                functions[-1].__dict__["parent"] = clone
        return clone


def clone_node(node: Node, inputs: list[Tensor], outputs: list[Tensor], by_name: dict[str, Tensor]) -> Node:
    """A node of the same operator and attributes on other tensors; bodies are copied, and outer
    values that they capture are replaced by name."""
    made = _Copies(captures=True)
    if by_name:
        made.tensors.update(
            (one, by_name[one.name]) for body in node.bodies for one in _captured(body) if one.name in by_name
        )
    return made.node(node, inputs, outputs)


def _captured(graph: Graph) -> set[Tensor]:
    """What `graph` and its bodies read and do not declare."""
    inside = list(graph.graphs())
    read = {one for scope in inside for node in scope.nodes for one in reads(node)}
    own: set[Tensor] = set()
    for scope in inside:
        read.update(scope.outputs)
        own.update(scope.inputs, scope.initializers)
        own.update(output for node in scope.nodes for output in node.outputs)
    return read - own


class _Copies:
    """The tensors that stand for old ones while one graph is copied.

    With `captures`, a tensor that nothing stands for is an outer one and stays shared; without,
    it is one that nobody declares, and is copied as such.
    """

    def __init__(self, captures: bool) -> None:
        self.tensors: dict[Any, Any] = {}
        self.captures = captures

    def graph(self, graph: Graph) -> Graph:
        from graphopt.ir.graph import Function, Graph

        made: Graph
        if isinstance(graph, Function):
            made = Function(graph.name, graph.domain, overload=graph.overload)
            made.__dict__["attrs"] = graph.attrs.copied(None, self._value)
        else:
            made = Graph(name=graph.name)
        made.__dict__.update((key, graph.__dict__[key]) for key in _SETTINGS)
        made.__dict__["opset"] = graph.opset
        made.import_domains = [copy.copy(one) for one in graph.import_domains or ()]
        known = len(self.tensors)
        self._declare(graph, made)
        nodes = [(node, [self._new(output) for output in node.outputs]) for node in graph.nodes.snapshot()]
        for node, outputs in nodes:
            made.nodes.append(self.node(node, [self._read(tensor) for tensor in node.inputs], outputs))
        made.outputs.extend(self._read(tensor) for tensor in graph.outputs)
        if graph.origin is not None:
            made.__dict__["_origin"] = self._origin(graph.origin)
        if isinstance(graph.parent, Node):
            while len(self.tensors) > known:  # a body's own tensors are nobody else's business
                self.tensors.popitem()
        return made

    def _declare(self, graph: Graph, made: Graph) -> None:
        for variable in graph.inputs:
            made.inputs.append(self._new(variable))
        for constant in graph.initializers.declared():
            default_of = constant.__dict__.get("default_of")
            if default_of is None:
                made.initializers.add(self._new(constant))
            elif default_of in graph.defaults:
                made.initializers.add_default(constant.copy(), self._new(default_of))

    def node(self, node: Node, inputs: list[Any], outputs: list[Any]) -> Node:
        """A node of the same operator on `inputs` and `outputs`, which are in use as they are."""
        made = Node(node.op, node.name, None, inputs, outputs, node.domain)
        own = made.__dict__
        own["_proto"], own["_store"] = node.proto, node.__dict__.get("_store")
        attrs = node.__dict__["_attrs"]
        own["_attrs"] = None if attrs is None else attrs.copied(made, self._value)
        return made

    def _value(self, value: Any) -> Any:
        if isinstance(value, gs.Graph):
            return self.graph(value)  # type: ignore[arg-type]
        if isinstance(value, list):
            return [self._value(one) for one in value]
        if isinstance(value, Constant):
            return value.copy()
        return copy.copy(value) if isinstance(value, gs.Node.AttributeRef) else value

    def _new(self, tensor: Any) -> Any:
        """The copy of a tensor that the graph being copied declares."""
        made = self.tensors.get(tensor)
        if made is None:
            made = self.tensors[tensor] = _twin(tensor)
        return made

    def _read(self, tensor: Any) -> Any:
        """What stands for a tensor that is read."""
        if not tensor.name:
            return Variable.empty()
        made = self.tensors.get(tensor)
        if made is not None:
            return made
        return tensor if self.captures else self._new(tensor)

    def _origin(self, origin: Origin) -> Origin:
        made = copy.copy(origin)
        there = self.tensors
        made.infos = [(info, None if tensor is None else there.get(tensor, tensor)) for info, tensor in origin.infos]
        made.outputs = [(info, there.get(tensor, tensor)) for info, tensor in origin.outputs]
        made.annotated = {name: there.get(tensor, tensor) for name, tensor in origin.annotated.items()}
        return made


def _twin(tensor: Any) -> Any:
    if isinstance(tensor, Constant):
        twin: Any = tensor.copy()
    else:
        twin = Variable.declared(tensor.name, None)
        for key in ("_dtype", "_shape", "_kind"):
            if key in tensor.__dict__:
                twin.__dict__[key] = copy.copy(tensor.__dict__[key])
    if "_info" in tensor.__dict__:
        twin.__dict__["_info"] = tensor.__dict__["_info"]
    return twin
