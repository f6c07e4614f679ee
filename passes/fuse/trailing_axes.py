"""The axes that a normalization is over, and whether its scale and bias fit them."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.analysis.matching import integers
from graphopt.analysis.pattern_terms import attribute
from graphopt.ir import Node, Tensor
from passes.fuse.rules import Facts


def reduced_axes(nodes: Sequence[Node], rank: int) -> list[int] | str:
    """The axes, ascending, that all of these nodes reduce; else why not."""
    found: set[tuple[int, ...]] = set()
    for node in nodes:
        axes = integers(node, 1, "axes")
        if axes is None:
            given = len(node.inputs) > 1 and bool(node.inputs[1].name)
            if given or attribute(node, "noop_with_empty_axes"):
                return f"the axes of {node.op} {node.label!r} are not known"
            axes = list(range(rank))
        if any(not -rank <= axis < rank for axis in axes):
            return f"the axes of {node.op} {node.label!r} are not known"
        found.add(tuple(sorted({axis % rank for axis in axes})))
    if len(found) != 1:
        return "the means are over different axes"
    axes = list(found.pop())
    return axes or "nothing is normalized"


def first_axis(means: Sequence[Node], rank: int) -> int | str:
    """The first of the axes that all of these means reduce, which are the last ones; else why not."""
    axes = reduced_axes(means, rank)
    if isinstance(axes, str):
        return axes
    if axes != list(range(rank - len(axes), rank)):
        return f"the mean is over axes {axes} of {rank}, which are not the last ones"
    return axes[0]


def why_no_parameter(tensor: Tensor, x: Tensor, axis: int, facts: Facts) -> str | None:
    """Why a scale or bias is not of the element type of `x` and the shape of its axes from `axis` on."""
    dims, shape = facts.dims(tensor), facts.dims(x)
    if dims is None or shape is None or dims != shape[axis:]:
        return f"{tensor.name!r} is not of the shape of the axes that are normalized"
    if any(isinstance(dim, int) and dim == 0 for dim in dims):
        return f"there is nothing to normalize along the axes of {tensor.name!r}, which the operator does not take"
    return None if facts.dtype(tensor) == facts.dtype(x) else f"{tensor.name!r} is of another element type"
