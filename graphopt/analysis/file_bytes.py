"""What nodes and constants take in the file, to the byte (protobuf's encoding of ONNX's messages)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from graphopt.analysis.constants import constant_node
from graphopt.ir import Constant, Node, Tensor
from graphopt.ir.tensors import Stored

_NEW: Final = "_12"  # what a fresh name may add to its stem
_TYPE: Final = 3  # bytes of the field of an attribute that says which type it is


def fresh(stem: str) -> str:
    """A name as long as the one that `Graph.fresh_name` may give."""
    return stem + _NEW


def described_bytes(op: str, tensors: Iterable[str], attrs: Mapping[str, Any], name: str = "") -> int:
    """Bytes of a node of the default domain that reads and makes the tensors of these names."""
    size = sum(_text(one) for one in tensors) + _text(op) + (_text(name) if name else 0)
    return _field(size + sum(_field(_attribute(key, value)) for key, value in attrs.items()))


def plain_bytes(node: Node) -> int:
    """Bytes of a node as `described_bytes` counts: those that a node in its place need not have (documentation,
    metadata, a domain that is spelled out) are left out, for it keeps them."""
    return described_bytes(node.op, [one.name for one in (*node.inputs, *node.outputs)], node.attrs, node.name)


def node_bytes(node: Node) -> int:
    """Bytes of a node as it stands in its graph, all of it, as go when it goes."""
    proto, value = node.proto, node.attrs.get("value")
    if proto is None:
        return plain_bytes(node)
    names = sum(_text(one.name) for one in (*node.inputs, *node.outputs))
    old = sum(_text(one) for one in (*proto.input, *proto.output))
    inside = 0
    if isinstance(value, Constant) and isinstance(value.stored, Stored) and value.stored.proto.external_data:
        inside = value.nbytes - sum(int(one.ByteSize()) + 3 for one in value.stored.proto.external_data)
    return _field(int(proto.ByteSize()) - old + names + inside)


def initializer_bytes(name: str, shape: Sequence[int], size: int) -> int:
    """Bytes of an initializer whose elements take `size` bytes, in its graph."""
    return _field(_text(name) + _tensor(shape, size))


def constant_node_bytes(output: str, shape: Sequence[int], size: int) -> int:
    """Bytes of a Constant node without a name whose elements take `size` bytes, in its graph."""
    attribute = _text("value") + _field(_tensor(shape, size)) + _TYPE
    return _field(_text(output) + _text("Constant") + _field(attribute))


def held_bytes(tensor: Tensor) -> int:
    """Bytes of the initializer or Constant node that a tensor is, as it stands in its graph; 0 for anything else."""
    if not isinstance(tensor, Constant):
        node = constant_node(tensor)
        return 0 if node is None else node_bytes(node)
    stored = tensor.stored
    if isinstance(stored, Stored) and not stored.proto.external_data:
        return _field(int(stored.proto.ByteSize()))
    return initializer_bytes(tensor.name, [int(dim) for dim in tensor.shape], tensor.nbytes)


def _tensor(shape: Sequence[int], size: int) -> int:
    """Bytes of a tensor message without its name: dims, element type, elements."""
    return sum(1 + _varint(int(dim)) for dim in shape) + 2 + _field(size)


def _attribute(key: str, value: Any) -> int:
    size = _text(key) + _TYPE
    if isinstance(value, float):
        return size + 5
    if isinstance(value, str):
        return size + _text(value)
    if isinstance(value, bytes):
        return size + _field(len(value))
    if isinstance(value, list):
        return size + sum(5 if isinstance(one, float) else 1 + _varint(int(one)) for one in value if _is_number(one))
    if isinstance(value, Constant):
        return size + value.nbytes
    return size + (1 + _varint(int(value)) if _is_number(value) else 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _text(text: str) -> int:
    return _field(len(text.encode()))


def _field(size: int) -> int:
    """Bytes of a field of `size` bytes with its tag and length."""
    return 1 + _varint(size) + size


def _varint(number: int) -> int:
    return 10 if number < 0 else max(1, -(-number.bit_length() // 7))
