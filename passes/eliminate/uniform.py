"""Constants that hold one number in every element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.ir import Tensor
from graphopt.ir.tensors import SparseStored

FLOATS = frozenset((1, 10, 11, 16))
"""ONNX's numbers of float32, float16, float64 and bfloat16."""
INTEGERS = frozenset((2, 3, 4, 5, 6, 7, 12, 13))
"""ONNX's numbers of the integers of 8 to 64 bits."""


def uniform(tensor: Tensor, test: Callable[[Any], bool]) -> Any | None:
    """The number that a constant holds in every element, to the bit, where `test` says yes to it.

    None for what is not constant, has no elements, or is stored sparse.
    """
    held = constant_of(tensor)
    if held is not None and isinstance(held.stored, SparseStored):
        return None
    values = constant_values(tensor)
    if values is None or values.size == 0 or values.dtype.kind in "OSU":
        return None
    first = values[(0,) * values.ndim]  # most constants are something else from the first element on
    if not test(first):
        return None
    if values.tobytes() != first.tobytes() * values.size:
        return None
    return first
