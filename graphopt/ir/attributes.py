"""Attributes of a node: decoded to Python values, and encoded back without loss.

What was only read goes out as the very message it came from; a value that was set is encoded
by its Python type, helped by the old attribute's type and by the operator's schema where the
type alone is not enough (an empty list, an int for a float attribute).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto

from graphopt.ir.schema import attribute_type
from graphopt.ir.store import Store
from graphopt.ir.tensors import Stored

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

A = AttributeProto
_REFERENCE_TYPES: dict[int, Any] = {A.INT: int, A.FLOAT: float, A.STRING: str}


@dataclass(frozen=True, eq=False)
class Opaque:
    """An attribute of a kind that has no Python value; carried as its message."""

    proto: AttributeProto


class Attrs(dict[str, Any]):
    """The attributes of one node, and the messages that they came from."""

    __slots__ = ("_given", "_sources")

    def __init__(self, values: Mapping[str, Any] = {}, like: Attrs | None = None) -> None:
        super().__init__(values)
        self._sources: dict[str, AttributeProto] = {} if like is None else like._sources
        self._given: dict[str, Any] = {} if like is None else like._given

    @classmethod
    def decode(cls, node: onnx.NodeProto, store: Store) -> Attrs:
        """Decode the attributes of `node`. Those that hold graphs are left to the codec."""
        attrs = cls()
        for proto in node.attribute:
            attrs.adopt(proto, decode_value(proto, store))
        return attrs

    def adopt(self, proto: AttributeProto, value: Any) -> None:
        """Set a value together with the message that it was decoded from."""
        self[proto.name] = value
        self._sources[proto.name] = proto
        self._given[proto.name] = value

    def graphs(self) -> list[Graph]:
        """Every graph among the values, in order; graphs in list-valued attributes too."""
        found: list[Any] = []
        for value in self.values():
            if isinstance(value, gs.Graph):
                found.append(value)
            elif isinstance(value, list) and value and isinstance(value[0], gs.Graph):
                found.extend(value)
        return found

    def source(self, name: str) -> AttributeProto | None:
        """The message attribute `name` was decoded from, if any."""
        return self._sources.get(name)

    def untouched(self, name: str) -> bool:
        """Whether the value of `name` is still the one that was decoded."""
        proto, value = self._sources.get(name), self[name]
        if proto is None or value is not self._given.get(name):
            return False
        if isinstance(value, list):
            return _same_list(value, proto)
        if isinstance(value, gs.Constant):
            return isinstance(value.__dict__["_values"], Stored) and value.name == proto.t.name
        return not isinstance(value, gs.Graph)

    def all_untouched(self) -> bool:
        """Whether the whole dictionary, its order included, is as it was decoded."""
        return list(self) == list(self._sources) and all(self.untouched(name) for name in self)


def _same_list(value: list[Any], proto: AttributeProto) -> bool:
    if proto.type == A.INTS:
        return value == list(proto.ints)
    if proto.type == A.FLOATS:
        return _float_bits(value) == _float_bits(list(proto.floats))
    if proto.type == A.STRINGS:
        return [v if isinstance(v, bytes) else str(v).encode() for v in value] == list(proto.strings)
    return False  # graphs and tensors: encoded again, element by element


def _float_bits(values: list[Any]) -> bytes:
    return struct.pack(f"{len(values)}d", *values)


def holds_graph(node: onnx.NodeProto) -> bool:
    """Whether any attribute of `node` is a graph or a list of graphs."""
    return any(a.type in (A.GRAPH, A.GRAPHS) for a in node.attribute)


def decode_value(proto: AttributeProto, store: Store) -> Any:
    """The Python value of an attribute message that holds no graph."""
    if proto.ref_attr_name:
        known = _REFERENCE_TYPES.get(proto.type)
        return Opaque(proto) if known is None else gs.Node.AttributeRef(proto.ref_attr_name, known)
    match proto.type:
        case A.INT:
            return proto.i
        case A.INTS:
            return list(proto.ints)
        case A.FLOAT:
            return proto.f
        case A.FLOATS:
            return list(proto.floats)
        case A.STRING:
            return _text(proto.s)
        case A.STRINGS:
            texts = [_text(one) for one in proto.strings]
            return texts if all(isinstance(t, str) for t in texts) else list(proto.strings)
        case A.TENSOR:
            from graphopt.ir.values import Constant

            return Constant(proto.t.name, Stored(proto.t, store))
    return Opaque(proto)


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def encode_plain(into: AttributeProto, op: str, domain: str, opset: int, name: str, value: Any) -> bool:
    """Fill `into` with a value that is no tensor and no graph; False when it is one of these.

    Raises TypeError, naming operator and attribute, for a value that no attribute can hold.
    """
    declared = into.type or attribute_type(op, domain, opset, name)
    into.name = name
    if isinstance(value, Opaque):
        into.CopyFrom(value.proto)
        into.name = name
    elif isinstance(value, gs.Node.AttributeRef):
        into.ref_attr_name = value.name
        known = next((k for k, v in _REFERENCE_TYPES.items() if v is value.type), declared or A.UNDEFINED)
        into.type = AttributeProto.AttributeType.ValueType(known)
    elif isinstance(value, bool | int | np.integer | np.bool_):
        if declared == A.FLOAT:
            into.type, into.f = A.FLOAT, float(value)
        else:
            into.type, into.i = A.INT, int(value)
    elif isinstance(value, float | np.floating):
        into.type, into.f = A.FLOAT, float(value)
    elif isinstance(value, str | bytes):
        into.type, into.s = A.STRING, value.encode() if isinstance(value, str) else value
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return _encode_list(into, declared, f"{op}.{name}", list(value))
    elif isinstance(value, onnx.TypeProto):
        into.type = A.TYPE_PROTO
        into.tp.CopyFrom(value)
    elif isinstance(value, onnx.TensorProto):
        into.type = A.TENSOR
        into.t.CopyFrom(value)
    elif isinstance(value, np.dtype | type) and not isinstance(value, gs.Constant):
        from graphopt.ir.dtypes import onnx_dtype

        into.type, into.i = A.INT, onnx_dtype(np.dtype(value))  # graphsurgeon lets Cast say to=np.float32
    elif isinstance(value, gs.Constant | gs.Graph):
        return False
    else:
        raise TypeError(f"attribute {op}.{name} cannot hold a {type(value).__name__}")
    return True


def _encode_list(into: AttributeProto, declared: int, where: str, values: list[Any]) -> bool:
    if values and isinstance(values[0], gs.Graph | gs.Constant):
        return False
    floats = declared == A.FLOATS or any(isinstance(v, float | np.floating) for v in values)
    if not values:
        into.type = AttributeProto.AttributeType.ValueType(declared or A.INTS)
    elif all(isinstance(v, str | bytes) for v in values):
        into.type = A.STRINGS
        into.strings.extend(v.encode() if isinstance(v, str) else v for v in values)
    elif not all(isinstance(v, bool | int | float | np.integer | np.floating | np.bool_) for v in values):
        raise TypeError(f"attribute {where} cannot hold a list of {type(values[0]).__name__}")
    elif floats:
        into.type = A.FLOATS
        into.floats.extend(float(v) for v in values)
    else:
        into.type = A.INTS
        into.ints.extend(int(v) for v in values)
    return True
