"""Views: nodes that hand on all elements of their first input, under another shape or in another order.

A reshape-like node keeps the elements in row-major order, so it is told by the dims before and after
alone; a permutation moves axes. Where only axes of size 1 move, a node is both.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.analysis.dim_bounds import at_least
from graphopt.analysis.dim_functions import divide, product
from graphopt.analysis.dims import Dim, Unwieldy
from graphopt.analysis.matching import integers, operand
from graphopt.ir import Node

RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
VIEWS = (*RESHAPES, "Transpose")

Dims = tuple[Dim, ...]


def is_view(node: Node) -> bool:
    """Whether the node is a view of its first input, and reads it."""
    return node.is_op(*VIEWS) and operand(node, 0) is not None and len(node.outputs) == 1


def permutation(node: Node, rank: int) -> list[int] | None:
    """The axes of the input in the order of the output of a Transpose; None where it is not valid."""
    order = node.attrs.get("perm", list(reversed(range(rank))))
    return order if isinstance(order, list) and sorted(order) == list(range(rank)) else None


def composed(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """The permutation that does what `first` and then `second` do."""
    return [first[axis] for axis in second]


def inverse(order: Sequence[int]) -> list[int]:
    """The permutation that undoes `order`."""
    undone = [0] * len(order)
    for place, axis in enumerate(order):
        undone[axis] = place
    return undone


def viewed(node: Node, dims: Dims) -> Dims | None:
    """The dims that a view gives to an input of these dims; None where they cannot be told."""
    rank = len(dims)
    if node.op == "Transpose":
        order = permutation(node, rank)
        return None if order is None else tuple(dims[axis] for axis in order)
    try:
        if node.op == "Flatten":
            axis = node.attrs.get("axis", 1)
            if not isinstance(axis, int) or not -rank <= axis <= rank:
                return None
            axis = axis + rank if axis < 0 else axis
            return product(dims[:axis]), product(dims[axis:])
        if node.op == "Reshape":
            return _reshaped(node, dims)
    except Unwieldy:
        return None
    axes = integers(node, 1, "axes")
    if axes is None:
        return None
    if node.op == "Squeeze":
        if any(not -rank <= axis < rank for axis in axes):
            return None
        gone = {axis % rank for axis in axes}
        return tuple(dim for axis, dim in enumerate(dims) if axis not in gone)
    rank += len(axes)
    if any(not -rank <= axis < rank for axis in axes):
        return None
    new = {axis % rank for axis in axes}
    if len(new) != len(axes):
        return None
    rest = iter(dims)
    return tuple(1 if axis in new else next(rest) for axis in range(rank))


def _reshaped(node: Node, dims: Dims) -> Dims | None:
    wanted = integers(node, 1, "shape")
    if wanted is None or any(size < -1 for size in wanted) or wanted.count(-1) > 1:
        return None
    if not node.attrs.get("allowzero", 0):
        if any(size == 0 and axis >= len(dims) for axis, size in enumerate(wanted)):
            return None
        known: list[Dim] = [dims[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    elif "allowzero" in node.attrs and not isinstance(node.attrs["allowzero"], int):
        return None
    else:
        known = list(wanted)
    if -1 in wanted:
        place = wanted.index(-1)
        left = list(dims)
        others: list[Dim] = []
        for size in (*known[:place], *known[place + 1 :]):  # equal sizes cancel, also where they can be 0
            if size in left:
                left.remove(size)
            else:
                others.append(size)
        rest = product(others)
        inferred = product(left) if rest == 1 else None if rest == 0 else divide(product(left), rest)
        if inferred is None:
            return None
        known[place] = inferred
    return tuple(known)


def targets(source: Dims, wanted: Dims) -> list[list[int]]:
    """The constant second inputs by which a Reshape makes `wanted` of `source` in every run.

    A 0 copies the dim at its place; -1 is what is left, and can only be told where no other dim is 0.
    Empty where no such constant is known.
    """
    target: list[int] = []
    for axis, dim in enumerate(wanted):
        if isinstance(dim, int) and dim > 0:
            target.append(dim)
        elif axis < len(source) and source[axis] == dim:
            target.append(0)
        else:
            target.append(-1)
    if target.count(-1) > 1 or (-1 in target and wanted[target.index(-1)] == 0):
        return []
    if -1 in target:
        others = [dim for dim, size in zip(wanted, target, strict=True) if size != -1]
        return [target] if all(at_least(dim, 1) for dim in others) else []
    found = [target]
    if target.count(0) <= 1:
        for axis in [axis for axis, size in enumerate(target) if size == 0] or range(len(target)):
            others = [dim for place, dim in enumerate(wanted) if place != axis]
            if all(at_least(dim, 1) for dim in others):
                found.append([-1 if place == axis else size for place, size in enumerate(target)])
    return found


def new_axes(source: Dims, wanted: Dims) -> list[int] | None:
    """The axes of `wanted` which, all of size 1, are all that it has besides those of `source`."""
    axes: list[int] = []
    place = 0
    for axis, dim in enumerate(wanted):
        if place < len(source) and source[place] == dim:
            place += 1
        elif dim == 1:
            axes.append(axis)
        else:
            return None
    return axes if place == len(source) and axes else None


def as_permutation(source: Dims, wanted: Dims) -> list[int] | None:
    """The order of the axes of `source` that a reshape to `wanted` amounts to, because it only moves
    axes of size 1; None where it does more."""
    if len(source) != len(wanted):
        return None
    ones = iter([axis for axis, dim in enumerate(source) if dim == 1])
    others = iter([axis for axis, dim in enumerate(source) if dim != 1])
    order: list[int] = []
    for dim in wanted:
        axis = next(ones if dim == 1 else others, None)
        if axis is None or source[axis] != dim:
            return None
        order.append(axis)
    return order


def moves_only_ones(order: Sequence[int], dims: Dims) -> bool:
    """Whether a permutation of axes of these sizes leaves the elements in row-major order."""
    kept = [axis for axis in order if dims[axis] != 1]
    return kept == sorted(kept)
