"""From graph objects back to messages: what was not touched goes out as it came in.

The result is a skeleton model and the store that holds its weights, so encoding copies no
weights. Everything that was decoded and not changed is copied message by message; only what a
pass touched is written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx_graphsurgeon as gs
from onnx import AttributeProto

from graphopt.ir.annotations import write_annotations
from graphopt.ir.attributes import Attrs, encode_plain, kind_of
from graphopt.ir.declare import write_info, write_infos, write_outputs
from graphopt.ir.dtypes import np_dtype
from graphopt.ir.fields import copy_fields, set_field
from graphopt.ir.garbage import collector_paused
from graphopt.ir.graph import Function, Graph
from graphopt.ir.node import Node
from graphopt.ir.settle import settle
from graphopt.ir.shelf import Shelved
from graphopt.ir.store import EMBEDDED, Store, refer
from graphopt.ir.tensors import SparseStored, Stored, to_tensor_proto
from graphopt.ir.transplant import Transplant
from graphopt.ir.values import Constant

_CUSTOM_OPSET = 1  # the version that a domain gets which a new node uses and nobody imported


@dataclass(frozen=True)
class Encoded:
    """A skeleton model with the store that holds the weights it leaves out."""

    proto: onnx.ModelProto
    store: Store


def encode(graph: Graph) -> Encoded:
    """Messages of the whole model that `graph` is the main graph of; the graph is not changed,
    but for loose ends of scripts that are settled (see `settle`).

    Raises TypeError, naming operator and attribute, for an attribute value that ONNX cannot hold.
    """
    with collector_paused():
        settle(graph)
        origin = graph.origin
        return _Encoder(origin.store if origin is not None else None).model(graph)


class _Encoder:
    def __init__(self, source: Store | None) -> None:
        self.store = Store() if source is None else source.overlay()
        self.transplant = Transplant(source, self.store)
        self.domains: dict[str, None] = {}  # what new nodes of the scope being written use

    def model(self, root: Graph) -> Encoded:
        made = onnx.ModelProto()
        source = root.origin.model if root.origin is not None else None
        if source is not None:
            copy_fields(made, source, skip=("graph", "functions", "opset_import"))
        for key in ("producer_name", "producer_version"):
            _text(made, source, key, getattr(root, key))
        self.graph(root, made.graph)
        self.opsets(root, made.opset_import)
        for function in root.functions:
            self.function(function, made.functions.add())
        if root.ir_version and made.ir_version != root.ir_version:
            made.ir_version = root.ir_version
        elif source is None and not root.ir_version:
            made.ir_version = max(onnx.helper.find_min_ir_version_for(made.opset_import, ignore_unknown=True), 8)
        return Encoded(made, self.store)

    def graph(self, graph: Graph, into: onnx.GraphProto) -> None:
        origin = graph.origin
        source = origin.proto if origin is not None else None
        if source is not None:
            copy_fields(into, source, skip=_GRAPH_FIELDS)
        self.nodes(graph, into.node)
        for key in ("name", "doc_string"):
            _text(into, source, key, getattr(graph, key))
        for variable in graph.inputs:
            write_info(into.input.add(), variable, variable.__dict__.get("_info"))
        write_outputs(graph, origin, into.output)
        self.initializers(graph, into)
        write_infos(graph, origin, into.value_info)
        write_annotations(graph, into.quantization_annotation)

    def initializers(self, graph: Graph, into: onnx.GraphProto) -> None:
        for constant in graph.initializers.declared():
            default_of = constant.__dict__.get("default_of")
            if default_of is not None and default_of not in graph.defaults:
                continue
            name = constant.name if default_of is None else default_of.name
            stored = constant.stored
            if isinstance(stored, SparseStored) and constant.__dict__.get("_export_dtype") is None:
                sparse = into.sparse_initializer.add()
                sparse.CopyFrom(stored.proto)
                self.transplant.sparse(sparse, stored.store)
                if sparse.values.name != name:
                    sparse.values.name = name
            else:
                self.tensor(into.initializer.add(), constant, name)

    def nodes(self, graph: Graph, into: Any) -> None:
        run: list[onnx.NodeProto] = []  # untouched neighbours are copied in one call
        home = self.transplant.home
        for node in graph.nodes.snapshot():
            proto = node.__dict__["_proto"]
            if proto is not None and _untouched(node, proto) and node.__dict__["_store"] is home:
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
            copy_fields(into, proto, skip=_NODE_FIELDS)
        if proto is None or (node.domain or "") != proto.domain or node.__dict__["_store"] is not self.transplant.home:
            self.domains[node.domain or ""] = None
        into.input.extend(t.name for t in node.inputs)
        into.output.extend(t.name for t in node.outputs)
        into.op_type = node.op
        if node.name or (proto is not None and proto.HasField("name")):
            into.name = node.name
        if node.domain is not None:
            into.domain = node.domain
        where = (node.op, node.domain or "", graph.opset_of(node.domain or ""))
        for name in node.attrs:
            self.attribute(into.attribute.add(), node.attrs, name, where, node.__dict__.get("_store"))

    def attribute(
        self, made: AttributeProto, attrs: Attrs, name: str, where: tuple[str, str, int], store: Store | None
    ) -> None:
        """Write one attribute of the operator `where` (operator, domain, opset)."""
        source, value = attrs.source(name), attrs[name]
        if source is not None and attrs.untouched(name):
            made.CopyFrom(source)
            self.transplant.attribute(made, store)
            return
        was = kind_of(source) if source is not None else 0
        if was:
            made.type = AttributeProto.AttributeType.ValueType(was)
        if encode_plain(made, *where, name, value):
            self.transplant.attribute(made, store)
        else:
            self.nested(made, value, source)
        if source is not None and source.HasField("doc_string"):
            set_field(made, "doc_string", source.doc_string)
        if source is not None and made.type == was and not source.HasField("type"):
            made.ClearField("type")

    def nested(self, made: AttributeProto, value: Any, source: AttributeProto | None) -> None:
        """Write a value that is made of tensors or graphs."""
        if isinstance(value, np.ndarray):
            value = Constant("", value)
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
        stored, chosen = constant.stored, constant.__dict__.get("_export_dtype")
        if isinstance(stored, Stored) and (chosen is None or constant.onnx_dtype == stored.onnx_dtype):
            into.CopyFrom(stored.proto)
            self.transplant.tensor(into, stored.store)
        elif isinstance(lying := constant.__dict__["_values"], Shelved) and constant.onnx_dtype == lying.onnx_dtype:
            into.data_type = lying.onnx_dtype
            into.dims.extend(lying.shape)
            refer(into, EMBEDDED, *self.store.add(lying.data))
        else:
            values, wanted = constant.values, np_dtype(constant.onnx_dtype)
            if wanted is not None and values.dtype != wanted and values.dtype.kind not in "OUST":
                values = values.astype(wanted)
            into.CopyFrom(to_tensor_proto(name, values, self.store))
            if stored is not None:
                constant.forget()
        if not name and not (isinstance(stored, Stored) and not stored.proto.name):
            into.ClearField("name")
        elif into.name != name:
            into.name = name

    def function(self, function: Function, into: onnx.FunctionProto) -> None:
        origin = function.origin
        source = origin.proto if origin is not None else None
        if source is not None:
            copy_fields(into, source, skip=_FUNCTION_FIELDS)
        for key in ("name", "domain", "overload", "doc_string"):
            _text(into, source, key, getattr(function, key))
        for name, default in function.attrs.items():
            if default is None:
                into.attribute.append(name)
            else:
                store = origin.store if origin is not None else None
                self.attribute(into.attribute_proto.add(), function.attrs, name, ("", "", 0), store)
        self.nodes(function, into.node)
        into.input.extend(t.name for t in function.inputs)
        into.output.extend(t.name for t in function.outputs)
        self.opsets(function, into.opset_import)
        write_infos(function, origin, into.value_info)

    def opsets(self, graph: Graph, into: Any) -> None:
        """The opset imports: of the default domain the version that the graph says now, and of a
        domain that new nodes use without an import, version 1."""
        known: set[str] = set()
        for one in graph.import_domains or ():
            made = into.add()
            made.CopyFrom(one)
            domain = "" if one.domain == "ai.onnx" else one.domain
            if not domain and domain not in known and graph.opset and made.version != graph.opset:
                made.version = graph.opset
            known.add(domain)
        if "" not in known and graph.opset:
            into.add(domain="", version=graph.opset)
        for domain in self.domains:
            if domain not in ("", "ai.onnx") and domain not in known:
                into.add(domain=domain, version=_CUSTOM_OPSET)
        self.domains = {}


_NODE_FIELDS = frozenset(("input", "output", "name", "op_type", "domain", "attribute"))
_GRAPH_FIELDS = frozenset(
    ("node", "name", "doc_string", "input", "output", "initializer", "sparse_initializer", "value_info")
) | {"quantization_annotation"}
_FUNCTION_FIELDS = frozenset(
    ("name", "domain", "overload", "doc_string", "input", "output", "node", "opset_import", "value_info")
) | {"attribute", "attribute_proto"}


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


def _text(into: Any, source: Any, key: str, value: Any) -> None:
    if value or (source is not None and source.HasField(key)):
        set_field(into, key, value)
