"""Nodes that move the elements of a tensor without changing them, and where its axes go.

A weight is often stored in another layout than the operator reads: behind a Transpose, a Reshape,
an Identity. A `View` follows the axes of the stored tensor through such nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.analysis.constants import constant_values
from graphopt.ir import Node

MOVERS = frozenset({"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators of the default domain whose first input comes out rearranged and otherwise as it was."""


@dataclass(frozen=True)
class View:
    """A tensor that holds the elements of another one, the stored tensor.

    `axes[i]` is the axis of the stored tensor that axis i is, None where it is none, part of one
    or several in one. Axes of size 1 may be either.
    """

    shape: tuple[int, ...]
    axes: tuple[int | None, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> View:
        """The stored tensor itself."""
        return cls(tuple(shape), tuple(range(len(shape))))

    def stored_axis(self, axis: int | None) -> int | None:
        """The axis of the stored tensor that `axis` of this view is, None where it is none."""
        return None if axis is None else self.axes[axis]

    def place_of(self, stored_axis: int) -> int | None:
        """Where an axis of the stored tensor is in this view, None where it is not one axis."""
        return self.axes.index(stored_axis) if stored_axis in self.axes else None

    def reshaped(self, shape: Sequence[int]) -> View:
        """The same elements in row-major order under another shape.

        An axis is still that axis where as many elements lie before it and it is as long.
        """
        starts: dict[tuple[int, int], int | None] = {}
        before = 1
        for size, axis in zip(self.shape, self.axes, strict=True):
            if size > 1:
                starts[before, size] = axis
            before *= size
        axes: list[int | None] = []
        before = 1
        for size in shape:
            axes.append(starts.get((before, size)))
            before *= size
        return View(tuple(shape), tuple(axes))


def is_mover(node: Node) -> bool:
    """Whether the node hands the elements of its first input on, rearranged at most."""
    return node.is_op(*MOVERS)


def moved(node: Node, view: View) -> View | None:
    """What a mover makes of a view of its first input; None where that is only known at run time."""
    if node.op == "Identity":
        return view
    if node.op == "Transpose":
        return _transposed(node, view)
    shape = _target(node, view.shape)
    if shape is None or math.prod(shape) != math.prod(view.shape) or 0 in shape:
        return None
    return view.reshaped(shape)


def _transposed(node: Node, view: View) -> View | None:
    rank = len(view.shape)
    order = node.attrs.get("perm", list(reversed(range(rank))))
    if not isinstance(order, list) or sorted(order) != list(range(rank)):
        return None
    return View(tuple(view.shape[i] for i in order), tuple(view.axes[i] for i in order))


def _target(node: Node, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that a Reshape, Flatten, Squeeze or Unsqueeze gives to a tensor of `shape`."""
    if node.op == "Flatten":
        axis = node.attrs.get("axis", 1)
        if not isinstance(axis, int) or not -len(shape) <= axis <= len(shape):
            return None
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    if node.op == "Reshape":
        return _reshape_target(node, shape)
    axes = _integers(node, "axes")
    if node.op == "Squeeze":
        if axes is None:
            return None if _given(node, "axes") else tuple(size for size in shape if size != 1)
        gone = {axis % len(shape) for axis in axes} if shape else set()
        return tuple(size for axis, size in enumerate(shape) if axis not in gone)
    if axes is None:
        return None
    rank = len(shape) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(shape)
    return tuple(1 if axis in new else next(rest, 0) for axis in range(rank))


def _reshape_target(node: Node, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    wanted = _integers(node, "shape")
    if wanted is None or any(size < -1 for size in wanted) or wanted.count(-1) > 1:
        return None
    if not node.attrs.get("allowzero"):
        if any(size == 0 and axis >= len(shape) for axis, size in enumerate(wanted)):
            return None
        wanted = [shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    known = math.prod(size for size in wanted if size != -1)
    if -1 in wanted and known == 0:
        return None
    return tuple(math.prod(shape) // known if size == -1 else size for size in wanted)


def _given(node: Node, name: str) -> bool:
    return name in node.attrs or (len(node.inputs) > 1 and bool(node.inputs[1].name))


def _integers(node: Node, name: str) -> list[int] | None:
    """A list of integers that is an attribute at old opsets and the second input at newer ones."""
    if name in node.attrs:
        value = node.attrs[name]
        return [int(one) for one in value] if isinstance(value, list) else None
    if not _given(node, name):
        return None
    values = constant_values(node.inputs[1])
    return None if values is None else [int(one) for one in values.reshape(-1)]
