"""Attributes of a node: decoded to Python values, and encoded back without loss.

What was only read goes out as the very message it came from; a value that was set is encoded
by its Python type, helped by the old attribute's type and by the operator's schema where the
type alone is not enough (an empty list, an int for a float attribute).
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto

from graphopt.ir.dtypes import onnx_dtype
from graphopt.ir.schema import attribute_type
from graphopt.ir.store import Store
from graphopt.ir.tensors import Stored

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

A = AttributeProto
_REFERENCE_TYPES: dict[int, Any] = {
    A.INT: int,
    A.FLOAT: float,
    A.STRING: str,
    A.INTS: list[int],
    A.FLOATS: list[float],
    A.STRINGS: list[str],
    A.TENSOR: gs.Tensor,
    A.GRAPH: gs.Graph,
}
_FIELDS = {"f": A.FLOAT, "i": A.INT, "s": A.STRING, "t": A.TENSOR, "g": A.GRAPH, "floats": A.FLOATS, "ints": A.INTS}
_FIELDS |= {"strings": A.STRINGS, "tensors": A.TENSORS, "graphs": A.GRAPHS}


@dataclass(frozen=True, eq=False)
class Opaque:
    """An attribute of a kind that has no Python value; carried as its message."""

    proto: AttributeProto


def _may_hold_graphs(value: Any) -> bool:
    """Whether a value is a graph, or a list that holds graphs or may come to."""
    return isinstance(value, gs.Graph) or (isinstance(value, list) and (not value or isinstance(value[0], gs.Graph)))


class Attrs(dict[str, Any]):
    """The attributes of one node, and the messages that they came from.

    A graph that is set becomes a body of `owner`; stock graphsurgeon values become ours.
    """

    __slots__ = ("_given", "_may_hold_graphs", "_sources", "owner")

    def __init__(self, owner: Any = None, values: Mapping[str, Any] = {}, like: Attrs | None = None) -> None:
        super().__init__()
        self.owner = owner
        self._may_hold_graphs = False
        self._sources: dict[str, AttributeProto] = {} if like is None else like._sources
        self._given: dict[str, Any] = {} if like is None else like._given
        self.update(values)

    @classmethod
    def decode(cls, owner: Any, protos: Iterable[AttributeProto], store: Store) -> Attrs:
        """Decode attribute messages. Those that hold graphs are left to the codec."""
        attrs = cls(owner)
        for proto in protos:
            attrs.adopt(proto, decode_value(proto, store))
        return attrs

    def adopt(self, proto: AttributeProto, value: Any) -> None:
        """Set a value together with the message that it was decoded from."""
        dict.__setitem__(self, proto.name, value)
        self._may_hold_graphs |= _may_hold_graphs(value)
        self._sources[proto.name] = proto
        self._given[proto.name] = value

    def copied(self, owner: Any, twin_of: Callable[[Any], Any]) -> Attrs:
        """The attributes of a copy of the node, whose values are made by `twin_of`."""
        made = Attrs(owner, like=self)
        made._given = dict(self._given)
        for name, value in self.items():
            made[name] = twin = twin_of(value)
            if self._given.get(name) is value:
                made._given[name] = twin
        return made

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, gs.Graph | gs.Constant | list):
            from graphopt.ir.adopt import adopt_value

            adopt_value(value, self.owner)
            self._may_hold_graphs |= _may_hold_graphs(value)
        dict.__setitem__(self, name, value)

    def setdefault(self, name: str, value: Any = None) -> Any:
        if name not in self:
            self[name] = value
        return self[name]

    def update(self, *others: Any, **values: Any) -> None:
        for name, value in dict(*others, **values).items():
            self[name] = value

    def __ior__(self, values: Any) -> Attrs:  # type: ignore[override,misc]
        self.update(values)
        return self

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: Any) -> dict[str, Any]:
        return copy.deepcopy(dict(self), memo)

    def graphs(self) -> list[Graph]:
        """Every graph among the values, in order; graphs in list-valued attributes too."""
        if not self._may_hold_graphs:  # asked of every node on every walk
            return []
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
            own = value.__dict__
            stored = own["_values"]
            return (
                isinstance(stored, Stored)
                and stored.proto is proto.t
                and own["name"] == proto.t.name
                and own.get("_export_dtype") is None
            )
        if isinstance(value, gs.Node.AttributeRef):
            return bool(value == _reference(proto))
        return not isinstance(value, gs.Graph)

    def all_untouched(self) -> bool:
        """Whether the whole dictionary, its order included, is as it was decoded."""
        return list(self) == list(self._sources) and all(self.untouched(name) for name in self)


def _same_list(value: list[Any], proto: AttributeProto) -> bool:
    kind = kind_of(proto)
    if kind == A.INTS:
        return value == list(proto.ints)
    if kind == A.FLOATS:
        if not all(isinstance(v, float) for v in value):
            return False
        return _float_bits(value) == _float_bits(list(proto.floats))
    if kind == A.STRINGS:
        return [v.encode() if isinstance(v, str) else v for v in value] == list(proto.strings)
    return False  # graphs and tensors: encoded again, element by element


def _float_bits(values: list[Any]) -> bytes:
    return struct.pack(f"{len(values)}d", *values)  # bits, so that NaNs and the sign of zero count


def kind_of(proto: AttributeProto) -> int:
    """The type of an attribute; where a very old model leaves it out, what its fields say."""
    if proto.type or proto.ref_attr_name:
        return int(proto.type)
    kinds = [kind for field, kind in _FIELDS.items() if any(one.name == field for one, _ in proto.ListFields())]
    return int(kinds[0]) if len(kinds) == 1 else 0


def holds_graph(attributes: Iterable[AttributeProto]) -> bool:
    """Whether any of a node's attributes is a graph or a list of graphs."""
    for one in attributes:
        kind = one.type or kind_of(one)
        if (kind == A.GRAPH or kind == A.GRAPHS) and not one.ref_attr_name:
            return True
    return False


