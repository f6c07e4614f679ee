"""Parts of a model as models of their own, with the values on their borders known from a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from graphopt.ir.dtypes import onnx_dtype
from graphopt.ir.schema import is_random
from graphopt.ir.store import Store
from graphopt.ir.tensors import to_tensor_proto
from graphopt.storage.source import Source
from graphopt.validation.feed_files import ROWS

Values = Mapping[str, Any]
PLAIN = "biufcOSU"  # kinds of numpy's own dtypes, which files of arrays keep


@dataclass(frozen=True)
class Part:
    """A model cut out of another one, and what to feed it.

    `kept` are the places of its nodes in the node list it was cut out of.
    """

    source: Source
    feeds: dict[str, Any]
    kept: tuple[int, ...] = ()

    @property
    def proto(self) -> ModelProto:
        return self.source.proto

    @property
    def outputs(self) -> list[str]:
        return [one.name for one in self.source.proto.graph.output]

    @property
    def nodes(self) -> int:
        """How many nodes there are, those in bodies and in the functions that are called included."""
        functions = sum(_count(one.node) for one in self.proto.functions)
        return _count(self.proto.graph.node) + functions


@dataclass
class Whole:
    """A model that parts are cut out of. `recorded` are its values in one run on `feeds`.

    What is computed from constants alone stands in a part as an initializer, everything else on its
    border as an input. Nodes are counted in an order in which makers come before readers.
    """

    source: Source
    feeds: Values
    recorded: Values = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.source.proto.graph
        self.nodes: list[NodeProto] = in_order(list(graph.node))
        self.reads: list[list[str]] = [list(dict.fromkeys(_read(node))) for node in self.nodes]
        self.maker = {name: at for at, node in enumerate(self.nodes) for name in node.output if name}
        self.inputs = {one.name: one for one in graph.input}
        self.weights = {one.name: one for one in graph.initializer}
        self.sparse = {one.values.name: one for one in graph.sparse_initializer}
        self.outputs = {one.name: one for one in graph.output}
        self.readers: dict[str, list[int]] = {}
        for at, names in enumerate(self.reads):
            for name in names:
                self.readers.setdefault(name, []).append(at)
        self.constant: set[str] = {name for name in (*self.weights, *self.sparse) if name not in self.inputs}
        for at, node in enumerate(self.nodes):
            if all(one in self.constant for one in self.reads[at]) and not _free(node):
                self.constant.update(name for name in node.output if name)

    def taps(self) -> list[str]:
        """The values that a border may run through: those that nodes of the main graph make."""
        return list(self.maker)

    def cut(self, kept: Sequence[int], without: Collection[str] = (), ends: Sequence[str] | None = None) -> Part | None:
        """The model of some of the nodes; its outputs are `ends`, unless given what others read, the model
        gives, or nobody reads, but for those in `without`. None where that is no model: no outputs, or
        a border that cannot be fed.
        """
        inside = set(kept)
        made = {name for at in kept for name in self.nodes[at].output if name}
        needed = dict.fromkeys(name for at in kept for name in self.reads[at] if name not in made)
        given = [name for at in kept for name in self.nodes[at].output if self._leaves(name, inside)]
        outputs = [name for name in given if name not in without] if ends is None else list(ends)
        if not outputs:
            return None
        proto, store = self._empty()
        feeds: dict[str, Any] = {}
        for name in needed:
            if name in self.inputs or name not in self.maker:
                self._declared(proto, name, feeds)
            elif not self._fed(proto, store, name, feeds):
                return None
        for at in sorted(kept):
            proto.graph.node.add().CopyFrom(self.nodes[at])
        for name in outputs:
            info = self.outputs.get(name)
            if info is None and (info := self._info(name, sizes=False)) is None:
                return None
            declared = proto.graph.output.add()
            declared.CopyFrom(info)
            declared.name = name
        _called_only(proto)
        return Part(Source(None, proto, store), feeds, tuple(sorted(kept)))

    def between(self, borders: Iterable[str], ends: Iterable[str]) -> list[int] | None:
        """The nodes that compute `ends` from `borders`; None where an end is no node's."""
        stop, found = set(borders), dict[int, None]()
        pending = list(ends)
        if any(name not in self.maker for name in pending):
            return None
        while pending:
            at = self.maker.get(pending.pop())
            if at is not None and at not in found:
                found[at] = None
                pending += [name for name in self.reads[at] if name not in stop]
        return sorted(found)

    def _leaves(self, name: str, inside: set[int]) -> bool:
        readers = self.readers.get(name, [])
        return bool(name) and (name in self.outputs or not readers or any(one not in inside for one in readers))

    def _empty(self) -> tuple[ModelProto, Store]:
        whole = self.source.proto
        made = ModelProto(ir_version=whole.ir_version)
        made.opset_import.extend(whole.opset_import)
        made.functions.extend(whole.functions)
        made.graph.name = "part"
        return made, self.source.store.overlay()

    def _declared(self, proto: ModelProto, name: str, feeds: dict[str, Any]) -> None:
        """An input or an initializer of the whole model, as it is there."""
        if name in self.inputs:
            declared = proto.graph.input.add()
            declared.CopyFrom(self.inputs[name])
            if name in self.feeds:
                feeds[name] = self.feeds[name]
                _one_feed(declared, feeds[name])
        if name in self.weights:
            proto.graph.initializer.add().CopyFrom(self.weights[name])
        if name in self.sparse:
            proto.graph.sparse_initializer.add().CopyFrom(self.sparse[name])

    def _fed(self, proto: ModelProto, store: Store, name: str, feeds: dict[str, Any]) -> bool:
        value = self.recorded.get(name)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in PLAIN:
            return False
        if name in self.constant:
            proto.graph.initializer.add().CopyFrom(to_tensor_proto(name, value, store))
            return True
        info = self._info(name, sizes=True)
        assert info is not None, "it was recorded"
        proto.graph.input.add().CopyFrom(info)
        feeds[name] = value
        return True

    def _info(self, name: str, *, sizes: bool) -> ValueInfoProto | None:
        """What a recorded value is declared as."""
        value = self.recorded.get(name)
        if not isinstance(value, np.ndarray):
            return None
        kind = onnx.TensorProto.STRING if value.dtype.kind in "OSU" else onnx_dtype(value.dtype)
        return onnx.helper.make_tensor_value_info(name, kind, list(value.shape) if sizes else [None] * value.ndim)


