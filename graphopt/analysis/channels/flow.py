"""What is known while a graph is walked: a label for every index of every axis that may get shorter.

A label is a number that stands for "one index of one axis"; equal labels (in the end: labels that
were joined) go or stay together. Labels come from stored tensors, since only weights can make a
channel go; operators pass them on, join them, or bar them with a reason. An axis that cannot get
shorter has a reason, a clause, in place of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphopt.analysis.channels.groups import Kind, Parameter
from graphopt.analysis.constants import constant_of
from graphopt.analysis.shapes import Shapes
from graphopt.analysis.weight_axes import axes_of, is_weight_slot
from graphopt.ir import Constant, Graph, Node, Tensor, Variable
from graphopt.ir.values import Array

Labels = Array | str
"""Labels of the indices of an axis, or why the axis is as long as it is."""
Axes = tuple[Labels, ...]

TARGETS = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}
"""Inputs of operators that say how long the axes of their results are."""

LONGEST = 1 << 20
_VECTOR = 1 << 16


@dataclass(frozen=True, eq=False)
class Stated:
    """An integer that the model states: element `index` of the constant in input `slot` of `node`."""

    node: Node
    slot: int
    index: int
    value: int


Size = Array | Stated | None
"""An integer that is the length of an axis with these labels, or is stated, or is something else."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A weight that an operator reads, with the labels of the axis that is its output or its input."""

    node: Node
    slot: int
    axis: int
    labels: Array
    groups: int = 1


