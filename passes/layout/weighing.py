"""What nodes and lists of integers take in a file: to the byte for new ones, at least so for old ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphopt.analysis.constants import constant_node
from graphopt.ir import Constant, Node, Tensor
from graphopt.ir.tensors import Stored

_TYPE = 3  # bytes of the field of an attribute that tells its type


def node_bytes(node: Node) -> int:
    """Bytes of a node, of what every node has: operator, names, and attributes of integers."""
    names = [one.name for one in (*node.inputs, *node.outputs)]
    return described_bytes(node.op, node.name, names, node.attrs)


def described_bytes(op: str, name: str, tensors: Sequence[str], attrs: Any) -> int:
    """Bytes of a node that reads and makes the tensors of these names."""
    inside = _text(op) + (_text(name) if name else 0) + sum(map(_text, tensors))
    inside += sum(_field(_attribute(key, attrs[key])) for key in attrs)
    return _field(inside)


def list_bytes(name: str, length: int, as_node: bool) -> int:
    """Bytes of a list of 64-bit integers as an initializer, or as a Constant node."""
    tensor = 2 + 2 + _field(8 * length)
    if not as_node:
        return _field(tensor + _text(name))
    return _field(_text(name) + _text("Constant") + _field(_text("value") + _TYPE + _field(tensor)))


def held_bytes(tensor: Tensor) -> int:
    """Bytes of the initializer or Constant node that makes a tensor; 0 for anything else."""
    node = constant_node(tensor)
    if node is not None:
        held = node.attrs.get("value")
        return node_bytes(node) + (held.nbytes if isinstance(held, Constant) else 0)
    if not isinstance(tensor, Constant):
        return 0
    stored = tensor.stored
    if isinstance(stored, Stored):
        return 0 if stored.proto.external_data else _field(int(stored.proto.ByteSize()))
    return _field(2 * len(tensor.shape) + 2 + _field(tensor.nbytes) + _text(tensor.name))


def _attribute(name: str, value: Any) -> int:
    size = _text(name) + _TYPE
    if isinstance(value, int):
        size += 1 + _varint(value)
    elif isinstance(value, list) and all(isinstance(one, int) for one in value):
        size += sum(1 + _varint(one) for one in value)
    return size


def _text(text: str) -> int:
    return _field(len(text.encode()))


def _field(size: int) -> int:
    """Bytes of a field of `size` bytes with its tag and length."""
    return 1 + _varint(size) + size


def _varint(number: int) -> int:
    if 0 <= number < 128:
        return 1
    return 10 if number < 0 else -(-number.bit_length() // 7)
