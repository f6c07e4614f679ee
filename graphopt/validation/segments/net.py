"""The main graph of a model as a net: who makes and who reads each value, and what follows from weights alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto

from graphopt.errors import CouldNotTell
from graphopt.ir.schema import draws_randomness
from graphopt.ir.store import byte_count
from graphopt.storage.source import Source

_OVERRIDABLE = 4  # the first IR version in which a weight that is also an input may be fed
_KNOWN = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))  # domains whose operators give the same each time


@dataclass(eq=False)
class Net:
    """Made on the message: a model that no pass can read still runs.

    `nodes` stand in an order in which makers come before readers; `reads` is what each of them reads, the values that
    its bodies capture included, `makers` the place of the node that makes a value. `inputs` may be fed, `weights` are
    the tensors that no node makes. The `fixed` nodes give the same whatever is fed: a segment that reads what they
    make has a copy of them. `live` are the others that an output needs.
    """

    source: Source
    nodes: list[NodeProto] = field(default_factory=list)
    reads: list[tuple[str, ...]] = field(default_factory=list)
    makers: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, ValueInfoProto] = field(default_factory=dict)
    weights: dict[str, TensorProto | SparseTensorProto] = field(default_factory=dict)
    outputs: dict[str, ValueInfoProto] = field(default_factory=dict)
    fixed: list[bool] = field(default_factory=list)
    live: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, source: Source) -> Net:
        """The net of a model that was read. Raises CouldNotTell where values wait for each other."""
        graph = source.proto.graph
        net = cls(source)
        net.weights = {one.name: one for one in graph.initializer}
        net.weights.update((one.values.name, one) for one in graph.sparse_initializer)
        overridable = source.proto.ir_version >= _OVERRIDABLE
        net.inputs = {one.name: one for one in graph.input if overridable or one.name not in net.weights}
        net.outputs = {one.name: one for one in graph.output}
        net.nodes = _in_order(list(graph.node))
        net.reads = [tuple(dict.fromkeys(_read(node))) for node in net.nodes]
        net.makers = {name: at for at, node in enumerate(net.nodes) for name in node.output if name}
        functions = {(one.domain, one.name) for one in source.proto.functions}
        for at, node in enumerate(net.nodes):
            known = all(net.is_fixed(name) for name in net.reads[at])
            net.fixed.append(known and _steady(node, functions))
        needed = net.behind(net.outputs)
        net.live = [at for at in sorted(needed) if not net.fixed[at]]
        return net

    def is_fixed(self, name: str) -> bool:
        """Whether a value is the same whatever is fed."""
        at = self.makers.get(name)
        if at is not None:
            return self.fixed[at]
        return name in self.weights and name not in self.inputs

    def behind(self, values: Iterable[str], known: Iterable[int] = ()) -> set[int]:
        """The nodes that some values are made by and from, without `known` ones and what is behind these only."""
        found, stop = set[int](), set(known)
        pending = list(values)
        while pending:
            at = self.makers.get(pending.pop())
            if at is not None and at not in found and at not in stop:
                found.add(at)
                pending.extend(self.reads[at])
        return found

    def rests_on(self, at: int) -> tuple[set[int], set[str]]:
        """The fixed nodes that a node reads from, and the weights that it and they read."""
        nodes, weights = set[int](), set[str]()
        pending = [at]
        while pending:
            for name in self.reads[pending.pop()]:
                maker = self.makers.get(name)
                if maker is None:
                    if name in self.weights:
                        weights.add(name)
                elif self.fixed[maker] and maker not in nodes:
                    nodes.add(maker)
                    pending.append(maker)
        return nodes, weights

    def bytes_of(self, weight: str) -> int:
        """How many bytes a weight has."""
        found = self.weights[weight]
        parts = (found.values, found.indices) if isinstance(found, SparseTensorProto) else (found,)
        return sum(tensor_bytes(one) for one in parts)

    def inner_bytes(self, at: int) -> int:
        """How many bytes the tensors inside a node have: a Constant's, and those of bodies."""
        return sum(tensor_bytes(one) for one in held(self.nodes[at]))


def tensor_bytes(tensor: TensorProto) -> int:
    """The bytes of a tensor's elements; of strings those of the message."""
    return int(tensor.ByteSize()) if tensor.data_type == TensorProto.STRING else byte_count(tensor)


def label(node: NodeProto) -> str:
    """A node in words: its operator, and its name or else its first output."""
    return f"{node.op_type} {(node.name or next(iter(node.output), ''))!r}"


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def held(node: NodeProto) -> Iterator[TensorProto]:
    """The tensors that a node has in its attributes and bodies."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            yield attribute.t
        elif attribute.type == AttributeProto.SPARSE_TENSOR:
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        yield from attribute.tensors
    for body in bodies(node):
        yield from body.initializer
        for one in body.sparse_initializer:
            yield from (one.values, one.indices)
        for inner in body.node:
            yield from held(inner)


def _read(node: NodeProto) -> Iterator[str]:
    """What a node reads of the graph that it is in, in its bodies too."""
    yield from (name for name in node.input if name)
    for body in bodies(node):
        own = {one.name for one in body.input} | {one.name for one in body.initializer}
        own |= {one.values.name for one in body.sparse_initializer}
        own.update(name for inner in body.node for name in inner.output)
        for inner in body.node:
            yield from (name for name in _read(inner) if name not in own)
        yield from (one.name for one in body.output if one.name not in own)


def _steady(node: NodeProto, functions: set[tuple[str, str]]) -> bool:
    """Whether a node gives the same each time, as far as is known."""
    if node.domain not in _KNOWN or (node.domain, node.op_type) in functions:
        return False
    if draws_randomness(node.op_type, node.domain, len(node.input), None):
        return False
    return all(_steady(inner, functions) for body in bodies(node) for inner in body.node)


def _in_order(nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes with makers before readers; as they are where they are so already."""
    makers = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    waits = [[makers[name] for name in dict.fromkeys(_read(node)) if name in makers] for node in nodes]
    if all(one < at for at, before in enumerate(waits) for one in before):
        return nodes
    readers: list[list[int]] = [[] for _ in nodes]
    for at, before in enumerate(waits):
        for one in before:
            readers[one].append(at)
    left = [len(before) for before in waits]
    ready = [at for at in reversed(range(len(nodes))) if not left[at]]
    order: list[NodeProto] = []
    while ready:
        at = ready.pop()
        order.append(nodes[at])
        for reader in reversed(readers[at]):
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    if len(order) < len(nodes):
        raise CouldNotTell("the model cannot be cut into segments: some of its nodes wait for each other")
    return order
