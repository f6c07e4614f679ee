"""Which values are known before the model runs, without computing anything."""

from __future__ import annotations

import numpy as np

from graphopt.ir import Constant, Node, Tensor
from graphopt.ir.values import Array

_LISTS = {"value_ints": np.int64, "value_floats": np.float32}
_SCALARS = {"value_int": np.int64, "value_float": np.float32}


def constant_of(tensor: Tensor) -> Constant | None:
    """The constant that holds the tensor's value: an initializer, or a Constant node's tensor.

    None for the default of an overridable input (it is an input), for a Constant node that states
    its value as plain numbers or strings (see `constant_values`), and for anything computed.
    """
    if isinstance(tensor, Constant):
        return tensor
    node = constant_node(tensor)
    if node is None:
        return None
    value = node.attrs.get("value")
    return value if isinstance(value, Constant) else None


def constant_node(tensor: Tensor) -> Node | None:
    """The Constant node that makes `tensor`, if it is made by one."""
    if len(tensor.inputs) != 1:
        return None
    node: Node = tensor.inputs[0]
    return node if node.is_op("Constant") else None


def constant_values(tensor: Tensor) -> Array | None:
    """The tensor's value as an array where it is an initializer or made by a Constant node."""
    held = constant_of(tensor)
    if held is not None:
        return held.values
    node = constant_node(tensor)
    if node is None:
        return None
    for key, value in node.attrs.items():
        # In a function the number can be a reference to one of the function's own attributes.
        if (key in _LISTS or key in _SCALARS) and isinstance(value, int | float | list):
            return np.asarray(value, (_LISTS | _SCALARS)[key])
    return None
