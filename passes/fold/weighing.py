"""What nodes and constants take in the file, to the byte (protobuf's encoding of ONNX's messages)."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.analysis.extent import Extent
from graphopt.ir import Constant, Node
from graphopt.ir.tensors import Stored


def initializer_bytes(name: str, extent: Extent) -> int:
    """Bytes of an initializer with such values, in its graph."""
    return _field(_field(len(name.encode())) + _tensor(extent.shape, extent.bytes))


def constant_node_bytes(output: str, extent: Extent) -> int:
    """Bytes of a Constant node without a name, in its graph."""
    tensor = _field(_tensor(extent.shape, extent.bytes))
    attribute = _field(len("value")) + tensor + 3
    return _field(_field(len(output.encode())) + _field(len("Constant")) + _field(attribute))


def held_bytes(constant: Constant) -> int:
    """Bytes of an initializer as it stands in its graph."""
    stored = constant.stored
    if isinstance(stored, Stored) and not stored.proto.external_data:
        return _field(int(stored.proto.ByteSize()))
    shape = [int(dim) for dim in constant.shape]
    return _field(_field(len(constant.name.encode())) + _tensor(shape, constant.nbytes))


def node_bytes(node: Node) -> int:
    """Bytes of a node as it stands in its graph, a tensor that it holds included."""
    names = sum(_field(len(one.name.encode())) for one in (*node.inputs, *node.outputs))
    proto, value = node.proto, node.attrs.get("value")
    held = value if isinstance(value, Constant) else None
    if proto is None:
        return _field(names + _field(len(node.op))) + (0 if held is None else held.nbytes)
    old = sum(_field(len(one.encode())) for one in (*proto.input, *proto.output))
    inside = 0
    if held is not None and isinstance(held.stored, Stored) and held.stored.proto.external_data:
        inside = held.nbytes - sum(int(one.ByteSize()) + 3 for one in held.stored.proto.external_data)
    return _field(int(proto.ByteSize()) - old + names + inside)


def _tensor(shape: Sequence[int], size: int) -> int:
    """Bytes of a tensor message without its name: dims, element type, elements."""
    return sum(1 + _varint(dim) for dim in shape) + 2 + _field(size)


def _field(size: int) -> int:
    """Bytes of a field of `size` bytes with its tag and length."""
    return 1 + _varint(size) + size


def _varint(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))
