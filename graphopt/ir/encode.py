"""From graph objects back to messages: what was not touched goes out as it came in.

The result is a skeleton model and the store that holds its weights, so encoding copies no
weights. Everything that was decoded and not changed is copied message by message; only what a
pass touched is written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto

from graphopt.ir.adopt import adopt_model
from graphopt.ir.attributes import encode_plain
from graphopt.ir.decode import Origin, collector_paused
from graphopt.ir.dtypes import np_dtype
from graphopt.ir.graph import Function, Graph
from graphopt.ir.node import Node
from graphopt.ir.store import Store
from graphopt.ir.tensors import SparseStored, Stored, to_tensor_proto
from graphopt.ir.values import Constant, Tensor, Variable, onnx_number, read_info

_NEWEST_IR = 13  # for models made from scratch


@dataclass(frozen=True)
class Encoded:
    """A skeleton model with the store that holds the weights it leaves out."""

    proto: onnx.ModelProto
    store: Store


def encode(graph: Graph) -> Encoded:
    """Messages of the whole model that `graph` is the main graph of; the graph is not changed,
    but for loose ends of scripts that are settled (see `adopt_model`)."""
    with collector_paused():
        adopt_model(graph)
        origin = graph.origin
        store = origin.store.overlay() if origin is not None else Store()
        return Encoded(_Encoder(store).model(graph), store)


class _Encoder:
    def __init__(self, store: Store) -> None:
        self.store = store

    def model(self, root: Graph) -> onnx.ModelProto:
        made = onnx.ModelProto()
        source = root.origin.model if root.origin is not None else None
        if source is not None:
            _copy_fields(made, source, skip=("graph", "functions", "opset_import"))
        if root.ir_version and made.ir_version != root.ir_version:
            made.ir_version = root.ir_version
        if source is None and not made.ir_version:
            made.ir_version = _NEWEST_IR
        for key in ("producer_name", "producer_version"):
            if getattr(made, key) != getattr(root, key):
                setattr(made, key, getattr(root, key))
        _opsets(made.opset_import, root)
        self.graph(root, made.graph)
        for function in root.functions:
            self.function(function, made.functions.add())
        return made

    def graph(self, graph: Graph, into: onnx.GraphProto) -> None:
        origin = graph.origin
        source = origin.proto if origin is not None else None
        if isinstance(source, onnx.GraphProto):
            _copy_fields(into, source, keep=("metadata_props",))
        self.nodes(graph, into.node)
        _text(into, source, "name", graph.name)
        _text(into, source, "doc_string", graph.doc_string)
        for variable in graph.inputs:
            _info(into.input.add(), variable, variable.__dict__.get("_info"))
        declared = list(origin.outputs) if origin is not None else []
        for tensor in graph.outputs:
            place = next((i for i, (_, one) in enumerate(declared) if one is tensor), None)
            known = declared.pop(place)[0] if place is not None else tensor.__dict__.get("_info")
            _info(into.output.add(), tensor, known)
        for constant in graph.initializers.declared():
            default_of = constant.__dict__.get("default_of")
            if default_of is not None and default_of not in graph.defaults:
                continue
            name = constant.name if default_of is None else default_of.name
            if isinstance(constant.stored, SparseStored):
                sparse = into.sparse_initializer.add()
                sparse.CopyFrom(constant.stored.proto)
                if sparse.values.name != name:
                    sparse.values.name = name
            else:
                self.tensor(into.initializer.add(), constant, name)
        self.infos(graph, origin, into.value_info)
        if origin is not None and isinstance(source, onnx.GraphProto):
            _annotations(into, source, origin)

    def nodes(self, graph: Graph, into: Any) -> None:
        run: list[onnx.NodeProto] = []  # untouched neighbours are copied in one call
        for node in graph.nodes:
            proto = node.proto
            if proto is not None and _untouched(node, proto):
                run.append(proto)
                continue
            if run:
                into.extend(run)
                run = []
            self.node(graph, node, into.add())
        into.extend(run)

    def node(self, graph: Graph, node: Node, into: onnx.NodeProto) -> None:
        proto = node.proto
        if proto is not None:
            _copy_fields(into, proto, skip=("input", "output", "name", "op_type", "domain", "attribute"))
        into.input.extend(t.name for t in node.inputs)
        into.output.extend(t.name for t in node.outputs)
        into.op_type = node.op
        if node.name or (proto is not None and proto.HasField("name")):
            into.name = node.name
        if node.domain is not None:
            into.domain = node.domain
        opset = graph.opset_of(node.domain or "")
        attrs = node.attrs
        for name, value in attrs.items():
            source = attrs.source(name)
            made = into.attribute.add()
            if source is not None and attrs.untouched(name):
                made.CopyFrom(source)
                continue
            if source is not None:
                made.type = source.type
            if not encode_plain(made, node.op, node.domain or "", opset, name, value):
                self.attribute(made, value, source)
            if source is not None and source.HasField("doc_string"):
                made.doc_string = source.doc_string

    def attribute(self, made: AttributeProto, value: Any, source: AttributeProto | None) -> None:
        if isinstance(value, gs.Graph):
            made.type = AttributeProto.GRAPH
            self.graph(value, made.g)  # type: ignore[arg-type]
        elif isinstance(value, gs.Constant):
            made.type = AttributeProto.TENSOR
            self.tensor(made.t, value, value.name)  # type: ignore[arg-type]
            if source is not None and not source.t.HasField("name") and not value.name:
                made.t.ClearField("name")
        else:
            for one in value:
                if isinstance(one, gs.Graph):
                    made.type = AttributeProto.GRAPHS
                    self.graph(one, made.graphs.add())  # type: ignore[arg-type]
                else:
                    made.type = AttributeProto.TENSORS
                    self.tensor(made.tensors.add(), one, one.name)

    def tensor(self, into: onnx.TensorProto, constant: Constant, name: str) -> None:
        stored = constant.stored
        if isinstance(stored, Stored):
            into.CopyFrom(stored.proto)
        else:
            values, wanted = constant.values, np_dtype(constant.onnx_dtype)
            if wanted is not None and values.dtype != wanted and values.dtype != object:
                values = values.astype(wanted)
            into.CopyFrom(to_tensor_proto(name, values, self.store))
        if into.name != name:
            into.name = name

    def infos(self, graph: Graph, origin: Origin | None, into: Any) -> None:
        """value_info of what is still there, in the old order; new values join where the graph
        declared any before."""
        if origin is None or not origin.infos:
            return
        for info, tensor in origin.infos:
            if tensor is None:
                into.append(info)
            elif _lives_in(tensor, graph) and (tensor.name == info.name or graph not in tensor.graph_outputs):
                _info(into.add(), tensor, info)
        seen = {tensor for _, tensor in origin.infos if tensor is not None}
        for node in graph.nodes:
            for tensor in node.outputs:
                if tensor.__dict__.get("_dtype") is None or tensor in seen or tensor.graph_outputs:
                    continue
                if "_info" not in tensor.__dict__:
                    seen.add(tensor)
                    _info(into.add(), tensor, None)

    def function(self, function: Function, into: onnx.FunctionProto) -> None:
        origin = function.origin
        if origin is not None:
            skip = (
                "name",
                "domain",
                "overload",
                "input",
                "output",
                "node",
                "opset_import",
                "value_info",
                "doc_string",
            )
            _copy_fields(into, origin.proto, skip=skip)
        else:
            for name, default in function.attrs.items():
                if default is None:
                    into.attribute.append(name)
                else:
                    encode_plain(into.attribute_proto.add(), "", "", 0, name, default)
        source = origin.proto if origin is not None else None
        for key in ("name", "domain", "overload", "doc_string"):
            _text(into, source, key, getattr(function, key))
        self.nodes(function, into.node)
        into.input.extend(t.name for t in function.inputs)
        into.output.extend(t.name for t in function.outputs)
        _opsets(into.opset_import, function)
        self.infos(function, origin, into.value_info)


def _opsets(into: Any, graph: Graph) -> None:
    """The opset imports, the default domain's with the version that the graph says now."""
    seen = False
    for one in graph.import_domains or ():
        default = one.domain in ("", "ai.onnx")
        made = into.add()
        made.CopyFrom(one)
        if default and not seen and graph.opset and made.version != graph.opset:
            made.version = graph.opset
        seen = seen or default
    if not seen and graph.origin is None:
        into.add(domain="", version=graph.opset)


