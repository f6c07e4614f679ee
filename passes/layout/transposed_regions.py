"""Regions of nodes that could work on what is before Transposes, and how many Transposes that saves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.views import composed, permutation
from graphopt.ir import Graph, Node, Tensor
from passes.layout.facts import Facts
from passes.layout.followers import Ask, Follow, Perm, follow

_ROUNDS = 4  # times that regions are grown anew from Transposes behind what was cut off


@dataclass
class Region:
    """Connected nodes that follow Transposes, makers first, and the Transposes that they read."""

    nodes: dict[Node, Follow] = field(default_factory=dict)
    sources: dict[Node, None] = field(default_factory=dict)
    gain: int = 0
    """Transposes that go, less those that come."""


class Regions:
    """The regions of one graph, grown as far as operators allow and cut back to where they pay."""

    def __init__(self, scope: Graph, shapes: Facts, annotations: Annotations, exact: bool) -> None:
        self.scope, self.shapes, self.annotations = scope, shapes, annotations
        self.perms: dict[Tensor, Perm] = {}
        """What the Transpose behind a value is, for results of Transposes and of nodes that follow them."""
        self.sources: dict[Tensor, Node] = {}
        self.nodes: dict[Node, Follow] = {}
        self._readers: dict[Tensor, int] = {}
        self._inside: dict[Tensor, int] = {}
        self._outside: dict[Tensor, int] = {}
        # A Transpose of what follows another one ends a region. Where that is cut off, it can begin one.
        cut: set[Node] = set()
        for _ in range(_ROUNDS):
            self.perms, self.sources, self.nodes = {}, {}, {}
            ends = self._grow(exact, cut)
            self._count()
            before = len(cut)
            self._cut(cut)
            if len(cut) == before or all(one.inputs[0] in self.perms for one in ends):
                break

    def order(self, node: Node) -> Perm | None:
        """The permutation of a Transpose of this graph; None for any other node."""
        if not node.is_op("Transpose") or node.graph is not self.scope or not node.inputs[0].name:
            return None
        given = node.attrs.get("perm")
        rank = len(given) if isinstance(given, list) else self.shapes.rank(node.inputs[0])
        found = None if rank is None else permutation(node, rank)
        return None if found is None else tuple(found)

    def found(self) -> list[Region]:
        """The regions, in the order of their first nodes."""
        parent: dict[Node, Node] = {}

        def find(node: Node) -> Node:
            while parent.setdefault(node, node) is not node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            return node

        for node in self.nodes:
            for tensor in self.operands(node):
                parent[find(tensor.inputs[0])] = find(node)
        regions: dict[Node, Region] = {}
        for node, how in self.nodes.items():
            region = regions.setdefault(find(node), Region())
            region.nodes[node] = how
            for tensor in self.operands(node):
                source = self.sources.get(tensor)
                if source is not None and source not in region.sources:
                    region.sources[source] = None
                    region.gain += self.is_freed(tensor)
            region.gain += sum(self._exit(tensor) for tensor in node.outputs if tensor in self.perms)
        return list(regions.values())

    def operands(self, node: Node) -> list[Tensor]:
        """The inputs of a node that are behind a Transpose, each once."""
        return [one for one in dict.fromkeys(node.inputs) if one in self.perms]

    def is_freed(self, source: Tensor) -> bool:
        """Whether only nodes that follow it read the result of a Transpose."""
        only = self._readers[source] == self._inside[source]
        return only and not source.graph_outputs and self.annotations.about(source) is None

    def undone(self, tensor: Tensor) -> list[Node]:
        """The Transposes of a result whose own results are what is before the Transpose behind it."""
        found: list[Node] = []
        named = False
        for reader in dict.fromkeys(tensor.readers):
            order = self.order(reader)
            if order is None or composed(self.perms[tensor], order) != list(range(len(order))):
                continue
            result = reader.outputs[0]
            outputs = result.graph_outputs
            if self.annotations.about(result) is not None or (outputs and (named or len(outputs) > 1)):
                continue
            named = named or bool(outputs)
            found.append(reader)
        return found

    def is_needed(self, tensor: Tensor) -> bool:
        """Whether something reads a result that neither follows nor is a Transpose itself."""
        return self._outside[tensor] > 0 or bool(tensor.graph_outputs)

    def _exit(self, tensor: Tensor) -> int:
        return len(self.undone(tensor)) - self.is_needed(tensor)

    def _count(self) -> None:
        for tensor in self.perms:
            readers = dict.fromkeys(tensor.readers)
            self._readers[tensor] = len(readers)
            self._inside[tensor] = sum(one in self.nodes for one in readers)
            self._outside[tensor] = sum(one not in self.nodes and self.order(one) is None for one in readers)

    def _grow(self, exact: bool, cut: set[Node]) -> list[Node]:
        """Follow Transposes as far as it goes, around nodes that were cut off; the Transposes at the ends."""
        opset = self.scope.opset_of()
        ends: list[Node] = []
        for node in self.scope.nodes:
            order = self.order(node)
            if order is not None:
                if node.inputs[0] in self.perms and node.inputs[0] not in self.sources:
                    ends.append(node)
                elif order != tuple(range(len(order))):
                    self.perms[node.outputs[0]] = order
                    self.sources[node.outputs[0]] = node
                continue
            perms = [self.perms.get(one) for one in node.inputs]
            if node in cut or not any(perms) or any(self.annotations.about(one) is not None for one in node.outputs):
                continue
            how = follow(Ask(node, perms, self.shapes, opset), exact)
            if how is not None:
                self.nodes[node] = how
                self.perms.update(
                    (one, perm)
                    for one, perm in zip(node.outputs, how.results, strict=True)
                    if one.name and perm != tuple(range(len(perm)))
                )
        return ends

    def _cut(self, cut: set[Node]) -> None:
        """Leave out the nodes at the ends that save nothing, until each end saves something."""
        for node in reversed(list(self.nodes)):
            results = [one for one in node.outputs if one in self.perms]
            if any(self._inside[one] for one in results):
                continue
            gain = sum(map(self._exit, results))
            for tensor in self.operands(node):
                gain += self.is_freed(tensor) if tensor in self.sources else not self.is_needed(tensor)
            if gain <= 0:
                del self.nodes[node]
                cut.add(node)
                for tensor in self.operands(node):
                    self._inside[tensor] -= 1
                    self._outside[tensor] += 1
                for one in results:
                    del self.perms[one]


def changed(region: Region, regions: Regions) -> Iterable[Node]:
    """The Transposes that moving a region takes away or changes."""
    yield from region.sources
    for node in region.nodes:
        for tensor in node.outputs:
            if tensor in regions.perms:
                yield from (one for one in tensor.readers if regions.order(one) is not None)
