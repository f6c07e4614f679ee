"""Whether two bodies are the same, node for node and bit for bit."""

from __future__ import annotations

import struct
from typing import Any

from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.attributes import Opaque
from graphopt.ir.tensors import SparseStored, Stored


def same_bodies(one: Graph, other: Graph) -> bool:
    """Whether two bodies compute the same from what they capture: the same nodes in the same order on the
    same values, with attributes and initializers of the same bits. Names do not count, nor do initializers that
    nobody reads."""
    stands: dict[Tensor, Tensor] = {}  # what of `one` stands for what of `other`
    ends: list[tuple[Graph, Graph]] = []
    pending: list[tuple[Graph, Graph]] = [(one, other)]
    while pending:
        left, right = pending.pop()
        if not _same_declarations(left, right, stands) or len(left.nodes) != len(right.nodes):
            return False
        ends.append((left, right))
        inner: list[tuple[Graph, Graph]] = []
        for first, second in zip(left.nodes, right.nodes, strict=True):
            if not _same_node(first, second, stands):
                return False
            inner.extend(zip(first.bodies, second.bodies, strict=True))
        pending.extend(inner)
    return all(_same_values(list(left.outputs), list(right.outputs), stands) for left, right in ends)


def _same_declarations(left: Graph, right: Graph, stands: dict[Tensor, Tensor]) -> bool:
    if left.defaults or right.defaults or len(left.inputs) != len(right.inputs):
        return False
    stands.update(zip(right.inputs, left.inputs, strict=True))
    mine, theirs = ([one for one in side.initializers if one.is_read] for side in (left, right))
    if len(mine) != len(theirs) or not all(_same_tensor(a, b) for a, b in zip(mine, theirs, strict=True)):
        return False
    stands.update(zip(theirs, mine, strict=True))
    return True


def _same_node(first: Node, second: Node, stands: dict[Tensor, Tensor]) -> bool:
    if (first.op, first.domain or "", first.overload) != (second.op, second.domain or "", second.overload):
        return False
    if set(first.attrs) != set(second.attrs) or len(first.bodies) != len(second.bodies):
        return False
    if not _same_values(list(first.inputs), list(second.inputs), stands):
        return False
    if [bool(one.name) for one in first.outputs] != [bool(one.name) for one in second.outputs]:
        return False
    stands.update(zip(second.outputs, first.outputs, strict=True))
    return all(_same_attribute(first.attrs[name], second.attrs[name]) for name in first.attrs)


def _same_values(mine: list[Tensor], theirs: list[Tensor], stands: dict[Tensor, Tensor]) -> bool:
    if len(mine) != len(theirs):
        return False
    for left, right in zip(mine, theirs, strict=True):
        if not left.name and not right.name:
            continue
        if stands.get(right, right) is not left:
            return False
    return True


def _same_attribute(left: Any, right: Any) -> bool:
    if isinstance(left, Graph) and isinstance(right, Graph):
        return True  # bodies are compared on their own
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(_same_attribute(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    if isinstance(left, Constant):
        return _same_tensor(left, right)
    if isinstance(left, Opaque):
        return bool(left.proto == right.proto)
    return bool(left == right)


def _same_tensor(left: Constant, right: Constant) -> bool:
    if left.onnx_dtype != right.onnx_dtype or list(left.shape) != list(right.shape):
        return False
    if isinstance(left.stored, SparseStored) or isinstance(right.stored, SparseStored):
        return False
    raw = [one.stored.payload() if isinstance(one.stored, Stored) else None for one in (left, right)]
    if raw[0] is not None and raw[1] is not None:
        return bytes(raw[0]) == bytes(raw[1])
    mine, theirs = left.values, right.values
    if mine.dtype == object:
        return bool(mine.ravel().tolist() == theirs.ravel().tolist())
    return bool(mine.tobytes() == theirs.tobytes())
