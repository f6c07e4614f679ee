"""LayerNormalization over any axes: as the operator wants it, or between two Transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.dims import Dim
from graphopt.analysis.pattern_terms import attribute
from graphopt.ir import Graph, Node, Tensor
from passes.fuse.rules import BFLOAT16, FLOAT, FLOAT16, Build, Facts
from passes.fuse.trailing_axes import why_no_parameter

LEAST: Final = 32
"""Numbers along the axes from which on two Transposes take less time than the steps that they replace."""


def normalization(
    x: Tensor, y: Tensor, axes: Sequence[int], scale: Tensor, bias: Tensor | None, epsilon: float, facts: Facts
) -> Build | str:
    """The nodes that normalize `x` over `axes`, or why there are none."""
    why = facts.why_not_dtype(x, FLOAT, FLOAT16, BFLOAT16) or facts.why_not_same_shape(x, y)
    dims = facts.dims(x)
    if why is not None or dims is None:
        return why or f"the rank of {x.name!r} is not known"
    rank = len(dims)
    last = list(axes) == list(range(rank - len(axes), rank))
    if not last and _numbers(dims, axes) < LEAST:
        return f"the mean is over axes {list(axes)} of {rank}, which are not the last ones, and of fewer than {LEAST}"
    given = [one for one in (scale, bias) if one is not None]
    why = next((why for one in given if (why := _why_not(one, x, dims, axes, last, facts)) is not None), None)
    if why is not None:
        return why
    attrs = {"axis": -len(axes), "epsilon": float(np.float32(epsilon))}
    shape = [dims[axis] for axis in axes]
    perm = [axis for axis in range(rank) if axis not in axes] + list(axes)

    def build(scope: Graph) -> list[Node]:
        told = [one if facts.dims(one) == tuple(shape) else _flat(one, shape, scope) for one in given]
        if last:
            return [Node("LayerNormalization", "", attrs, [x, *told], [])]
        moved, made = scope.variable(x.name), scope.variable(y.name)
        return [
            Node("Transpose", "", {"perm": perm}, [x], [moved]),
            Node("LayerNormalization", "", attrs, [moved, *told], [made]),
            Node("Transpose", "", {"perm": [int(at) for at in np.argsort(perm)]}, [made], []),
        ]

    return build


def biased(node: Node, transpose: Node | None, bias: Tensor, y: Tensor, facts: Facts) -> Build | str | None:
    """A LayerNormalization, maybe with a Transpose behind it, that takes the bias added to its result."""
    x, dims = node.inputs[0], facts.dims(node.inputs[0])
    axis = attribute(node, "axis")
    if dims is None or not isinstance(axis, int):
        return f"the rank of {x.name!r} is not known"
    rank = len(dims)
    axes = list(range(axis % rank, rank))
    perm = transpose.attrs.get("perm") if transpose is not None else list(range(rank))
    if not isinstance(perm, list) or sorted(perm) != list(range(rank)):
        return None
    seen = [dims[at] for at in perm]
    result = facts.dims(y)
    if result != tuple(seen):
        return f"{y.name!r} may be of another shape than {node.outputs[0].name!r}"
    places = sorted(perm.index(at) for at in axes)
    if [perm[at] for at in places] != axes:
        return None
    last = perm == list(range(rank))
    why = _why_not(bias, x, seen, places, last, facts)
    shape = [dims[at] for at in axes]

    def build(scope: Graph) -> list[Node]:
        told = bias if facts.dims(bias) == tuple(shape) else _flat(bias, shape, scope)
        if transpose is None:
            return [Node("LayerNormalization", "", dict(node.attrs), [x, node.inputs[1], told], [])]
        made = scope.variable(y.name)
        return [
            Node("LayerNormalization", "", dict(node.attrs), [x, node.inputs[1], told], [made]),
            Node("Transpose", "", dict(transpose.attrs), [made], []),
        ]

    return why or build


def _numbers(dims: Sequence[Dim], axes: Sequence[int]) -> int:
    """How many numbers there are along axes, 0 where that is not known."""
    sizes = [dims[axis] for axis in axes]
    return int(np.prod([size for size in sizes if isinstance(size, int)])) if _known(sizes) else 0


def _known(sizes: Sequence[Dim]) -> bool:
    return all(isinstance(size, int) for size in sizes)


def _why_not(
    tensor: Tensor, x: Tensor, dims: Sequence[Dim], axes: Sequence[int], last: bool, facts: Facts
) -> str | None:
    """Why a scale or bias is not one number for each place along the axes."""
    if last:
        why = why_no_parameter(tensor, x, axes[0], facts)
        if why is None or (constant_of(tensor) is None and constant_values(tensor) is None):
            return why
    own, sizes = facts.dims(tensor), [dims[axis] for axis in axes]
    wanted = [dims[axis] if axis in axes else 1 for axis in range(len(dims))]
    short = own is None or len(own) > len(dims) or [1] * (len(dims) - len(own)) + list(own) != wanted
    if short or not _known(sizes):
        return f"{tensor.name!r} is not of the shape of the axes that are normalized"
    if 0 in sizes:
        return f"there is nothing to normalize along the axes of {tensor.name!r}, which the operator does not take"
    if facts.dtype(tensor) != facts.dtype(x):
        return f"{tensor.name!r} is of another element type"
    if constant_values(tensor) is None:
        return f"{tensor.name!r} is not stored, and has another shape than the operator takes"
    if len(tensor.outputs) > 1 or tensor.graph_outputs:
        return f"{tensor.name!r} is read by others, and would have to be stored twice"
    return None


def _flat(tensor: Tensor, shape: Sequence[Any], scope: Graph) -> Tensor:
    held = constant_of(tensor)
    values = held.values if held is not None else constant_values(tensor)
    assert values is not None, "it was found to be stored"
    return scope.constant(values.reshape(shape), tensor.name)