def _untouched(node: Node, proto: onnx.NodeProto) -> bool:
    own = node.__dict__
    if own["op"] != proto.op_type or own["name"] != proto.name:
        return False
    if (own["domain"] or "") != proto.domain or (own["domain"] is None) == proto.HasField("domain"):
        return False
    attrs = own["_attrs"]
    if attrs is not None and not attrs.all_untouched():
        return False
    names = [t.__dict__["name"] for t in own["inputs"]]
    return bool(proto.input == names and proto.output == [t.__dict__["name"] for t in own["outputs"]])


def _lives_in(tensor: Tensor, graph: Graph) -> bool:
    if isinstance(tensor, Constant):
        return tensor in graph.initializers
    return any(node.graph is graph for node in tensor.inputs) or graph.is_input(tensor)


def _copy_fields(into: Any, source: Any, skip: tuple[str, ...] = (), keep: tuple[str, ...] | None = None) -> None:
    for descriptor, value in source.ListFields():
        name = descriptor.name
        if name in skip or (keep is not None and name not in keep):
            continue
        if descriptor.is_repeated:
            getattr(into, name).extend(value)
        elif descriptor.type == descriptor.TYPE_MESSAGE:
            getattr(into, name).CopyFrom(value)
        else:
            setattr(into, name, value)