def _reference(proto: AttributeProto) -> Any:
    known = _REFERENCE_TYPES.get(proto.type)
    return None if known is None else gs.Node.AttributeRef(proto.ref_attr_name, known)


def decode_value(proto: AttributeProto, store: Store) -> Any:
    """The Python value of an attribute message that holds no graph."""
    if proto.ref_attr_name:
        return _reference(proto) or Opaque(proto)
    match kind_of(proto):
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
        into.type = _type(_number(value.type, declared))
    elif isinstance(value, bool | int | np.integer | np.bool_):
        if declared == A.FLOAT:
            into.type, into.f = A.FLOAT, float(value)
        else:
            into.type, into.i = A.INT, int(value)
    elif isinstance(value, float | np.floating):
        into.type, into.f = A.FLOAT, float(value)
    elif isinstance(value, str | bytes):
        into.type, into.s = A.STRING, value.encode() if isinstance(value, str) else value
    elif isinstance(value, list | tuple | np.ndarray) and (declared != A.TENSOR or not isinstance(value, np.ndarray)):
        if isinstance(value, np.ndarray) and value.ndim != 1:
            raise TypeError(f"attribute {op}.{name} cannot hold an array of {value.ndim} axes; use a Constant")
        return _encode_list(into, declared, f"{op}.{name}", list(value))
    elif isinstance(value, onnx.TypeProto):
        into.type = A.TYPE_PROTO
        into.tp.CopyFrom(value)
    elif isinstance(value, onnx.TensorProto):
        into.type = A.TENSOR
        into.t.CopyFrom(value)
    elif isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        into.type, into.i = A.INT, onnx_dtype(value)  # graphsurgeon lets Cast say to=np.float32
    elif isinstance(value, gs.Constant | gs.Graph | np.ndarray):
        return False
    else:
        raise TypeError(f"attribute {op}.{name} cannot hold a {type(value).__name__}")
    return True


def _type(number: int) -> Any:
    return AttributeProto.AttributeType.ValueType(number)


def _number(wanted: Any, declared: int) -> int:
    """The attribute type that an AttributeRef means; `List[int]` and `list[int]` are the same."""
    for number, known in _REFERENCE_TYPES.items():
        if known == wanted or (get_args(wanted) and get_args(known) == get_args(wanted)):
            return number
    return declared


def _encode_list(into: AttributeProto, declared: int, where: str, values: list[Any]) -> bool:
    if values and isinstance(values[0], gs.Graph | gs.Constant):
        return False
    floats = declared == A.FLOATS or any(isinstance(v, float | np.floating) for v in values)
    if not values:
        into.type = _type(declared or A.INTS)
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
