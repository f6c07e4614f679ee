"""What is saved when channels go: multiply-accumulates, bytes of weights, or channels, by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from graphopt.analysis.channels import Group, Site
from graphopt.analysis.constants import constant_of
from graphopt.analysis.cost import facts, macs, node_macs
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Constant, Graph, Node

Target = Literal["macs", "bytes", "channels"]


@dataclass(frozen=True)
class Term:
    """An amount that shrinks with groups: of each of `parts` (group, units per share) the share that is left counts,
    where a unit is `1 / size` of its axis."""

    amount: float
    parts: tuple[tuple[int, float], ...]

    def left(self, gone: Sequence[int]) -> float:
        """The amount when so many units of each group are gone."""
        found = self.amount
        for group, unit in self.parts:
            found *= max(1 - gone[group] * unit, 0.0)
        return found


class Costs:
    """The terms of a model, and what the whole comes to; `total` counts what no group touches, too."""

    def __init__(self, graph: Graph, shapes: Shapes, groups: Sequence[Group], target: Target) -> None:
        self.terms = _channels(groups) if target == "channels" else []
        self.total = float(sum(group.size for group in groups))
        if target == "macs":
            self.terms, self.total = _macs(groups, shapes), float(macs(graph.root, shapes).count)
        elif target == "bytes":
            self.terms, self.total = _bytes(groups), float(facts(graph.root).weight_bytes)
        self._of = [
            [term for term in self.terms if any(part[0] == index for part in term.parts)]
            for index in range(len(groups))
        ]

    def beside(self, group: int) -> set[int]:
        """Groups whose price changes when units of this one go, itself included."""
        return {group, *(other for term in self._of[group] for other, _ in term.parts)}

    def saved(self, gone: Sequence[int]) -> float:
        """What is saved in all when so many units of each group are gone."""
        return sum(term.amount - term.left(gone) for term in self.terms)

    def more(self, gone: Sequence[int], group: int, count: int) -> float:
        """What is saved in addition when of one group `count` are gone instead."""
        then = list(gone)
        then[group] = count
        return sum(term.left(gone) - term.left(then) for term in self._of[group])


def _macs(groups: Sequence[Group], shapes: Shapes) -> list[Term]:
    parts: dict[Node, list[tuple[int, float]]] = {}
    for index, group in enumerate(groups):
        for site in (*group.makers, *group.readers):
            parts.setdefault(site.node, []).append((index, _unit(site, shapes)))
    found = [Term(float(node_macs(node, shapes).count), tuple(each)) for node, each in parts.items()]
    return [term for term in found if term.amount > 0]


def _unit(site: Site, shapes: Shapes) -> float:
    """The share of the axis that one unit is."""
    shape = shapes.shape(site.tensor)
    length = shape[site.axis] if shape is not None and site.axis < len(shape) else None
    units, each = site.positions.shape
    return float(each / length) if isinstance(length, int) and length else 1 / max(units, 1)


def _bytes(groups: Sequence[Group]) -> list[Term]:
    parts: dict[Constant, list[tuple[int, float]]] = {}
    for index, group in enumerate(groups):
        for member in group.members:
            held = constant_of(member.tensor)
            if held is not None and member.length:
                parts.setdefault(held, []).append((index, member.positions.shape[1] / member.length))
    return [Term(float(held.nbytes), tuple(each)) for held, each in parts.items()]


def _channels(groups: Sequence[Group]) -> list[Term]:
    return [Term(float(group.size), ((index, 1 / group.size),)) for index, group in enumerate(groups) if group.size]
