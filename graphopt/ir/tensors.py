"""Lazy values: the tensors of a skeleton as arrays, read where they lie when asked for.

`Stored` and `SparseStored` are what a graph's constants hold until somebody looks. Reading is
zero-copy where numpy can look at the bytes as they are; packed types are unpacked, sparse
tensors made dense, strings decoded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import SparseTensorProto, TensorProto
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphopt.errors import BadModel, OverLimit, UsageError
from graphopt.ir.dtypes import Array, bits, from_bytes, np_dtype, onnx_dtype, to_bytes, unpack
from graphopt.ir.store import EMBEDDED, LARGE, Store, byte_count, element_count, refer
from graphopt.ir.wording import shown
from graphopt.limits import current, how_to_move

__all__ = [
    "EMBEDDED",
    "LARGE",
    "SparseStored",
    "Store",
    "Stored",
    "bits",
    "byte_count",
    "element_count",
    "np_dtype",
    "onnx_dtype",
    "shown",
    "to_tensor_proto",
]

_CODED = {"INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2"}


class Stored(LazyValues):
    """The values of one TensorProto of a skeleton, not read yet.

    `proto` is the tensor, `store` knows where its bytes are, `shape` is a list of int, `dtype`
    the numpy (or ml_dtypes) dtype, or ONNX's number where numpy has none.
    """

    def __init__(self, proto: TensorProto, store: Store) -> None:
        self.proto = proto
        self.store = store

    @property
    def tensor(self) -> TensorProto:
        """The proto, under the name that graphsurgeon's own lazy values give it."""
        return self.proto

    @property
    def shape(self) -> list[int]:
        return list(self.proto.dims)

    @property
    def onnx_dtype(self) -> int:
        """ONNX's number of the element type."""
        return int(self.proto.data_type)

    @property
    def dtype(self) -> Any:
        dtype = np_dtype(self.proto.data_type)
        return self.onnx_dtype if dtype is None else dtype

    @property
    def nbytes(self) -> int:
        """Bytes that the values take in a file; sub-byte types are packed, strings their UTF-8."""
        if self.proto.data_type == TensorProto.STRING:
            return sum(map(len, self.proto.string_data))
        return byte_count(self.proto)

    def payload(self) -> memoryview | bytes | None:
        """The values as raw little-endian bytes, None when they are in a typed field (or strings)."""
        stored = self.store.payload(self.proto)
        if stored is not None:
            return stored
        return self.proto.raw_data or None

    def load(self) -> Array:
        """The values: a read-only array of `shape`. Raises BadModel when there are too many or too few."""
        proto = self.proto
        count = element_count(proto)
        if np_dtype(proto.data_type) is None:
            bits(proto.data_type)
        raw = self.payload()
        if raw is not None and proto.data_type != TensorProto.STRING:
            if len(raw) != byte_count(proto):
                raise BadModel(
                    f"tensor {shown(proto.name)} needs {byte_count(proto)} bytes but its data has {len(raw)}"
                )
            flat = from_bytes(raw, proto.data_type, count)
        else:
            flat = _from_typed(proto, count)
        if flat.size != count:
            raise BadModel(f"tensor {shown(proto.name)} needs {count} elements but its data has {flat.size}")
        array = flat.reshape(tuple(proto.dims))
        array.flags.writeable = False
        return array

    def __repr__(self) -> str:
        return f"Stored({shown(self.proto.name)}, shape={self.shape}, dtype={self.dtype})"

    __str__ = __repr__


