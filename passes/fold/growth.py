"""Which nodes to fold so that the file does not grow: what results take against what they free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from graphopt.analysis.extent import Extent
from graphopt.analysis.file_bytes import constant_node_bytes, held_bytes, initializer_bytes, node_bytes
from graphopt.ir import Node, Tensor

_HEAVY = 256  # bytes from which on a constant makes one decision of all nodes that read it
_FEW = 4  # readers up to which any constant does
_ROUNDS = 32  # times that one group is tried with its worst node left out


@dataclass
class Plan:
    """`fold` maps the nodes that are replaced to those of their outputs that have to be stored, in the
    order of the candidates; what else is computed with the results goes with them. `refused` says why
    others are not folded."""

    fold: dict[Node, list[Tensor]] = field(default_factory=dict)
    refused: dict[Node, str] = field(default_factory=dict)


class Growth:
    """Weighs candidates: nodes whose results are known, makers first.

    `extents` are of their outputs; `pinned` are outputs that must stay whoever reads them; `as_nodes`
    those whose result becomes a Constant node, not an initializer.
    """

    def __init__(
        self,
        candidates: Iterable[Node],
        extents: Mapping[Tensor, Extent],
        pinned: set[Tensor],
        as_nodes: set[Tensor],
        kept: set[Tensor],
    ) -> None:
        self.extents, self.pinned, self.as_nodes, self.kept = extents, pinned, as_nodes, kept
        self.order = {node: place for place, node in enumerate(self._alive(list(candidates)))}
        self._readers: dict[Tensor, int] = {}

    def plan(self) -> Plan:
        """Fold everything, group by group, without the nodes that would make the file grow."""
        plan = Plan()
        found: dict[Node, list[Tensor]] = {}
        for group in self._groups(self.order):
            self._settle(group, found, plan.refused)
        plan.fold = {node: found[node] for node in self.order if node in found}
        return plan

    def _alive(self, candidates: list[Node]) -> list[Node]:
        """The candidates that somebody else needs; what nobody does stays, and goes on reading."""
        every = dict.fromkeys(candidates)
        alive: dict[Node, None] = {}
        for node in reversed(candidates):
            if self._needed(node, every) or any(one in alive for out in node.outputs for one in out.readers):
                alive[node] = None
        return list(reversed(alive))

    def _settle(self, group: list[Node], found: dict[Node, list[Tensor]], refused: dict[Node, str]) -> None:
        pending, rounds = [group], 0
        while pending:
            members = dict.fromkeys(pending.pop())
            stored = {node: needed for node in members if (needed := self._needed(node, members))}
            cost = sum(self._stored(one) for needed in stored.values() for one in needed)
            freed = self._freed(members)
            if cost <= freed:
                found.update(stored)
                continue
            rounds += 1
            # Nodes that nobody needs go with their readers, so only what is stored can be given up.
            worst = max(stored, key=lambda node: (self._growth(node, stored[node]), self.order[node]))
            over = sum(self._stored(one) for one in stored[worst])
            why = f"the file would grow: {over} bytes of result, where {cost} would be stored and {freed} freed"
            for node in stored if rounds > _ROUNDS else (worst,):
                refused[node] = why
            if rounds <= _ROUNDS:
                pending += self._groups(node for node in members if node is not worst)

    def _groups(self, nodes: Iterable[Node]) -> list[list[Node]]:
        """The nodes that depend on each other's decision: makers and readers, readers of a heavy constant."""
        parent = {node: node for node in nodes}

        def find(node: Node) -> Node:
            while parent[node] is not node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            return node

        first: dict[Tensor, Node] = {}
        for node in parent:
            for one in node.inputs:
                maker = one.inputs[0] if one.inputs else None
                if maker is not None and maker in parent:
                    parent[find(node)] = find(maker)
                elif one not in first:
                    first[one] = node
                elif self._count(one) <= _FEW or held_bytes(one) >= _HEAVY:
                    parent[find(node)] = find(first[one])
        groups: dict[Node, list[Node]] = {}
        for node in parent:
            groups.setdefault(find(node), []).append(node)
        return list(groups.values())

    def _needed(self, node: Node, members: Mapping[Node, None]) -> list[Tensor]:
        """The outputs that something else than `members` reads."""
        return [
            one
            for one in node.outputs
            if one.name
            and (one in self.pinned or one.graph_outputs or any(reader not in members for reader in one.readers))
        ]

    def _growth(self, node: Node, needed: list[Tensor]) -> int:
        inputs = sum(self.extents[one].bytes if one in self.extents else held_bytes(one) for one in set(node.inputs))
        return sum(self._stored(one) for one in needed) - inputs

    def _stored(self, tensor: Tensor) -> int:
        """Bytes that a result takes in the file."""
        weigh = constant_node_bytes if tensor in self.as_nodes else initializer_bytes
        extent = self.extents[tensor]
        return weigh(tensor.name, extent.shape, extent.bytes)

    def _freed(self, members: Mapping[Node, None]) -> int:
        """Bytes that go with `members`: their own, and those of the constants that only they read."""
        total, read = 0, dict[Tensor, int]()
        for node in members:
            total += node_bytes(node)
            for one in dict.fromkeys(node.inputs):
                if one.name and (not one.inputs or one.inputs[0] not in members):
                    read[one] = read.get(one, 0) + 1
        for one, count in read.items():
            if count == self._count(one) and not one.graph_outputs and one not in self.kept:
                total += held_bytes(one)
        return total

    def _count(self, tensor: Tensor) -> int:
        """How many nodes read a constant."""
        if tensor not in self._readers:
            self._readers[tensor] = len(tensor.readers)
        return self._readers[tensor]
