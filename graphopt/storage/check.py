"""Whether tensors are what they say: known type, sane dims, as many bytes as those need.

Everything is checked on the skeleton, so no weight is looked at.
"""

from __future__ import annotations

import onnx
from onnx import SparseTensorProto, TensorProto

from graphopt.errors import BadModel, OverLimit
from graphopt.ir.dtypes import MOST_AXES, bits, np_dtype
from graphopt.ir.store import EMBEDDED, Store, byte_count, element_count, reference
from graphopt.ir.wording import shown
from graphopt.storage.external import Folder

_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_WIDE: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}


def check_tensor(proto: TensorProto, store: Store, folder: Folder | None) -> None:
    """Raise BadModel when `proto` is not a whole tensor, Unsafe when its external file is refused, OverLimit for
    more axes than arrays have.

    `store` holds the embedded payloads; `folder` is where external files may be, None when the model came without one.
    """
    name = shown(proto.name)
    if np_dtype(proto.data_type) is None:
        if not proto.ListFields():
            return  # the empty placeholder of an attribute that refers to a function's parameter
        raise BadModel(f"tensor {name} has element type {proto.data_type}, which onnx {onnx.__version__} does not know")
    if len(proto.dims) > MOST_AXES:
        raise OverLimit(f"tensor {name} has {len(proto.dims)} axes, more than the {MOST_AXES} that arrays can have")
    if proto.data_location == TensorProto.EXTERNAL:
        _check_external(proto, store, folder)
        return
    count = element_count(proto)
    raw = len(proto.raw_data)
    filled = [field for field in _FIELDS if len(getattr(proto, field))]
    if len(filled) + bool(raw) > 1:
        raise BadModel(f"tensor {name} holds its values more than once; export the model again")
    if raw:
        expected = byte_count(proto)
        if proto.data_type == TensorProto.STRING:
            raise BadModel(f"tensor {name} of strings has raw bytes instead of strings")
        if raw != expected:
            raise BadModel(
                f"tensor {name} needs {expected} bytes for its {count} elements but its data has {raw}; "
                "the model is damaged or was written wrong"
            )
        return
    field = _WIDE.get(proto.data_type, "int32_data")
    if filled and filled != [field]:
        raise BadModel(f"tensor {name} has its values in {filled[0]}, which is not for its element type")
    expected, found = _entries(proto, count), len(getattr(proto, field))
    if found != expected:
        raise BadModel(
            f"tensor {name} needs {expected} values for its {count} elements but its data has {found}; "
            "the model is damaged or was written wrong"
        )


def _entries(proto: TensorProto, count: int) -> int:
    """How many entries the typed field needs for `count` elements (onnx.proto, `int32_data`)."""
    if proto.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 2 * count
    width = bits(proto.data_type)
    return -(-count * width // 8) if width in (2, 4) else count


def _check_external(proto: TensorProto, store: Store, folder: Folder | None) -> None:
    name = shown(proto.name)
    found = reference(proto)
    embedded = found.location == EMBEDDED
    if proto.data_type == TensorProto.STRING:
        where = "raw bytes instead of strings" if embedded else "its strings in an external file"
        raise BadModel(f"tensor {name} has {where}, which ONNX does not allow")
    if proto.raw_data or any(len(getattr(proto, field)) for field in _FIELDS):
        raise BadModel(f"tensor {name} holds its values more than once; export the model again")
    expected = byte_count(proto)
    if found.length is not None and found.length != expected:
        raise BadModel(
            f"tensor {name} needs {expected} bytes for its {element_count(proto)} elements but its data has "
            f"{found.length}; the model is damaged or was written wrong"
        )
    if embedded:
        if not store.holds(proto):
            raise BadModel(f"tensor {name} refers to values of another model in memory; encode that model as a whole")
        return
    if folder is None:
        raise BadModel(
            f"tensor {name} has its values in external file {shown(found.location)}, but the model came "
            "without a folder; load it from its path or load its external data first"
        )
    file = folder.find(found.location, proto.name)
    if found.offset + expected > file.size:
        raise BadModel(
            f"tensor {name} needs bytes {found.offset} to {found.offset + expected} of external file "
            f"{shown(found.location)}, which has {file.size}; the file is truncated or not this model's"
        )


def check_sparse(proto: SparseTensorProto, store: Store, folder: Folder | None) -> None:
    """Raise BadModel when values, indices and dims do not belong together; nothing is made dense."""
    if not proto.ListFields():
        return  # the empty placeholder of an attribute that refers to a function's parameter
    name = shown(proto.values.name)
    check_tensor(proto.values, store, folder)
    check_tensor(proto.indices, store, folder)
    element_count(TensorProto(name=proto.values.name, dims=proto.dims))
    values, indices = list(proto.values.dims), list(proto.indices.dims)
    if len(values) != 1:
        raise BadModel(f"sparse tensor {name} has values of {len(values)} axes; they must have one")
    if indices != values and indices != [values[0], len(proto.dims)]:
        raise BadModel(
            f"sparse tensor {name} has indices of shape {indices} for {values[0]} values of {len(proto.dims)} axes"
        )
    kind = np_dtype(proto.indices.data_type)
    if kind is None or kind.kind not in "iu":
        raise BadModel(f"sparse tensor {name} has indices that are not integers")
