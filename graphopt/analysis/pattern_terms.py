"""Whether a tensor, or an attribute of a node, is what a pattern has in its place."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import onnx.helper

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.ir import Node, Tensor
from graphopt.ir.schema import schema
from graphopt.ir.tensors import SparseStored
from graphopt.ir.values import Array

_ROUNDINGS = 2  # how many roundings of its dtype a constant may be off


def is_constant(tensor: Tensor) -> bool:
    """Whether the tensor is an initializer, or made by a Constant node, and not stored sparse."""
    held = constant_of(tensor)
    if held is not None:
        return not isinstance(held.stored, SparseStored)
    return constant_values(tensor) is not None


def number_of(tensor: Tensor) -> float | None:
    """The number that a constant of one element holds, of any dtype that has numbers; else None."""
    values = _single(tensor)
    return None if values is None else float(values.reshape(-1)[0])


def is_number(tensor: Tensor, wanted: float | int | bool) -> bool:
    """Whether the tensor is a constant of one element that is `wanted`, up to the rounding of its dtype."""
    values = _single(tensor)
    if values is None:
        return False
    number = float(values.reshape(-1)[0])
    if number == wanted:
        return True
    exact = values.dtype.kind in "iub"
    epsilon = 0.0 if exact else float(ml_dtypes.finfo(values.dtype).eps)  # type: ignore[no-untyped-call]
    return abs(number - wanted) <= _ROUNDINGS * epsilon * abs(wanted)


def _single(tensor: Tensor) -> Array | None:
    """A constant of one number; None for anything else."""
    held = constant_of(tensor)
    if held is not None and (any(int(dim) != 1 for dim in held.shape) or isinstance(held.stored, SparseStored)):
        return None
    values = constant_values(tensor)
    if values is None or values.size != 1:
        return None
    narrow = values.dtype.kind == "V" and values.dtype.name.startswith(("bfloat", "float"))
    return values if narrow or values.dtype.kind in "fiub" else None


def attribute(node: Node, name: str) -> Any:
    """An attribute of a node, or the default that its operator gives it at this opset; None without."""
    if name in node.attrs:
        return node.attrs[name]
    opset = node.graph.opset_of(node.domain or "") if node.graph is not None else 0
    return _default(node.op, node.domain or "", opset, name)


@cache
def _default(op: str, domain: str, opset: int, name: str) -> Any:
    known = schema(op, domain, opset)
    if known is None or name not in known.attributes:
        return None
    given = known.attributes[name].default_value
    return onnx.helper.get_attribute_value(given) if given.type else None


def same_attribute(found: Any, wanted: Any) -> bool:
    """Whether an attribute is what a pattern says: numbers up to float32's rounding, text and lists as they are."""
    if isinstance(found, bytes):
        found = found.decode("utf-8", "replace")
    if isinstance(wanted, list):
        return isinstance(found, list | tuple) and list(found) == wanted
    if isinstance(wanted, float) and isinstance(found, int | float):
        return abs(found - wanted) <= 1e-6 * abs(wanted)
    return type(found) in (int, float, str) and bool(found == wanted)
