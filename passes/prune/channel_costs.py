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
class Padded:
    """An axis of `length` channels of which kernels take `step` at a time; of `read` ones, also fewer than that."""

    length: int
    step: int
    read: bool = False

    def counted(self, channels: int) -> int:
        """How many channels the kernel computes with where there are so many."""
        return channels if self.read and channels < self.step else -(-channels // self.step) * self.step

    def share(self, left: float) -> float:
        """What is left of the work where a share `left` of the channels is."""
        whole = self.counted(self.length)
        return self.counted(round(left * self.length)) / whole if whole else left


@dataclass(frozen=True)
class Term:
    """An amount that shrinks with groups: of each of `parts` (group, units per share) the share that is left counts,
    where a unit is `1 / size` of its axis. Where there are `axes`, one for each part, they tell what counts."""

    amount: float
    parts: tuple[tuple[int, float], ...]
    axes: tuple[Padded, ...] = ()

    def left(self, gone: Sequence[int]) -> float:
        """The amount when so many units of each group are gone."""
        found = self.amount
        for at, (group, unit) in enumerate(self.parts):
            share = max(1 - gone[group] * unit, 0.0)
            found *= self.axes[at].share(share) if self.axes else share
        return found


class Costs:
    """The terms of a model, and what the whole comes to; `total` counts what no group touches, too."""

    def __init__(self, graph: Graph, shapes: Shapes, groups: Sequence[Group], target: Target, kernel: int = 0) -> None:
        self.terms = _channels(groups) if target == "channels" else []
        self.total = float(sum(group.size for group in groups))
        if target == "macs":
            self.terms, self.total = _macs(groups, shapes, kernel), float(macs(graph.root, shapes).count)
            for node in graph.root.nodes if kernel else ():
                self.total += float(node_macs(node, shapes).count) * (_padding(node, shapes, kernel) - 1)
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


def _macs(groups: Sequence[Group], shapes: Shapes, kernel: int) -> list[Term]:
    parts: dict[Node, list[tuple[int, float]]] = {}
    axes: dict[Node, list[Padded]] = {}
    for index, group in enumerate(groups):
        for site, read in (*((one, False) for one in group.makers), *((one, True) for one in group.readers)):
            parts.setdefault(site.node, []).append((index, _unit(site, shapes)))
            axes.setdefault(site.node, []).append(_padded(site.node, site.axis, shapes, kernel, read))
    found = list[Term]()
    for node, each in parts.items():
        amount = float(node_macs(node, shapes).count) * (_padding(node, shapes, kernel) if kernel else 1.0)
        found.append(Term(amount, tuple(each), tuple(axes[node]) if kernel else ()))
    return [term for term in found if term.amount > 0]


def _padded(node: Node, axis: int, shapes: Shapes, kernel: int, read: bool) -> Padded:
    """How a convolution takes the channels along an axis of its weight; other operators take as many as there are."""
    shape = shapes.shape(node.inputs[1]) if len(node.inputs) > 1 else None
    length = shape[axis] if shape is not None and axis < len(shape) else None
    return Padded(length if isinstance(length, int) else 0, kernel if kernel and node.is_op("Conv") else 1, read)


def _padding(node: Node, shapes: Shapes, kernel: int) -> float:
    """How many times as much as is needed a convolution computes."""
    if not node.is_op("Conv"):
        return 1.0
    axes = [_padded(node, 0, shapes, kernel, False), _padded(node, 1, shapes, kernel, True)]
    found = 1.0
    for axis in axes:
        found *= axis.counted(axis.length) / axis.length if axis.length else 1.0
    return found


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
