"""Takes units of a group out of a graph: tensors really get shorter, and the numbers that say so follow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from graphopt.analysis.channels import Group, Member, Parameter, Site
from graphopt.analysis.constants import constant_of
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.ir.values import Array
from passes.prune.parameters import follow

Place = tuple[Tensor, int, Node | None]


def why_not_narrow(group: Group, normalized: bool = False) -> str | None:
    """Why no unit of the group can go, in a clause; with `normalized`, figures taken over all units may change."""
    if group.obstacle is not None and not (normalized and group.figures):
        return group.obstacle
    if group.size < 2:
        alone = all(site.positions.shape[1] == 1 for site in group.makers)
        return "it is a single channel" if alone else "all its channels hang together, as one unit"
    return None


def narrow(group: Group, kept: Array, graph: Graph) -> None:
    """Leave only the units `kept` (ascending) of a group; `graph` is the main graph or the group's own.

    Positions in other groups of the same analysis may be stale then: to narrow several, use one `Narrowing`.
    """
    Narrowing().narrow(group, kept)


@dataclass
class Narrowing:
    """Narrows groups that come from one analysis, one after the other.

    Groups may lie on the same axes (beside each other in a Concat, say), so that the positions of one move
    when another gets smaller; this keeps count. Each group can be narrowed once.
    """

    _left: dict[Place, Array] = field(default_factory=dict)
    _copies: dict[tuple[Tensor, Node], Tensor] = field(default_factory=dict)

    def left(self, tensor: Tensor, axis: int, reader: Node | None = None) -> Array | None:
        """For each index that the axis had at the time of the analysis whether it is left; None for all."""
        return self._left.get((tensor, axis, reader))

    def positions(self, place: Member | Site) -> Array:
        """Where the units of a group that has not been narrowed lie now: [units, k]."""
        left = self.left(place.tensor, place.axis, place.reader if isinstance(place, Member) else None)
        return place.positions if left is None else (np.cumsum(left) - 1)[place.positions]

    def narrow(self, group: Group, kept: Array) -> None:
        """Leave only the units `kept` (ascending numbers, at least one)."""
        gone = np.ones(group.size, np.bool_)
        gone[np.asarray(kept, np.int64)] = False
        if not gone.any():
            return
        for member in group.members:
            self._shorten(member, member.positions[gone].ravel(), group.graph)
        for parameter in group.parameters:
            self._follow(parameter, group.graph)

    def _shorten(self, member: Member, gone: Array, graph: Graph) -> None:
        place = (member.tensor, member.axis, member.reader)
        before = self._left.get(place)
        if before is None:
            before = np.ones(member.length, np.bool_)
        after = before.copy()
        after[gone] = False
        self._left[place] = after
        kept = np.flatnonzero(after[before])  # in terms of the axis as it is now
        held = constant_of(member.tensor)
        if held is None:
            assert isinstance(member.tensor, Variable)
            graph.narrow(member.tensor, member.axis, kept)
            return
        target = member.tensor
        if member.reader is not None:
            target = self._copy(member.tensor, member.reader, graph)
            self._left[target, member.axis, None] = after  # sites read the copy now
        held = constant_of(target)
        assert held is not None
        graph.set_values(target, np.ascontiguousarray(np.take(held.values, kept, axis=member.axis)))

    def _copy(self, tensor: Tensor, reader: Node, graph: Graph) -> Tensor:
        """The copy of a shared vector that only `reader` reads."""
        found = self._copies.get((tensor, reader))
        if found is None:
            held = constant_of(tensor)
            assert held is not None
            alone = tensor.readers == [reader] and not tensor.graph_outputs
            found = tensor if alone else graph.constant(held.values, tensor.name)
            for slot, one in enumerate(reader.inputs):
                if one is tensor and found is not tensor:
                    graph.rewire(reader, slot, found)
            self._copies[tensor, reader] = found
        return found

    def _follow(self, parameter: Parameter, graph: Graph) -> None:
        lengths = [self.left(parameter.tensor, parameter.axis)]
        if parameter.kind == "split":
            lengths = [self.left(output, parameter.axis) for output in parameter.node.outputs]
        follow(parameter, lengths, graph)
