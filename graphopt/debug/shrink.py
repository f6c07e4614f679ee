"""Smaller tensors for a part that fails: one size after the other, wherever it occurs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from graphopt.debug.extract import Part
from graphopt.ir.store import Store
from graphopt.ir.tensors import Stored, to_tensor_proto
from graphopt.storage.source import Source

_TARGET = 8  # elements of an integer vector that may be a shape
_SHAPES = (TensorProto.INT64, TensorProto.INT32)


def sizes(part: Part) -> list[int]:
    """The sizes of a part's inputs and weights that may be made smaller, largest first."""
    shapes = [value.shape for value in part.feeds.values() if isinstance(value, np.ndarray)]
    shapes += [tuple(one.dims) for one in part.proto.graph.initializer]
    return sorted({size for shape in shapes for size in shape if size > 1}, reverse=True)


def smaller(part: Part, size: int, new: int) -> Iterator[Part]:
    """The part with `new` of `size` rows, columns or channels in every input and weight that has so many; then
    also where integer vectors, which may be shapes, say that size."""
    yield _cut(part, size, new, shapes=False)
    yield _cut(part, size, new, shapes=True)


def _cut(part: Part, size: int, new: int, *, shapes: bool) -> Part:
    proto, store = ModelProto(), part.source.store.overlay()
    proto.CopyFrom(part.proto)
    for tensor in proto.graph.initializer:
        _weight(tensor, part.source.store, store, size, new, shapes)
    for info in proto.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_value == size:
                dim.dim_value = new
    for info in proto.graph.output:
        for dim in info.type.tensor_type.shape.dim:
            dim.Clear()
    feeds = {name: _sliced(value, size, new) for name, value in part.feeds.items()}
    return Part(Source(None, proto, store), feeds, part.kept)


def _weight(tensor: TensorProto, old: Store, store: Store, size: int, new: int, shapes: bool) -> None:
    shape = tensor.data_type in _SHAPES and len(tensor.dims) == 1 and tensor.dims[0] <= _TARGET
    if size not in tensor.dims and not (shapes and shape):
        return
    values = _sliced(Stored(tensor, old).load(), size, new)
    if shapes and shape:
        values = np.where(values == size, np.array(new, values.dtype), values)
    tensor.CopyFrom(to_tensor_proto(tensor.name, values, store))


def _sliced(value: Any, size: int, new: int) -> Any:
    if not isinstance(value, np.ndarray) or size not in value.shape:
        return value
    return np.ascontiguousarray(value[tuple(slice(new if one == size else None) for one in value.shape)])
