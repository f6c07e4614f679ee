"""Values whose elements are all one number, although they are computed: what fills and what is moved of it."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import maker
from graphopt.ir import Node, Tensor
from graphopt.ir.tensors import SparseStored
from graphopt.ir.values import Array

_MOVES = frozenset(
    (
        "Identity",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Expand",
        "Tile",
        "Slice",
        "Split",
        "Gather",
    )
)
_LARGEST = 1 << 20  # elements of a constant up to which they are compared
_STEPS = 64  # nodes that are looked through


def fill_of(tensor: Tensor) -> Array | None:
    """The number that every element of `tensor` is, in every run, as an array of one element (its bits
    count); None when that is not known. Also of values without elements, which then hold any number.

    Sees constants, ConstantOfShape, and nodes that only move elements.
    """
    for _ in range(_STEPS):
        node = maker(tensor)
        if node is not None and node.op in _MOVES and node.inputs:
            tensor = node.inputs[0]
            continue
        return _stated(tensor) if node is None or node.op == "Constant" else _filler(node)
    return None


def _filler(node: Node) -> Array | None:
    if node.op != "ConstantOfShape":
        return None
    value = node.attrs.get("value")
    if value is None:
        return np.zeros(1, np.float32)
    found: Array | None = getattr(value, "values", None)
    return None if found is None or found.size != 1 else found.reshape(1)


def _stated(tensor: Tensor) -> Array | None:
    held = constant_of(tensor)
    if held is not None and isinstance(held.stored, SparseStored):
        return None
    values = constant_values(tensor)
    if values is None or not 0 < values.size <= _LARGEST or values.dtype.kind in "OSU":
        return None
    first = values.reshape(-1)[:1]
    return first if values.tobytes() == first.tobytes() * values.size else None
