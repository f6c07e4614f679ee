"""The part of a model that computes chosen values from constants, as a model of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx_graphsurgeon import Node as StockNode

from graphopt.analysis.constants import constant_of
from graphopt.analysis.determined import Determined
from graphopt.errors import InternalError
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.attributes import encode_plain
from graphopt.ir.store import Store
from graphopt.ir.tensors import Stored, to_tensor_proto
from graphopt.ir.values import Array

_IR = 8

Known = Mapping[Tensor, Array]
"""Values that have been computed already and need no nodes."""


@dataclass
class Excerpt:
    """A skeleton model without inputs and outputs, its weights in `store`.

    `names` says what each value of the original is called in it; values inside of called functions,
    which are inlined, have no name there. `constants` are those of its own.
    """

    proto: onnx.ModelProto
    store: Store
    names: dict[Tensor, str]
    constants: dict[str, Constant | Array]


def closure(values: Iterable[Tensor], known: Collection[Tensor] = ()) -> list[Node]:
    """The nodes that compute `values`, makers first, without Constant nodes that hold a tensor and
    without what makes `known`.

    The values must be determined. Linear in the nodes returned.
    """
    done: dict[Node, None] = {}
    for value in values:
        pending = [] if value in known else [maker for maker in value.inputs if not _holds(value)]
        while pending:
            node = pending[-1]
            if node in done:
                pending.pop()
                continue
            waiting = [
                maker
                for one in node.inputs
                if one not in known and not _holds(one)
                for maker in one.inputs
                if maker not in done
            ]
            if waiting:
                pending.extend(waiting)
            else:
                done[node] = None
    return list(done)


def _holds(tensor: Tensor) -> bool:
    """Whether the value is an initializer or the tensor of a Constant node."""
    return constant_of(tensor) is not None


def version_of(scope: Graph) -> tuple[int, int]:
    """The versions of ONNX's own operators and of its machine-learning ones in a scope: an excerpt is
    of one pair."""
    return scope.opset_of(), scope.opset_of("ai.onnx.ml")


def excerpt(values: Iterable[Tensor], determined: Determined, root: Graph, known: Known) -> Excerpt:
    """The model that computes `values`, all of them determined, and made by nodes of one version.

    Nothing is computed and no weights are read.
    """
    builder = _Builder(determined, known)
    nodes = closure(values, known)
    for node in nodes:
        builder.add(node)
    made = builder.made
    made.proto.ir_version = max(int(root.ir_version or 0), _IR)
    plain, learning = version_of(nodes[0].graph) if nodes and nodes[0].graph is not None else (root.opset, 0)
    made.proto.opset_import.add(domain="", version=plain)
    if learning:
        made.proto.opset_import.add(domain="ai.onnx.ml", version=learning)
    made.proto.graph.name = "excerpt"
    return made


class _Builder:
    def __init__(self, determined: Determined, known: Known) -> None:
        self.made = Excerpt(onnx.ModelProto(), Store(), {}, {})
        self.determined = determined
        self.known = known
        self.count = 0

    def add(self, node: Node) -> None:
        """A node of the original, its outputs named anew."""
        ins = [self.name(one) for one in node.inputs]
        outs = [self.fresh(one) if one.name else "" for one in node.outputs]
        self.node(node, ins, outs, None)

    def fresh(self, tensor: Tensor | None = None) -> str:
        self.count += 1
        name = f"v{self.count}"
        if tensor is not None:
            self.made.names[tensor] = name
        return name

    def name(self, tensor: Tensor) -> str:
        """What a value that is read is called; a constant is declared at its first use."""
        if not tensor.name and not isinstance(tensor, Constant):
            return ""
        found = self.made.names.get(tensor)
        return found if found is not None else self.declare(tensor, self.fresh(tensor))

    def declare(self, tensor: Tensor, name: str) -> str:
        held: Constant | Array | None = self.known.get(tensor)
        if held is None:
            held = constant_of(tensor)
        if held is None:
            raise InternalError(f"{tensor.name!r} is read before it is made")
        into = self.made.proto.graph.initializer.add()
        if isinstance(held, Constant) and isinstance(held.stored, Stored) and held.export_dtype == held.dtype:
            into.CopyFrom(held.stored.proto)
            self.made.store.adopt(into, held.stored.store)
        else:
            values = held.values if isinstance(held, Constant) else held
            into.CopyFrom(to_tensor_proto(name, values, self.made.store))
        into.name = name
        self.made.constants[name] = held
        return name

    def node(self, node: Node, ins: list[str], outs: list[str], given: Mapping[str, Any] | None) -> None:
        """Add a node, or the nodes of the function that it calls; `given` are the attributes of the
        call that the node is in."""
        function = self.determined.called(node)
        attrs = _resolved(node, given)
        if function is None:
            self.operator(node, ins, outs, attrs)
            return
        inner: dict[Tensor, str] = {}
        for slot, formal in enumerate(function.inputs):
            inner[formal] = ins[slot] if slot < len(ins) else ""
        copies: list[tuple[str, str]] = []  # of what the function hands through, or gives twice
        for formal, name in zip(function.outputs, outs, strict=False):
            if name and formal in inner:
                copies.append((inner[formal], name))
            elif name:
                inner[formal] = name
        attrs = {**{k: v for k, v in function.attrs.items() if v is not None}, **attrs}
        for one in function.nodes:
            for output in one.outputs:
                if output.name and output not in inner:
                    inner[output] = self.fresh()
            self.node(
                one,
                [inner.get(tensor, "") if tensor.name else "" for tensor in one.inputs],
                [inner[tensor] if tensor.name else "" for tensor in one.outputs],
                attrs,
            )
        for old, new in copies:
            self.made.proto.graph.node.add(op_type="Identity", input=[old], output=[new])

    def operator(self, node: Node, ins: list[str], outs: list[str], attrs: Mapping[str, Any]) -> None:
        made = self.made.proto.graph.node.add(op_type=node.op, domain=node.domain or "", input=ins, output=outs)
        for name, value in attrs.items():
            into = made.attribute.add()
            source = node.attrs.source(name)
            if source is not None and not source.ref_attr_name and node.attrs.untouched(name):
                into.CopyFrom(source)
                if into.HasField("t"):
                    self.made.store.adopt(into.t, node.__dict__["_store"])
            elif isinstance(value, Constant | np.ndarray):
                into.name, into.type = name, onnx.AttributeProto.TENSOR
                into.t.CopyFrom(to_tensor_proto("", value.values if isinstance(value, Constant) else value))
            else:
                opset = node.graph.opset_of(node.domain or "") if node.graph is not None else 0
                encode_plain(into, node.op, node.domain or "", opset, name, value)


def _resolved(node: Node, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The attributes of a node, with what the call gives in place of references to it."""
    if given is None:
        return node.attrs
    made = {}
    for name, value in node.attrs.items():
        if not isinstance(value, StockNode.AttributeRef):
            made[name] = value
        elif value.name in given:
            made[name] = given[value.name]
    return made
