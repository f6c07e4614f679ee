"""From a model's messages to graph objects, without loss and without reading weights.

Messages are shared, never changed: an object remembers the message it came from, so whatever is
not touched is written back as it was. Attributes, dtypes and shapes are decoded when asked for.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import AttributeProto

from graphopt.ir.attributes import Attrs, decode_value, holds_graph
from graphopt.ir.graph import Function, Graph
from graphopt.ir.links import Slots
from graphopt.ir.node import Node
from graphopt.ir.store import Store
from graphopt.ir.tensors import SparseStored, Stored
from graphopt.ir.values import Constant, Tensor, Variable

Scope = dict[str, Any]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Hold the cyclic garbage collector off while many objects are made that all stay alive:
    walking them again and again would make a linear job quadratic."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@dataclass
class Origin:
    """What one graph was decoded from, and which object stands for each declaration now."""

    proto: onnx.GraphProto | onnx.FunctionProto
    store: Store
    model: onnx.ModelProto | None = None  # on the main graph
    infos: list[tuple[onnx.ValueInfoProto, Tensor | None]] = field(default_factory=list)
    outputs: list[tuple[onnx.ValueInfoProto, Tensor]] = field(default_factory=list)
    annotated: dict[str, Tensor] = field(default_factory=dict)

    def move_output(self, old: Tensor, new: Tensor) -> None:
        """Let `new` stand where `old` was declared as an output."""
        self.outputs = [(info, new if tensor is old else tensor) for info, tensor in self.outputs]

    def other_names(self) -> Iterator[str]:
        """Names that are declared but belong to no object."""
        yield from (info.name for info, tensor in self.infos if tensor is None)
        if isinstance(self.proto, onnx.GraphProto):
            for note in self.proto.quantization_annotation:
                yield note.tensor_name
                yield from (entry.value for entry in note.quant_parameter_tensor_names)


def decode(model: onnx.ModelProto, store: Store) -> Graph:
    """The main graph of a (skeleton) model; its weights stay where `store` finds them.

    The message is kept and shared, so it must not be changed afterwards.
    """
    with collector_paused():
        return _decode(model, store)


def _decode(model: onnx.ModelProto, store: Store) -> Graph:
    domains = [copy.copy(one) for one in model.opset_import]
    root = _graph(model.graph, [], store)
    root.import_domains = domains
    own = root.__dict__
    own["opset"] = next((int(o.version) for o in domains if o.domain in ("", "ai.onnx")), 0)
    own["ir_version"] = int(model.ir_version)
    own["producer_name"], own["producer_version"] = model.producer_name, model.producer_version
    own["_functions"] = [_function(f, store) for f in model.functions]
    for function in own["_functions"]:
        function.__dict__["parent"] = root
    own["_origin"].model = model
    return root


def _graph(proto: onnx.GraphProto, outer: list[Scope], store: Store) -> Graph:
    local: Scope = {}
    scopes = [*outer, local]
    graph = Graph(name=proto.name, doc_string=proto.doc_string)
    origin = Origin(proto, store)
    graph.__dict__["_origin"] = origin
    for info in proto.input:
        variable = Variable.declared(info.name, info)
        local[info.name] = variable
        graph.inputs.append(variable)
    _initializers(graph, proto, local, store)
    infos = {info.name: info for info in proto.value_info}
    out_infos = {info.name: info for info in proto.output}
    _nodes(graph, proto.node, scopes, {**infos, **out_infos} if out_infos else infos, store)
    for info in proto.output:
        tensor = local.get(info.name)
        if tensor is None:
            tensor = next((s[info.name] for s in reversed(outer) if info.name in s), None)
        if tensor is None:
            tensor = local[info.name] = Variable.declared(info.name, info)
        graph.outputs.append(tensor)
        origin.outputs.append((info, tensor))
    origin.infos = [(info, local.get(info.name)) for info in proto.value_info]
    for note in proto.quantization_annotation:
        for name in (note.tensor_name, *(entry.value for entry in note.quant_parameter_tensor_names)):
            if name in local:
                origin.annotated[name] = local[name]
    return graph


def _initializers(graph: Graph, proto: onnx.GraphProto, local: Scope, store: Store) -> None:
    for tensor in proto.initializer:
        constant = Constant(tensor.name, Stored(tensor, store))
        known = local.get(tensor.name)
        if isinstance(known, Variable):
            graph.initializers.add_default(constant, known)
        else:
            graph.initializers.add(constant)
            local[tensor.name] = constant
    for sparse in proto.sparse_initializer:
        constant = Constant(sparse.values.name, SparseStored(sparse, store))
        known = local.get(constant.name)
        if isinstance(known, Variable):
            graph.initializers.add_default(constant, known)
        else:
            graph.initializers.add(constant)
            local[constant.name] = constant


def _nodes(
    graph: Graph,
    protos: Iterable[onnx.NodeProto],
    scopes: Sequence[Scope],
    infos: dict[str, onnx.ValueInfoProto],
    store: Store,
) -> None:
    """Decode nodes into `graph`. Outputs are declared first, so unsorted graphs and captures of
    values that are made later both resolve."""
    local, declared = scopes[-1], Variable.declared
    made: list[tuple[onnx.NodeProto, list[Any]]] = []
    for proto in protos:
        outputs = []
        for name in proto.output:
            tensor = local.get(name) if name else None
            if tensor is None:
                tensor = declared(name, infos.get(name))
                if name:
                    local[name] = tensor
            outputs.append(tensor)
        made.append((proto, outputs))

    nodes = graph.nodes
    for proto, outputs in made:
        inputs = []
        for name in proto.input:
            tensor = local.get(name)
            if tensor is None:
                tensor = _find(name, scopes, infos)
            inputs.append(tensor)
        node = Node.__new__(Node)
        own = node.__dict__
        own["op"], own["name"] = proto.op_type, proto.name
        own["domain"] = proto.domain if proto.HasField("domain") else None
        own["graph"], own["_proto"], own["_store"], own["_attrs"] = graph, proto, store, None
        own["inputs"], own["outputs"] = _slots(node, "outputs", inputs), _slots(node, "inputs", outputs)
        list.append(nodes, node)
        if proto.attribute and holds_graph(proto):
            own["_attrs"] = _attrs_with_graphs(node, proto, list(scopes), store)


def _slots(node: Node, field_name: str, tensors: list[Any]) -> Slots:
    slots = Slots(node, field_name)
    list.extend(slots, tensors)
    for tensor in tensors:
        list.append(tensor.__dict__[field_name], node)  # fresh use lists have no index to keep yet
    return slots


def _find(name: str, scopes: Sequence[Scope], infos: dict[str, onnx.ValueInfoProto]) -> Any:
    if not name:
        return Variable.declared("", None)
    for scope in reversed(scopes):
        if name in scope:
            return scope[name]
    tensor = scopes[-1][name] = Variable.declared(name, infos.get(name))
    return tensor


def _attrs_with_graphs(node: Node, proto: onnx.NodeProto, scopes: list[Scope], store: Store) -> Attrs:
    attrs = Attrs()
    for attribute in proto.attribute:
        value: Any
        if attribute.ref_attr_name or attribute.type not in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            value = decode_value(attribute, store)
        elif attribute.type == AttributeProto.GRAPH:
            value = _graph(attribute.g, scopes, store)
            value.__dict__["parent"] = node
        else:
            value = [_graph(one, scopes, store) for one in attribute.graphs]
            for body in value:
                body.__dict__["parent"] = node
        attrs.adopt(attribute, value)
    return attrs


def _function(proto: onnx.FunctionProto, store: Store) -> Function:
    local: Scope = {}
    domains = [copy.copy(one) for one in proto.opset_import]
    function = Function(proto.name, proto.domain, doc_string=proto.doc_string, import_domains=domains)
    function.__dict__["overload"] = proto.overload
    origin = Origin(proto, store)
    function.__dict__["_origin"] = origin
    infos = {info.name: info for info in proto.value_info}
    for name in proto.input:
        variable = local[name] = Variable.declared(name, infos.get(name))
        function.inputs.append(variable)
    _nodes(function, proto.node, [local], infos, store)
    for name in proto.output:
        if name not in local:
            local[name] = Variable.declared(name, infos.get(name))
        function.outputs.append(local[name])
    origin.infos = [(info, local.get(info.name)) for info in proto.value_info]
    function.attrs.update(dict.fromkeys(proto.attribute))
    for attribute in proto.attribute_proto:
        function.attrs[attribute.name] = decode_value(attribute, store)
    return function
