"""A skeleton of a model that is in memory already, without a second copy of its weights."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import EncodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import ModelProto, TensorProto

from graphopt.errors import OverLimit
from graphopt.ir.store import EMBEDDED, EXPLICIT, LARGE, Store, refer
from graphopt.storage.wire import split


def skeleton_of(proto: ModelProto, store: Store) -> ModelProto:
    """A skeleton of `proto`, which is not changed: its large initializers are left where they are.

    The weights are read from `proto` whenever they are needed. Raises OverLimit when what remains
    without them is more than protobuf can hold.
    """
    graph = proto.graph
    large = [tensor for tensor in graph.initializer if _movable(tensor)]
    if any(len(UnknownFieldSet(one)) for one in (proto, graph, *large)):
        return _by_wire(proto, store)  # field by field, what this onnx does not know would be lost
    skeleton = ModelProto()
    _copy(proto, skeleton, "graph")
    _copy(graph, skeleton.graph, "initializer")
    moved = {id(tensor) for tensor in large}
    for tensor in graph.initializer:
        into = skeleton.graph.initializer.add()
        if id(tensor) in moved:
            _leave(tensor, into, store)
        else:
            into.CopyFrom(tensor)
    return skeleton


def _movable(tensor: TensorProto) -> bool:
    plain = tensor.data_location == TensorProto.DEFAULT and not tensor.external_data
    return plain and len(tensor.raw_data) >= LARGE


def _copy(source: Any, into: Any, without: str) -> None:
    """Copy all fields that are set, save one; a message that was set empty stays set."""
    for field, value in source.ListFields():
        if field.name == without:
            if isinstance(into, ModelProto):
                into.graph.SetInParent()
        elif hasattr(value, "MergeFrom") and not hasattr(value, "DESCRIPTOR"):
            getattr(into, field.name).MergeFrom(value)
        elif hasattr(value, "DESCRIPTOR"):
            getattr(into, field.name).CopyFrom(value)
        else:
            setattr(into, field.name, value)


def _leave(tensor: TensorProto, into: TensorProto, store: Store) -> None:
    _copy(tensor, into, "raw_data")
    explicit = tensor.HasField("data_location")
    size = len(tensor.raw_data)
    refer(into, EMBEDDED, store.hold(lambda: tensor.raw_data, size), size)
    if explicit:
        entry = into.external_data.add()
        entry.key, entry.value = EXPLICIT, "1"


def _by_wire(proto: ModelProto, store: Store) -> ModelProto:
    try:
        data = proto.SerializeToString()
    except (EncodeError, ValueError):
        raise OverLimit(
            "the model has more than 2 GB and parts that this onnx does not know; save it with external data first"
        ) from None
    skeleton = ModelProto()
    skeleton.ParseFromString(split(memoryview(data), store.hold(data)))
    return skeleton
