"""Taking texts off a model: messages that objects were decoded from are shared, so copies are made.

Each function gives the changes that would take something off, to be carried out by calling them; none
when there is nothing to take off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx

from graphopt.ir.fields import copy_fields
from graphopt.ir.graph import Graph
from graphopt.ir.short_names import shorter
from graphopt.ir.tensors import SparseStored, Stored
from graphopt.ir.values import Constant, Variable

Change = Callable[[], None]

_HEAVY = frozenset(("node", "initializer", "sparse_initializer", "value_info", "input", "output"))  # held elsewhere
DOCS = ("doc_string",)
METADATA = ("metadata_props",)


def texts(root: Graph, field: tuple[str, ...]) -> Iterator[Change]:
    """Changes that take `field`, DOCS or METADATA, off everything in the model."""
    origin = root.origin
    if origin is not None and origin.model is not None and _has(origin.model, field):
        yield lambda: _trim_model(root, field)
    for graph in root.scopes():
        yield from _of_graph(graph, field)
        for constant in graph.initializers.declared():
            yield from _of_constant(constant, field)
        for node in graph.nodes:
            yield from _of_node(node, field)


def value_infos(root: Graph) -> Iterator[Change]:
    """Changes that take off what is declared of values between inputs and outputs."""
    for graph in root.scopes():
        if graph.origin is not None and graph.origin.infos:
            yield lambda graph=graph: graph.origin.infos.clear()  # type: ignore[misc]


def node_names(root: Graph) -> Iterator[Change]:
    """Changes that take off the names of nodes."""
    for graph in root.scopes():
        for node in graph.nodes:
            if node.name or (node.proto is not None and node.proto.HasField("name")):
                yield lambda node=node: _unname(node)  # type: ignore[misc]


def value_names(root: Graph) -> Iterator[Change]:
    """Changes that give values short names in place of long ones."""
    for value, name in shorter(root):
        yield lambda value=value, name=name: setattr(value, "name", name)  # type: ignore[misc]


def _has(message: Any, field: tuple[str, ...]) -> bool:
    return any(descriptor.name in field for descriptor, _ in message.ListFields())


def _without(message: Any, field: tuple[str, ...]) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    for name in field:
        made.ClearField(name)
    return made


def _trim_model(root: Graph, field: tuple[str, ...]) -> None:
    origin = root.origin
    assert origin is not None and origin.model is not None, "checked when the change was made"
    made = onnx.ModelProto()
    copy_fields(made, origin.model, skip=(*field, "graph", "functions"))
    origin.model = made


def _of_graph(graph: Graph, field: tuple[str, ...]) -> Iterator[Change]:
    origin = graph.origin
    if graph.doc_string and field == DOCS:
        yield lambda: setattr(graph, "doc_string", "")
    if origin is None:
        return
    if _has(origin.proto, field):
        yield lambda: _trim_graph(graph, field)
    kept = _signature(graph)
    if any(_has(info, field) and id(info) not in kept for info in _infos(graph)):
        yield lambda: _trim_infos(graph, field)


def _infos(graph: Graph) -> list[onnx.ValueInfoProto]:
    """Every declaration of a value that `graph` was read with."""
    origin = graph.origin
    found = [] if origin is None else [info for info, _ in (*origin.infos, *origin.outputs)]
    values = (*graph.inputs, *graph.outputs, *(one for node in graph.nodes for one in node.outputs))
    return found + [info for one in values if (info := one.__dict__.get("_info")) is not None]


def _signature(graph: Graph) -> set[int]:
    """The declarations (their ids) of a main graph's inputs and outputs: what users of the model see stays."""
    origin = graph.origin
    if graph.root is not graph or origin is None:
        return set()
    infos = [one.__dict__.get("_info") for one in (*graph.inputs, *graph.outputs)]
    return {id(info) for info in (*infos, *(info for info, _ in origin.outputs)) if info is not None}


def _trim_graph(graph: Graph, field: tuple[str, ...]) -> None:
    origin = graph.origin
    assert origin is not None, "checked when the change was made"
    made = type(origin.proto)()
    copy_fields(made, origin.proto, skip=(*field, *_HEAVY))
    if isinstance(made, onnx.FunctionProto):
        made.input.extend(origin.proto.input)
        made.output.extend(origin.proto.output)
    origin.proto = made


def _trim_infos(graph: Graph, field: tuple[str, ...]) -> None:
    origin = graph.origin
    assert origin is not None, "checked when the change was made"
    keep, held = _signature(graph), _infos(graph)  # held, so that no id is used again
    made = {id(info): _without(info, field) for info in held if _has(info, field) and id(info) not in keep}
    origin.infos = [(made.get(id(info), info), tensor) for info, tensor in origin.infos]
    origin.outputs = [(made.get(id(info), info), tensor) for info, tensor in origin.outputs]
    for tensor in (*graph.inputs, *graph.outputs, *(one for node in graph.nodes for one in node.outputs)):
        info = tensor.__dict__.get("_info")
        if isinstance(tensor, Variable) and id(info) in made:
            tensor.__dict__["_info"] = made[id(info)]


def _of_constant(constant: Constant, field: tuple[str, ...]) -> Iterator[Change]:
    stored = constant.stored
    if isinstance(stored, Stored) and _has(stored.proto, field):
        yield lambda: setattr(constant, "values", Stored(_without(stored.proto, field), stored.store))
    elif isinstance(stored, SparseStored) and (_has(stored.proto.values, field) or _has(stored.proto.indices, field)):
        yield lambda: _trim_sparse(constant, stored, field)


def _trim_sparse(constant: Constant, stored: SparseStored, field: tuple[str, ...]) -> None:
    made = onnx.SparseTensorProto()
    made.CopyFrom(stored.proto)
    for part in (made.values, made.indices):
        for name in field:
            part.ClearField(name)
    constant.values = SparseStored(made, stored.store)


def _of_node(node: Any, field: tuple[str, ...]) -> Iterator[Change]:
    proto = node.proto
    if proto is None:
        return
    inside = [one for one in proto.attribute if _has(one, field)]
    held = [one for one in proto.attribute if one.HasField("t") and _has(one.t, field)]
    if _has(proto, field) or inside or held:
        yield lambda: _trim_node(node, field)


def _trim_node(node: Any, field: tuple[str, ...]) -> None:
    made = _without(node.proto, field)
    for attribute in made.attribute:
        for message in (attribute, attribute.t) if attribute.HasField("t") else (attribute,):
            for name in field:
                if name in message.DESCRIPTOR.fields_by_name:
                    message.ClearField(name)
    node.__dict__["_proto"] = made
    attrs = node.__dict__["_attrs"]
    if attrs is None:
        return
    if not node.bodies and attrs.all_untouched():
        node.__dict__["_attrs"] = None  # to be decoded again, from the copy
        return
    by_name = {one.name: one for one in made.attribute}
    for name in list(attrs):
        source = attrs.source(name)
        if source is not None and name in by_name and _has(source, field):
            attrs._sources[name] = by_name[name]


def _unname(node: Any) -> None:
    if node.proto is not None:
        node.__dict__["_proto"] = _without(node.proto, ("name",))
    node.name = ""