def in_order(nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes with makers before readers; as they are where they are so already."""
    makers = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    waits = [{makers[name] for name in _read(node) if name in makers} for node in nodes]
    if all(one < at for at, before in enumerate(waits) for one in before):
        return nodes
    done: dict[int, None] = {}
    for first in range(len(nodes)):
        pending = [first]
        while pending:
            at = pending[-1]
            missing = [one for one in waits[at] if one not in done and one not in pending]
            if at in done or not missing:
                done[pending.pop()] = None
            else:
                pending += missing
    return [nodes[at] for at in done]


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _read(node: NodeProto) -> Iterator[str]:
    """What a node reads of the graph it is in, in its bodies, too."""
    yield from (name for name in node.input if name)
    for body in bodies(node):
        own = {one.name for one in body.input} | {one.name for one in body.initializer}
        own |= {one.values.name for one in body.sparse_initializer}
        own |= {name for inner in body.node for name in inner.output}
        for inner in body.node:
            yield from (name for name in _read(inner) if name not in own)
        yield from (one.name for one in body.output if one.name not in own)


def _one_feed(declared: ValueInfoProto, value: Any) -> None:
    """Fix the leading size of an input whose value is so long that it would be cut into several feeds."""
    dims = declared.type.tensor_type.shape.dim
    if isinstance(value, np.ndarray) and value.ndim == len(dims) and value.ndim and value.shape[0] > ROWS:
        dims[0].dim_value = value.shape[0]


def _free(node: NodeProto) -> bool:
    """Whether a node without inputs from outside may still give something else each time."""
    return is_random(node.op_type, node.domain) or any(True for _ in bodies(node))


def _count(nodes: Iterable[NodeProto]) -> int:
    return sum(1 + sum(_count(body.node) for body in bodies(node)) for node in nodes)


def _called_only(proto: ModelProto) -> None:
    """Leave out the functions that nothing in a model calls."""
    called, pending = set[tuple[str, str]](), list(proto.graph.node)
    known = {(one.domain, one.name): one for one in proto.functions}
    while pending:
        node = pending.pop()
        key = (node.domain, node.op_type)
        pending += [inner for body in bodies(node) for inner in body.node]
        if key in known and key not in called:
            called.add(key)
            pending += known[key].node
    for at in reversed(range(len(proto.functions))):
        if (proto.functions[at].domain, proto.functions[at].name) not in called:
            del proto.functions[at]
