"""From labels on axes to groups: who hangs together, what has to stay, and where each unit lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from graphopt.analysis.channels.components import components
from graphopt.analysis.channels.flow import Axes, Flow, Seen
from graphopt.analysis.channels.groups import Group, Member, Parameter, Site
from graphopt.analysis.channels.walk import walk
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.garbage import collector_paused
from graphopt.ir.values import Array


def channel_groups(graph: Graph, shapes: Shapes) -> list[Group]:
    """The groups of axes that move together in the whole model that `graph` belongs to, in its order.

    Main graph, bodies and functions are looked at each by themselves: what crosses their borders stays. Indices that
    must stay and indices that need not are in different groups, so a group with an obstacle can share tensors
    with one that has none; so do groups that lie beside each other in a Concat. Linear in nodes, readers
    and the lengths of the axes of stored tensors.
    """
    found = list[Group]()
    with collector_paused():
        for scope in graph.root.scopes():
            flow = walk(scope, shapes)
            if flow.makers:
                found += _groups(flow)
    return found


@dataclass(frozen=True, eq=False)
class _Axis:
    """Labels that one or several axes share: where the units of each group lie on it."""

    labels: Array
    tensors: list[tuple[Tensor, int, Node | None]] = field(default_factory=list)


@dataclass
class _Parts:
    """What has been gathered of one group."""

    subject: Node
    size: int
    obstacle: str | None
    figures: bool
    members: list[Member] = field(default_factory=list)
    makers: list[Site] = field(default_factory=list)
    readers: list[Site] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)


def _groups(flow: Flow) -> list[Group]:
    roots = components(flow.count, _joined(flow.left), _joined(flow.right))
    axes = _distinct(flow)
    why = _reasons(flow, roots)
    group_of = _partition(flow, axes, roots, why)
    unit_of, sizes = _numbered(group_of)
    parts = _parts(flow, roots, group_of, sizes, why)
    places = dict[int, dict[int, Array]]()
    for axis in axes.values():
        where = places[id(axis.labels)] = _places(roots[axis.labels], group_of, unit_of, sizes)
        for group, positions in where.items():
            length = len(axis.labels)
            parts[group].members += [Member(one, at, positions, length, reader) for one, at, reader in axis.tensors]
    for seen in flow.makers:
        for group, positions in places[id(seen.labels)].items():
            parts[group].makers.append(_site(seen, positions))
    for seen in flow.readers:
        for group, positions in places[id(seen.labels)].items():
            parts[group].readers.append(_site(seen, positions))
    for parameter, labels in flow.needs:
        for group in places[id(labels)]:
            parts[group].parameters.append(parameter)
    return [
        Group(
            one.size,
            tuple(one.members),
            tuple(one.makers),
            tuple(one.readers),
            one.subject,
            one.obstacle,
            tuple(one.parameters),
            flow.graph,
            one.figures,
        )
        for one in parts
    ]


def _joined(pieces: Iterable[Array]) -> Array:
    found = list(pieces)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _distinct(flow: Flow) -> dict[int, _Axis]:
    """The different label arrays, with every axis that has them; in the order of the walk."""
    found = dict[int, _Axis]()
    for tensor, reader, axes in _everything(flow):
        for at, labels in enumerate(axes):
            if isinstance(labels, np.ndarray):
                one = found.setdefault(id(labels), _Axis(labels))
                one.tensors.append((tensor, at, reader))
    return found


def _everything(flow: Flow) -> Iterator[tuple[Tensor, Node | None, Axes]]:
    for tensor, axes in flow.known.items():
        if axes is not None:
            yield tensor, None, axes
    for (tensor, reader), axes in flow.copies.items():
        yield tensor, reader, axes


_Reason = tuple[str, bool]  # why, and whether it is of figures only


def _reasons(flow: Flow, roots: Array) -> tuple[Array, list[_Reason]]:
    """For each root the number of the first reason why it must stay, -1 where there is none, and the reasons."""
    number = np.full(flow.count, -1, np.int64)
    reasons = dict[_Reason, int]()
    for found, of_figures in ((flow.figures, True), (flow.bars, False)):  # what cannot be helped wins
        for labels, why in reversed(found):  # so that the first one wins
            number[roots[labels]] = reasons.setdefault((why, of_figures), len(reasons))
    return number, list(reasons)


def _partition(flow: Flow, axes: dict[int, _Axis], roots: Array, why: tuple[Array, list[_Reason]]) -> Array:
    """For each root the number of its group, -1 for what no weight makes.

    Roots that lie on the same axes, equally often, are in one group. Each axis adds a number of 64 bits
    to its roots; equal sums are equal sets but for a chance of one in 2^64 a pair.
    """
    sums = np.zeros(flow.count, np.uint64)
    mixed = _mixed(len(axes) + len(why[1]) + 1)
    for at, axis in enumerate(axes.values()):
        np.add.at(sums, roots[axis.labels], mixed[at])
    barred = why[0] >= 0
    sums[barred] += mixed[len(axes) + why[0][barred]]
    group_of = np.full(flow.count, -1, np.int64)
    made = np.unique(roots[_joined(seen.labels for seen in flow.makers)])
    _, group_of[made] = np.unique(sums[made], return_inverse=True)
    first = list[int]()  # groups in the order in which makers first name them
    seen_groups = set[int]()
    for seen in flow.makers:
        for group in dict.fromkeys(group_of[roots[seen.labels]].tolist()):
            if group not in seen_groups:
                seen_groups.add(group)
                first.append(group)
    order = np.empty(len(first), np.int64)
    order[first] = np.arange(len(first))
    group_of[made] = order[group_of[made]]
    return group_of


def _mixed(count: int) -> Array:
    """Numbers that look random (the finalizer of splitmix64 on 1, 2, 3, ...)."""
    one = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    one = (one ^ (one >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    one = (one ^ (one >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(one ^ (one >> np.uint64(31)))


def _numbered(group_of: Array) -> tuple[Array, Array]:
    """For each root its number among the units of its group, in ascending order, and the size of each group."""
    unit_of = np.full(len(group_of), -1, np.int64)
    used = np.flatnonzero(group_of >= 0)
    order = used[np.argsort(group_of[used], kind="stable")]
    sizes = np.bincount(group_of[used]) if len(used) else np.zeros(0, np.int64)
    starts = np.cumsum(sizes) - sizes
    unit_of[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return unit_of, sizes


def _places(roots: Array, group_of: Array, unit_of: Array, sizes: Array) -> dict[int, Array]:
    """Where the units of each group lie on an axis: [units, k] for each group that is on it."""
    groups, units = group_of[roots], unit_of[roots]
    first = int(groups[0]) if len(groups) else -1
    if first >= 0 and len(roots) == sizes[first] and bool(np.all(groups == first)):
        straight = np.arange(len(roots))
        if np.array_equal(units, straight):  # the usual case: all of one group, in order
            return {first: straight[:, None]}
    at = np.flatnonzero(groups >= 0)
    if not len(at):
        return {}
    order = at[np.lexsort((at, units[at], groups[at]))]
    found = dict[int, Array]()
    present, starts = np.unique(groups[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    for group, start, end in zip(present.tolist(), starts.tolist(), ends, strict=True):
        found[group] = order[start:end].reshape(int(sizes[group]), -1)
    return found


def _parts(flow: Flow, roots: Array, group_of: Array, sizes: Array, why: tuple[Array, list[_Reason]]) -> list[_Parts]:
    found = list[_Parts]()
    for seen in flow.makers:
        mine = roots[seen.labels]
        groups, at = np.unique(group_of[mine], return_index=True)
        for group, place in zip(groups.tolist(), at.tolist(), strict=True):
            if group == len(found):
                reason = int(why[0][mine[place]])
                clause, of_figures = why[1][reason] if reason >= 0 else (None, False)
                found.append(_Parts(seen.node, int(sizes[group]), clause, of_figures))
    return found


def _site(seen: Seen, positions: Array) -> Site:
    return Site(seen.node, seen.slot, seen.axis, positions, seen.groups)