class SparseStored(LazyValues):
    """The values of one SparseTensorProto, not read yet. Attributes as `Stored`'s; `load` is dense."""

    def __init__(self, proto: SparseTensorProto, store: Store) -> None:
        self.proto = proto
        self.store = store

    @property
    def tensor(self) -> SparseTensorProto:
        """The proto, under the name that graphsurgeon's own lazy values give it."""
        return self.proto

    @property
    def shape(self) -> list[int]:
        return list(self.proto.dims)

    @property
    def onnx_dtype(self) -> int:
        """ONNX's number of the element type."""
        return int(self.proto.values.data_type)

    @property
    def dtype(self) -> Any:
        dtype = np_dtype(self.proto.values.data_type)
        return self.onnx_dtype if dtype is None else dtype

    @property
    def nbytes(self) -> int:
        """Bytes that values and indices take in a file."""
        return Stored(self.proto.values, self.store).nbytes + Stored(self.proto.indices, self.store).nbytes

    def payload(self) -> None:
        """None: a sparse tensor has no single run of bytes."""
        return

    def load(self) -> Array:
        """The dense tensor, read-only (ONNX IR, `SparseTensorProto`: indices [NNZ] or [NNZ, rank]).

        Raises BadModel when indices and values do not fit together or leave the tensor, and
        OverLimit when the dense form would take more than the limit on it.
        """
        proto = self.proto
        name = shown(proto.values.name)
        dims = [int(dim) for dim in proto.dims]
        total = element_count(TensorProto(name=proto.values.name, dims=dims))
        values = Stored(proto.values, self.store).load().reshape(-1)
        indices = Stored(proto.indices, self.store).load()
        if total * max(values.dtype.itemsize, 1) > current().dense_bytes:
            raise OverLimit(
                f"sparse tensor {name} has {total} elements when dense, too many to read into memory; "
                + how_to_move("dense_bytes")
            )
        if indices.dtype.kind not in "iu" or indices.ndim not in (1, 2) or len(indices) != values.size:
            raise BadModel(f"sparse tensor {name} has indices that do not fit its {values.size} values")
        if indices.ndim == 2:
            if indices.shape[1] != len(dims):
                raise BadModel(f"sparse tensor {name} has indices of {indices.shape[1]} axes, not {len(dims)}")
            self._within(indices, np.asarray(dims, np.int64), name)
            places = np.ravel_multi_index(tuple(indices.T.astype(np.int64)), dims) if values.size else indices[:, 0]
        else:
            self._within(indices, np.asarray([total]), name)
            places = indices
        dense = np.full(total, "", object) if values.dtype == object else np.zeros(total, values.dtype)
        dense[places] = values
        dense.flags.writeable = False
        array = dense.reshape(dims)
        array.flags.writeable = False
        return array

    @staticmethod
    def _within(indices: Array, ends: Array, name: str) -> None:
        if indices.size and bool((indices < 0).any() or (indices >= ends).any()):
            raise BadModel(f"sparse tensor {name} has an index outside its dimensions")

    def __repr__(self) -> str:
        return f"SparseStored({shown(self.proto.values.name)}, shape={self.shape}, dtype={self.dtype})"

    __str__ = __repr__


def _decoded(text: bytes) -> str | bytes:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text


def _fixed(field: str, values: Any, dtype: Any) -> Array:
    """A packed fixed-width field as an array, by its wire bytes: keeps the bits of every NaN."""
    if not len(values):
        return np.empty(0, dtype)
    alone = TensorProto()
    getattr(alone, field).MergeFrom(values)
    return np.frombuffer(alone.SerializeToString()[-len(values) * np.dtype(dtype).itemsize :], dtype)


def _from_typed(proto: TensorProto, count: int) -> Array:
    """Elements from the typed field that ONNX prescribes for the element type; flat."""
    kind = TensorProto.DataType.Name(proto.data_type)
    dtype = np_dtype(proto.data_type)
    assert dtype is not None
    if kind == "STRING":
        strings = np.empty(len(proto.string_data), object)
        strings[:] = [_decoded(text) for text in proto.string_data]
        return strings
    if kind in ("FLOAT", "COMPLEX64"):
        return _fixed("float_data", proto.float_data, np.float32).view(dtype)
    if kind in ("DOUBLE", "COMPLEX128"):
        return _fixed("double_data", proto.double_data, np.float64).view(dtype)
    if kind == "INT64":
        return np.array(proto.int64_data, np.int64)
    if kind in ("UINT32", "UINT64"):
        return np.array(proto.uint64_data, np.uint64).astype(dtype)
    words = np.array(proto.int32_data, np.int32)
    if kind in _CODED:
        return unpack(words.astype(np.uint8), bits(proto.data_type), count).view(dtype)
    if kind.startswith("FLOAT6"):
        return (words.astype(np.uint8) & np.uint8(0x3F)).view(dtype)
    if dtype.kind in "iu":
        return words.astype(dtype)
    return words.astype(np.uint16 if dtype.itemsize == 2 else np.uint8).view(dtype)


def to_tensor_proto(name: str, array: Array, store: Store | None = None) -> TensorProto:
    """A TensorProto of any ONNX element type from an array; strings may be str or bytes.

    Values go into `raw_data` (packed below a byte). With a `store`, values of 1 KiB and more stay
    where they are in memory and the proto refers to them: do not write into `array` afterwards.
    Raises UsageError for a dtype that ONNX does not have.
    """
    array = np.asarray(array)
    number = onnx_dtype(array.dtype)
    proto = TensorProto(data_type=number)
    if name:  # an empty one would take room, too
        proto.name = name
    proto.dims.extend(array.shape)
    if number == TensorProto.STRING:
        for one in array.ravel().tolist():
            if not isinstance(one, str | bytes):
                raise UsageError(f"tensor {shown(name)} has an element of type {type(one).__name__}, not a string")
            proto.string_data.append(one.encode("utf-8") if isinstance(one, str) else one)
        return proto
    data = to_bytes(array)
    if store is None or data.size < LARGE:
        proto.raw_data = data.tobytes()
    else:
        refer(proto, EMBEDDED, *store.add(data))
    return proto
