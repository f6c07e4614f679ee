"""One variant's nodes and what each value in it is made of, so that variants can be told apart value by value."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto


@dataclass
class Anatomy:
    """The main graph of a model: who makes each value, and which values depend on what is fed.

    Nodes stand in the order of the model, each after what it reads. `reads` are the names that each node
    reads, those that its bodies read from outside included.
    """

    proto: ModelProto
    nodes: list[NodeProto]
    makers: dict[str, int]
    stored: dict[str, TensorProto]
    inputs: frozenset[str]
    reads: list[tuple[str, ...]]
    fed: set[str] = field(default_factory=set)
    hashes: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, proto: ModelProto) -> Anatomy:
        graph = proto.graph
        stored = {one.name: one for one in graph.initializer}
        nodes = list(graph.node)
        makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
        inputs = frozenset(one.name for one in graph.input if one.name not in stored)
        made = cls(proto, nodes, makers, stored, inputs, [tuple(_reads(node)) for node in nodes])
        made.fed.update(inputs)
        for index, node in enumerate(nodes):
            if node.op_type != "Constant" and (not made.reads[index] or made.fed.intersection(made.reads[index])):
                made.fed.update(name for name in node.output if name)
        return made

    def stored_hash(self, name: str) -> bytes:
        """What an initializer holds, whatever it is called."""
        if name not in self.hashes:
            copy = TensorProto()
            copy.CopyFrom(self.stored[name])
            copy.ClearField("name")
            copy.ClearField("doc_string")
            self.hashes[name] = _digest(copy.SerializeToString(deterministic=True))
        return self.hashes[name]

    def signatures(self, borders: Collection[str]) -> dict[str, bytes]:
        """What each value of `borders` is made of, back to other borders: equal for equal computations."""
        known: dict[str, bytes] = {}

        def token(name: str) -> bytes:
            if name in borders or name in self.inputs or not name:
                return b"border " + name.encode()
            return self.stored_hash(name) if name in self.stored else known.get(name, b"outside " + name.encode())

        for node, reads in zip(self.nodes, self.reads, strict=True):
            plain = NodeProto()
            plain.CopyFrom(node)
            for gone in ("name", "doc_string", "input", "output"):
                plain.ClearField(gone)
            body = plain.SerializeToString(deterministic=True)
            whole = _digest(b"\0".join((body, *(token(name) for name in reads))))
            for place, name in enumerate(node.output):
                if name:
                    known[name] = whole + bytes([min(place, 255)])
        return {name: known[name] for name in borders if name in known}

    def region(self, name: str, borders: Collection[str]) -> tuple[list[int], set[str]]:
        """The nodes that make a value of other borders, and the initializers that they read."""
        nodes: dict[int, None] = {}
        stored: set[str] = set()
        pending = [self.makers[name]]
        while pending:
            index = pending.pop()
            if index in nodes:
                continue
            nodes[index] = None
            for read in self.reads[index]:
                if read in self.stored:
                    stored.add(read)
                elif read not in borders and read in self.makers:
                    pending.append(self.makers[read])
        return list(nodes), stored


def labels(nodes: Collection[NodeProto]) -> set[str]:
    """What remarks and patterns call these nodes and those in their bodies, and what they make."""
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        first = next((name for name in node.output if name), "")
        found.add(node.name or f"{node.op_type}({first})")
        found.update(name for name in node.output if name)
        for body in _bodies(node):
            pending.extend(body.node)
            found.update(one.name for one in body.initializer)
    return found


def renamed(node: NodeProto, names: Mapping[str, str], outputs: Mapping[str, str]) -> NodeProto:
    """A copy of a node that reads and makes values of other names; its bodies read the same values as it does."""
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [outputs.get(name, name) for name in node.output]
    if names:
        for body in _bodies(copy):
            _rename(body, names)
    return copy


def _rename(body: GraphProto, names: Mapping[str, str]) -> None:
    own = _own(body)
    seen = {old: new for old, new in names.items() if old not in own}
    for node in body.node:
        node.input[:] = [seen.get(name, name) for name in node.input]
        for inner in _bodies(node):
            _rename(inner, seen)
    for output in body.output:
        output.name = seen.get(output.name, output.name)


def _reads(node: NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for body in _bodies(node):
        yield from _captured(body)


def _captured(body: GraphProto) -> Iterator[str]:
    own = _own(body)
    for node in body.node:
        yield from (name for name in _reads(node) if name not in own)
    yield from (output.name for output in body.output if output.name not in own)


def _own(body: GraphProto) -> set[str]:
    made = {name for node in body.node for name in node.output}
    return made | {one.name for one in body.input} | {one.name for one in body.initializer}


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
