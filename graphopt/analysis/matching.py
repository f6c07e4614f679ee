"""Small questions that a pattern asks of the graph around a node."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.ir import Node, Tensor
from graphopt.ir.values import Array


def maker(tensor: Tensor, *ops: str) -> Node | None:
    """The node that makes `tensor`, if it is one of these operators of ONNX's own domain (any, when
    none is named)."""
    if len(tensor.inputs) != 1:
        return None
    node: Node = tensor.inputs[0]
    return node if node.is_standard and (not ops or node.op in ops) else None


def only_reader(tensor: Tensor) -> Node | None:
    """The one node that reads `tensor`, in one slot, where nothing else needs it; else None."""
    if tensor.graph_outputs or len(tensor.outputs) != 1:
        return None
    readers = tensor.readers
    return readers[0] if len(readers) == 1 else None


def operand(node: Node, index: int) -> Tensor | None:
    """Input `index` of a node; None where it is left out."""
    if index >= len(node.inputs):
        return None
    tensor = node.inputs[index]
    return tensor if tensor.name or constant_of(tensor) is not None else None


def scalar(tensor: Tensor) -> float | int | bool | None:
    """The number that a constant of one element holds; None for anything else."""
    held = constant_of(tensor)
    if held is not None and any(int(dim) != 1 for dim in held.shape):
        return None
    values: Array | None = constant_values(tensor)
    if values is None or values.size != 1 or values.dtype.kind not in "fiub":
        return None
    number: float | int | bool = values.reshape(-1)[0].item()
    return number


def integers(node: Node, index: int, name: str = "") -> list[int] | None:
    """A list of integers that an operator takes as its input `index`, or as the attribute `name` in
    older versions; None where it is neither, or not constant."""
    tensor = operand(node, index)
    if tensor is not None:
        values = constant_values(tensor)
        return None if values is None or values.dtype.kind not in "iu" else [int(one) for one in values.reshape(-1)]
    given = node.attrs.get(name) if name else None
    return [int(one) for one in given] if isinstance(given, Sequence) and not isinstance(given, str | bytes) else None