@dataclass
class Flow:
    """The state of one walk over the nodes of one graph; `node` is the one that is looked at, `functions` are
    those that the model defines.

    A stored vector that several nodes read has labels for each of them, since a copy of it costs little: two
    channels do not belong together because their biases happen to be the same tensor.
    """

    graph: Graph
    shapes: Shapes
    functions: frozenset[tuple[str, str]] = frozenset()
    node: Node | None = None
    known: dict[Tensor, Axes | None] = field(default_factory=dict)
    copies: dict[tuple[Tensor, Node], Axes] = field(default_factory=dict)
    stored: set[Tensor] = field(default_factory=set)
    count: int = 0
    left: list[Array] = field(default_factory=list)
    right: list[Array] = field(default_factory=list)
    bars: list[tuple[Array, str]] = field(default_factory=list)
    figures: list[tuple[Array, str]] = field(default_factory=list)
    makers: list[Seen] = field(default_factory=list)
    readers: list[Seen] = field(default_factory=list)
    needs: list[tuple[Parameter, Array]] = field(default_factory=list)
    sizes: dict[Tensor, list[Size]] = field(default_factory=dict)
    uses: dict[Stated, Labels] = field(default_factory=dict)
    targets: dict[Tensor, bool] = field(default_factory=dict)

    def axes(self, tensor: Tensor) -> Axes | None:
        """The labels of the axes of a tensor; None where not even its rank is known."""
        if tensor in self.known:
            return self.known[tensor]
        default = self.graph.defaults.get(tensor) if isinstance(tensor, Variable) else None
        held = default or constant_of(tensor)
        if held is None:
            return self.fix(tensor, f"{tensor.name!r} is made in another graph")
        self.stored.add(tensor)
        if default is None and _is_shared_vector(tensor, held):
            return self._copy(tensor, held)
        away = next((node for node in tensor.readers if node.graph is not self.graph), None)
        if away is not None:
            return self.fix(tensor, f"{tensor.name!r} is read in another graph, by {away.op} {away.label!r}")
        found: Axes = tuple(self._fresh(tensor, int(size)) for size in held.shape)
        self.known[tensor] = found
        if default is not None:
            self.bar_all(tensor, f"{tensor.name!r} is also a graph input, whose value callers may give")
        return found

    def _copy(self, tensor: Tensor, held: Constant) -> Axes:
        if self.node is None:
            return ("it is copied for each reader",) * len(held.shape)
        found = self.copies.get((tensor, self.node))
        if found is None:
            found = self.copies[tensor, self.node] = tuple(self.fresh(int(size)) for size in held.shape)
        return found

    def _fresh(self, tensor: Tensor, size: int) -> Labels:
        return self.fresh(size) if size <= LONGEST else f"{tensor.name!r} is longer than {LONGEST}"

    def fresh(self, size: int) -> Array:
        """Labels that nothing else has."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def give(self, tensor: Tensor, axes: Sequence[Labels] | None) -> None:
        """Say what the axes of a result are."""
        before = self.known.get(tensor)
        self.known[tensor] = None if axes is None else tuple(axes)
        if before is not None:  # read before it was made: the nodes are out of order
            self.bar_all(tensor, f"{tensor.name!r} is read before it is made")

    def fix(self, tensor: Tensor, why: str) -> Axes | None:
        """Say that no axis of a tensor can get shorter."""
        rank = self.shapes.rank(tensor)
        found = None if rank is None else (why,) * rank
        self.known[tensor] = found
        return found

    def dim(self, tensor: Tensor, axis: int) -> int | None:
        """The length of an axis where it is a known number."""
        axes = self.axes(tensor)
        if axes is not None and isinstance(labels := axes[axis], np.ndarray):
            return len(labels)
        dims = self.shapes.dims(tensor)
        found = None if dims is None else dims[axis]
        return found if isinstance(found, int) else None

    def join(self, one: Labels, other: Labels) -> None:
        """The indices of these two axes go or stay together, one by one."""
        if isinstance(one, str) or isinstance(other, str):
            if isinstance(one, np.ndarray):
                self.bar(one, str(other))
            if isinstance(other, np.ndarray):
                self.bar(other, str(one))
        elif len(one) != len(other):
            self.bar(one, "the sizes of axes that belong together differ")
            self.bar(other, "the sizes of axes that belong together differ")
        elif one is not other:
            self.left.append(one)
            self.right.append(other)

    def tie(self, rows: Array) -> Array:
        """The labels in each row of a matrix go or stay together; returns one label for each row."""
        first = rows[:, 0]
        if rows.shape[1] > 1:
            self.left.append(np.repeat(first, rows.shape[1] - 1))
            self.right.append(rows[:, 1:].ravel())
        return first

    def bar(self, labels: Labels, why: str) -> None:
        """These indices must stay."""
        if isinstance(labels, np.ndarray) and len(labels):
            self.bars.append((labels, why))

    def bar_figures(self, labels: Labels, why: str) -> None:
        """Figures of all these indices together are taken, such as a mean: without some they are other figures."""
        if isinstance(labels, np.ndarray) and len(labels):
            self.figures.append((labels, why))

    def bar_all(self, tensor: Tensor, why: str) -> None:
        """No axis of this tensor can get shorter, whatever was known of it."""
        for labels in self.axes(tensor) or ():
            self.bar(labels, why)

    def use(self, size: Stated, labels: Labels) -> None:
        """A stated integer says how long an axis is, or (a reason) something else: all axes it speaks of agree."""
        before = self.uses.setdefault(size, labels)
        if before is not labels:
            self.join(before, labels)

    def stop(self, node: Node, why: str) -> None:
        """Nothing is known of how this operator treats axes: inputs and outputs keep their sizes."""
        for slot, tensor in enumerate(node.inputs):
            if tensor.name:
                self.bar_all(tensor, why)
                if is_weight_slot(node, slot) and tensor in self.stored:
                    sizes = [self.dim(tensor, axis) or 0 for axis in range(len(self.axes(tensor) or ()))]
                    channel = axes_of(node, slot, sizes).channel
                    if channel is not None:
                        self.maker(node, slot, channel)  # so that somebody says why it stays
        for tensor in node.outputs:
            if tensor.name:
                self.fix(tensor, why)

    def maker(self, node: Node, slot: int, axis: int, groups: int = 1) -> None:
        """`axis` of the weight in `slot` is an output axis."""
        self._seen(self.makers, node, slot, axis, groups)

    def reader(self, node: Node, slot: int, axis: int) -> None:
        """`axis` of the weight in `slot` is summed over."""
        self._seen(self.readers, node, slot, axis, 1)

    def _seen(self, found: list[Seen], node: Node, slot: int, axis: int, groups: int) -> None:
        tensor = node.inputs[slot]
        labels = (self.axes(tensor) or ())[axis]
        if tensor in self.stored and isinstance(labels, np.ndarray):
            found.append(Seen(node, slot, axis, labels, groups))

    def follow(self, size: Stated, axis: int, slot: int) -> None:
        """A stated integer, which the node that is looked at reads in input `slot`, has to follow the length of
        `axis` of its result."""
        node = self.node
        assert node is not None
        output, target = node.outputs[0], node.inputs[slot]
        private = size.node is not node and target is size.node.outputs[0] and self._is_target(target)
        if not private:
            self.use(size, (self.axes(output) or ())[axis])
        reader = node if private else None
        self.need("size", size.node, output, axis, slot=size.slot, index=size.index, reader=reader, target=slot)

    def _is_target(self, tensor: Tensor) -> bool:
        """Whether a vector of sizes is read as a target only, so that every reader can have a copy of its own."""
        found = self.targets.get(tensor)
        if found is None:
            slots = [(node, slot) for node in tensor.readers for slot, one in enumerate(node.inputs) if one is tensor]
            found = all(node.graph is self.graph and TARGETS.get(node.op) == slot for node, slot in slots)
            self.targets[tensor] = found = found and not tensor.graph_outputs
        return found

    def need(self, kind: Kind, node: Node, tensor: Tensor, axis: int, **more: Any) -> None:
        """A parameter of `node` follows the length of `axis` of `tensor`, if that has labels (see `Parameter`)."""
        labels = (self.axes(tensor) or ())[axis]
        if isinstance(labels, np.ndarray):
            self.needs.append((Parameter(kind, node, tensor, axis, **more), labels))


def _is_shared_vector(tensor: Tensor, held: Constant) -> bool:
    long = [size for size in held.shape if size != 1]
    return len(long) == 1 and 1 < long[0] <= _VECTOR and (len(tensor.outputs) > 1 or bool(tensor.graph_outputs))


def named(node: Node) -> str:
    """How a clause names a node."""
    return f"{node.op} {node.label!r}"
