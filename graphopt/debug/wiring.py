"""Which node makes and which reads each value of a model file, bodies counted with the node that has them.

Made on the message, not on `Graph`: a model that no pass can read still runs and can be looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from graphopt.storage.source import Source


@dataclass(frozen=True, eq=False)
class Region:
    """Nodes (by position in the graph, ascending) between some values that are given and some that are wanted.

    `reads` are the given values that they read, in the order of their first use.
    """

    nodes: tuple[int, ...]
    reads: tuple[str, ...]


@dataclass(eq=False)
class Wiring:
    """The main graph of a model as a map; names of bodies do not appear in it.

    `makers` is the node of each value, `reads` what each node reads, the values that its bodies
    capture included, and `readers` the other way round; `order` are all values that nodes make, in
    graph order, and `place` the position of each in it; `inputs` are the names that must or may be fed
    and are no weights, `weights` the initializers and `tensors` the dense ones of them.
    """

    source: Source
    makers: dict[str, int] = field(default_factory=dict)
    reads: list[tuple[str, ...]] = field(default_factory=list)
    readers: dict[str, list[int]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    weights: frozenset[str] = frozenset()
    tensors: dict[str, TensorProto] = field(default_factory=dict)
    place: dict[str, int] = field(default_factory=dict)
    inputs: frozenset[str] = frozenset()
    outputs: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Source) -> Wiring:
        """The map of a model that was read."""
        graph = source.proto.graph
        made = cls(source)
        sparse = {one.values.name for one in graph.sparse_initializer}
        made.tensors = {one.name: one for one in graph.initializer}
        made.weights = frozenset(made.tensors) | sparse
        made.inputs = frozenset(one.name for one in graph.input if one.name not in made.weights)
        made.outputs = tuple(dict.fromkeys(one.name for one in graph.output))
        for position, node in enumerate(graph.node):
            made.reads.append(tuple(dict.fromkeys(_read(node))))
            for name in made.reads[-1]:
                made.readers.setdefault(name, []).append(position)
            for name in node.output:
                if name:
                    made.makers[name] = position
                    made.order.append(name)
        made.place = {name: number for number, name in enumerate(made.order)}
        return made

    def node(self, value: str) -> NodeProto | None:
        """The node that makes a value; None for inputs and weights."""
        position = self.makers.get(value)
        return None if position is None else self.source.proto.graph.node[position]

    def region(self, wanted: Iterable[str], given: Collection[str]) -> Region:
        """What has to run for the `wanted` values when the `given` ones are fed.

        A wanted value is made even when it is among the given: its maker runs on given values.
        """
        nodes: set[int] = set()
        reads: dict[str, None] = {}
        pending = [self.makers[name] for name in wanted if name in self.makers]
        while pending:
            position = pending.pop()
            if position in nodes:
                continue
            nodes.add(position)
            for name in self.reads[position]:
                if name in given:
                    reads[name] = None
                elif name in self.makers:
                    pending.append(self.makers[name])
        return Region(tuple(sorted(nodes)), tuple(reads))

    def next_after(self, value: str, stops: Collection[str]) -> list[str]:
        """The first of some values on every way from `value` onwards, in graph order."""
        nodes = self.source.proto.graph.node
        found: set[str] = set()
        seen: set[str] = set()
        pending = [value]
        while pending:
            for position in self.readers.get(pending.pop(), ()):
                for name in nodes[position].output:
                    if name in stops:
                        found.add(name)
                    elif name and name not in seen:
                        seen.add(name)
                        pending.append(name)
        return sorted(found, key=self.place.__getitem__)

    def leading_to(self, values: Iterable[str], through: Callable[[str], bool]) -> set[str]:
        """The values from which one of `values` is reached over values that `through` lets pass, those included."""
        found: set[str] = set()
        pending = list(values)
        while pending:
            name = pending.pop()
            if name in found or name not in self.makers:
                continue
            found.add(name)
            pending.extend(one for one in self.reads[self.makers[name]] if through(one))
        return found

    def inside(self, region: Region, given: Collection[str]) -> list[str]:
        """The values that the nodes of a region make and that are not given, in graph order."""
        nodes = self.source.proto.graph.node
        return [name for one in region.nodes for name in nodes[one].output if name and name not in given]


def label(node: NodeProto) -> str:
    """A node in words: its operator, and its name or else its first output."""
    return f"{node.op_type} {(node.name or next(iter(node.output), ''))!r}"


def bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The bodies of a node with the names of their attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            for number, graph in enumerate(attribute.graphs):
                yield f"{attribute.name}[{number}]", graph


def captured(graph: GraphProto) -> list[str]:
    """What a body takes from outside, in the order of first use."""
    known = {one.name for one in graph.input} | {one.name for one in graph.initializer}
    known |= {one.values.name for one in graph.sparse_initializer}
    known.update(name for node in graph.node for name in node.output)
    found = [name for node in graph.node for name in _read(node)]
    found += [one.name for one in graph.output]
    return [name for name in dict.fromkeys(found) if name not in known]


def _read(node: NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for _, graph in bodies(node):
        yield from captured(graph)