def _text(into: Any, source: Any, key: str, value: str) -> None:
    if value or (source is not None and source.HasField(key)):
        setattr(into, key, value)


def _info(into: onnx.ValueInfoProto, tensor: Tensor, info: onnx.ValueInfoProto | None) -> None:
    """Declare `tensor`, as `info` did unless its dtype, shape or kind were changed since."""
    if info is not None:
        into.CopyFrom(info)
    if into.name != tensor.name:
        into.name = tensor.name
    own = tensor.__dict__
    if isinstance(tensor, Variable) and ("_dtype" in own or "_shape" in own or "_kind" in own):
        now = (tensor.type, tensor.dtype, tensor.shape)
        if now != read_info(own.get("_info", info)) and tensor.type == "tensor_type":
            _tensor_type(into.type, tensor.dtype, tensor.shape)
    elif info is None and isinstance(tensor, Constant):
        _tensor_type(into.type, tensor.onnx_dtype, list(tensor.shape))


def _tensor_type(into: onnx.TypeProto, dtype: Any, shape: Any) -> None:
    old = onnx.TypeProto()
    old.CopyFrom(into)
    into.ClearField("value")
    into.tensor_type.elem_type = onnx_number(dtype)
    if shape is None:
        return
    into.tensor_type.shape.SetInParent()
    for index, dim in enumerate(shape):
        made = into.tensor_type.shape.dim.add()
        if isinstance(dim, str):
            made.dim_param = dim
        elif dim is not None:
            made.dim_value = int(dim)
        if index < len(old.tensor_type.shape.dim) and old.tensor_type.shape.dim[index].denotation:
            made.denotation = old.tensor_type.shape.dim[index].denotation


def _annotations(into: onnx.GraphProto, source: onnx.GraphProto, origin: Origin) -> None:
    """Quantization annotations under today's names; those of tensors that are gone go too."""
    for note in source.quantization_annotation:
        named = origin.annotated.get(note.tensor_name)
        if named is not None and not (named.inputs or named.is_read or named.__dict__.get("home")):
            continue
        made = into.quantization_annotation.add()
        made.CopyFrom(note)
        for holder, key in (
            (made, "tensor_name"),
            *((e, "value") for e in made.quant_parameter_tensor_names),
        ):
            tensor = origin.annotated.get(getattr(holder, key))
            if tensor is not None and tensor.name != getattr(holder, key):
                setattr(holder, key, tensor.name)
