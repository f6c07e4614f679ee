"""From a model's messages to graph objects, without loss and without reading weights.

Messages are shared, never changed: an object remembers the message it came from, so whatever is
not touched is written back as it was. Attributes, dtypes and shapes are decoded when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import AttributeProto

from graphopt.ir.attributes import Attrs, decode_value, holds_graph, kind_of
from graphopt.ir.garbage import collector_paused
from graphopt.ir.graph import Function, Graph
from graphopt.ir.links import Slots
from graphopt.ir.node import Node
from graphopt.ir.store import Store
from graphopt.ir.tensors import SparseStored, Stored
from graphopt.ir.values import Constant, Tensor, Variable

Scope = dict[str, Any]


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
    root = _graph(model.graph, [], store)
    _imports(root, model.opset_import)
    own = root.__dict__
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
        if info.name:
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
            tensor = Variable.declared(info.name, info)
            if info.name:
                local[info.name] = tensor
        graph.outputs.append(tensor)
        origin.outputs.append((info, tensor))
    origin.infos = [(info, local.get(info.name)) for info in proto.value_info]
    for note in proto.quantization_annotation:
        for name in (note.tensor_name, *(entry.value for entry in note.quant_parameter_tensor_names)):
            if name in local:
                origin.annotated[name] = local[name]
    return graph


def _initializers(graph: Graph, proto: onnx.GraphProto, local: Scope, store: Store) -> None:
    constants = [Constant(tensor.name, Stored(tensor, store)) for tensor in proto.initializer]
    constants += [Constant(one.values.name, SparseStored(one, store)) for one in proto.sparse_initializer]
    for constant in constants:
        known = local.get(constant.name)
        if isinstance(known, Variable):
            graph.initializers.add_default(constant, known)
        else:
            graph.initializers.add(constant)
            if constant.name:
                local[constant.name] = constant  # of two of one name onnxruntime takes the later, too


def _nodes(
    graph: Graph,
    protos: Iterable[onnx.NodeProto],
    scopes: Sequence[Scope],
    infos: dict[str, onnx.ValueInfoProto],
    store: Store,
) -> None:
    """Decode nodes into `graph`. Outputs are declared first, so unsorted graphs and captures of
    values that are made later both resolve."""
    local = scopes[-1]
    known = local.get  # which never has the empty name
    made: list[tuple[onnx.NodeProto, list[Any]]] = []
    for proto in protos:
        outputs = []
        for name in proto.output:
            tensor = known(name)
            if tensor is None:
                tensor = Variable.declared(name, infos.get(name))
                if name:
                    local[name] = tensor
            outputs.append(tensor)
        made.append((proto, outputs))

    new, nodes = Node.__new__, graph.nodes
    for proto, outputs in made:
        inputs = []
        for name in proto.input:
            tensor = known(name)
            inputs.append(_find(name, scopes, infos) if tensor is None else tensor)
        node = new(Node)
        own = node.__dict__
        own["op"], own["name"] = proto.op_type, proto.name
        own["domain"] = proto.domain if proto.HasField("domain") else None
        own["graph"], own["_proto"], own["_store"], own["_attrs"] = graph, proto, store, None
        own["inputs"] = slots = Slots(node, "outputs")
        list.extend(slots, inputs)
        for tensor in inputs:
            list.append(tensor.__dict__["outputs"], node)  # fresh use lists have no index to keep yet
        own["outputs"] = slots = Slots(node, "inputs")
        list.extend(slots, outputs)
        for tensor in outputs:
            list.append(tensor.__dict__["inputs"], node)
        list.append(nodes, node)
        attributes = proto.attribute
        if attributes and holds_graph(attributes):
            own["_attrs"] = _attrs_with_graphs(node, proto, list(scopes), store)


def _find(name: str, scopes: Sequence[Scope], infos: dict[str, onnx.ValueInfoProto]) -> Any:
    if not name:
        return Variable.declared("", None)
    for scope in reversed(scopes):
        if name in scope:
            return scope[name]
    tensor = scopes[-1][name] = Variable.declared(name, infos.get(name))
    return tensor


def _attrs_with_graphs(node: Node, proto: onnx.NodeProto, scopes: list[Scope], store: Store) -> Attrs:
    attrs = Attrs(node)
    for attribute in proto.attribute:
        value: Any
        kind = kind_of(attribute)
        if attribute.ref_attr_name or kind not in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            value = decode_value(attribute, store)
        elif kind == AttributeProto.GRAPH:
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
    function = Function(proto.name, proto.domain, doc_string=proto.doc_string, overload=proto.overload)
    _imports(function, proto.opset_import)
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
    function.__dict__["attrs"] = Attrs.decode(None, proto.attribute_proto, store)
    function.attrs.update(dict.fromkeys(proto.attribute))
    return function


def _imports(graph: Graph, imports: Iterable[onnx.OperatorSetIdProto]) -> None:
    graph.import_domains = []
    for one in imports:
        mine = onnx.OperatorSetIdProto()
        mine.CopyFrom(one)
        graph.import_domains.append(mine)
    graph.__dict__["opset"] = next((int(o.version) for o in imports if o.domain in ("", "ai.onnx")), 0)
