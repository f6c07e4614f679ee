"""About how many bytes nodes and constants take in the file, so that a rewrite can tell whether it grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphopt.ir import Constant, Node

_NEW = "_12"  # what a fresh name may add to its stem


def fresh(stem: str) -> str:
    """A name as long as the one that `Graph.fresh_name` may give."""
    return stem + _NEW


def node_bytes(op: str, values: Iterable[str], attrs: Mapping[str, Any], name: str = "") -> int:
    """Bytes of a node of the default domain with these inputs and outputs."""
    size = sum(_field(len(one.encode())) for one in values) + _field(len(op))
    size += _field(len(name.encode())) if name else 0
    return _field(size + sum(_field(_attribute(key, value)) for key, value in attrs.items()))


def bytes_of(node: Node) -> int:
    """Bytes of a node as it is; a constant that it holds counts by its elements."""
    return node_bytes(node.op, [one.name for one in (*node.inputs, *node.outputs)], node.attrs, node.name)


def constant_bytes(name: str, shape: Sequence[int], elements: int) -> int:
    """Bytes of an initializer whose elements take `elements` bytes."""
    dims = sum(1 + _varint(int(dim)) for dim in shape)
    return _field(_field(len(name.encode())) + dims + 2 + _field(elements))


def bytes_of_constant(constant: Constant) -> int:
    """Bytes of an initializer as it is."""
    return constant_bytes(constant.name, [int(dim) for dim in constant.shape], constant.nbytes)


def _attribute(key: str, value: Any) -> int:
    size = _field(len(key)) + 3  # the field that says which type it is
    if isinstance(value, float):
        return size + 5
    if isinstance(value, str | bytes):
        return size + _field(len(value))
    if isinstance(value, list):
        return size + sum(5 if isinstance(one, float) else 1 + _varint(int(one)) for one in value if _is_number(one))
    if isinstance(value, Constant):
        return size + value.nbytes
    return size + (1 + _varint(int(value)) if _is_number(value) else 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _field(size: int) -> int:
    return 1 + _varint(size) + size


def _varint(number: int) -> int:
    return 10 if number < 0 else max(1, -(-number.bit_length() // 7))
