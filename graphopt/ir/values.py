"""Tensors of a graph: `Variable` (known at run time) and `Constant` (an initializer).

They are graphsurgeon's classes with identity semantics. Dtypes and shapes of a variable are
decoded from its ValueInfoProto when first asked for; a constant's values are read from where
they lie when first asked for, and what was only read is written back as it was.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphopt.ir.dtypes import bits, np_dtype, onnx_dtype
from graphopt.ir.linked import Linked
from graphopt.ir.links import Uses
from graphopt.ir.resident import look
from graphopt.ir.shelf import Shelved, is_mapped, shelved
from graphopt.ir.tensors import SparseStored, Stored

Array = np.ndarray[Any, Any]
Dim = int | str | None
_LARGE = 1 << 24  # bytes of unpacked values that are kept only as long as somebody looks at them
Lazy = LazyValues
"""Values that are not read yet: `Stored`, `SparseStored`, or those of a stock graphsurgeon tensor."""


class Variable(Linked, gs.Variable):
    """A tensor whose value is known at run time only.

    `dtype` is a numpy (or ml_dtypes) dtype, ONNX's number where numpy has none, or None where
    the model does not say; `shape` a list of int, str (symbolic) or None (unknown), or None.
    """

    def __init__(
        self,
        name: str,
        dtype: Any = None,
        shape: Iterable[Dim] | None = None,
        type: str = "tensor_type",  # noqa: A002
    ) -> None:
        own = self.__dict__
        own["name"], own["inputs"], own["outputs"] = name, Uses(self, "outputs"), Uses(self, "inputs")
        own["_dtype"], own["_shape"], own["_kind"] = dtype, None if shape is None else list(shape), type

    @classmethod
    def declared(cls, name: str, info: onnx.ValueInfoProto | None) -> Variable:
        """A variable whose dtype and shape stay in `info` until somebody asks."""
        new = cls.__new__(cls)
        attributes = new.__dict__
        attributes["name"] = name
        attributes["inputs"] = Uses(new, "outputs")
        attributes["outputs"] = Uses(new, "inputs")
        attributes["_info"] = info
        return new

    @staticmethod
    def empty() -> Variable:
        """The placeholder of an optional input or output that is left out."""
        return Variable.declared("", None)

    def _decode(self) -> None:
        attributes = self.__dict__
        kind, dtype, shape = read_info(attributes.get("_info"))
        attributes.setdefault("_kind", kind)
        attributes.setdefault("_dtype", dtype)
        attributes.setdefault("_shape", shape)

    @property
    def dtype(self) -> Any:
        if "_dtype" not in self.__dict__:
            self._decode()
        return self.__dict__["_dtype"]

    @dtype.setter
    def dtype(self, value: Any) -> None:
        self.__dict__["_dtype"] = value

    @property
    def shape(self) -> list[Dim] | None:
        if "_shape" not in self.__dict__:
            self._decode()
        found: list[Dim] | None = self.__dict__["_shape"]
        return found

    @shape.setter
    def shape(self, value: Iterable[Dim] | None) -> None:
        self.__dict__["_shape"] = None if value is None else list(value)

    @property
    def type(self) -> Any:
        """Which kind of value: "tensor_type", "sequence_type", "optional_type", ..."""
        if "_kind" not in self.__dict__:
            self._decode()
        return self.__dict__["_kind"]

    @type.setter
    def type(self, value: Any) -> None:
        self.__dict__["_kind"] = value

    @property
    def onnx_dtype(self) -> int:
        """ONNX's number of the element type, 0 where the model does not say."""
        return onnx_number(self.dtype)

    @property
    def kept(self) -> Mapping[int, Array]:
        """For each axis that was narrowed, the indices (int64, ascending) of the model as it was read that are left."""
        found: Mapping[int, Array] = self.__dict__.get("_kept", {})
        return found

    @kept.setter
    def kept(self, value: Mapping[int, Array]) -> None:
        self.__dict__["_kept"] = value

    def to_constant(self, values: Array | Lazy, data_location: Any = None, export_dtype: Any = None) -> Constant:
        """Turn this very object into a constant; whoever reads it sees the change."""
        values = _checked(values, self.name)
        for key in ("_dtype", "_shape", "_kind"):
            self.__dict__.pop(key, None)
        tensor: Any = self
        tensor.__class__ = Constant
        tensor.__dict__.update(_values=values, data_location=data_location, _export_dtype=export_dtype)
        constant: Constant = tensor
        return constant

    def to_variable(self, dtype: Any = None, shape: Iterable[Dim] = ()) -> Variable:
        """Give this variable another dtype and shape."""
        self.dtype, self.shape = dtype, shape
        return self

    def copy(self) -> Variable:
        """A tensor of the same name, dtype and shape with no links."""
        new = Variable(self.name, self.dtype, self.shape, self.type)
        if "_info" in self.__dict__:
            new.__dict__["_info"] = self.__dict__["_info"]
        return new


class Constant(Linked, gs.Constant):
    """An initializer, or the tensor of a Constant node: its value is part of the model."""

    def __init__(self, name: str, values: Array | Lazy, data_location: Any = None, export_dtype: Any = None) -> None:
        own = self.__dict__
        own["name"], own["inputs"], own["outputs"] = name, Uses(self, "outputs"), Uses(self, "inputs")
        own["_values"] = _checked(values, name)
        own["data_location"], own["_export_dtype"] = data_location, export_dtype

    @property
    def values(self) -> Array:
        """The tensor as a read-only array; read from the model's file at the first use."""
        values = self.__dict__["_values"]
        if isinstance(values, np.ndarray):
            return values
        held = self.__dict__.get("_loaded")
        loaded: Array | None = held() if isinstance(held, weakref.ref) else held
        if loaded is None:
            loaded = np.asarray(values.load())
            large = loaded.nbytes >= _LARGE and not is_mapped(loaded)
            self.__dict__["_loaded"] = weakref.ref(loaded) if large else loaded
        return loaded

    @values.setter
    def values(self, values: Array | Lazy) -> None:
        self.__dict__["_values"] = _checked(values, self.name)
        self.__dict__.pop("_loaded", None)

    def payload(self) -> memoryview | bytes | None:
        """The bytes that the values have in a file, where these lie somewhere as they are; None elsewhere."""
        values = self.__dict__["_values"]
        if isinstance(values, Stored):
            return values.payload()
        if isinstance(values, Shelved):
            return values.data
        plain = isinstance(values, np.ndarray) and values.dtype.kind not in "OUST" and values.flags.c_contiguous
        if not plain or values.dtype.byteorder == ">" or bits(onnx_number(values.dtype)) % 8:
            return None
        return memoryview(values.reshape(-1).view(np.uint8))

    def forget(self) -> None:
        """Let go of values that were only read; they can be read again."""
        self.__dict__.pop("_loaded", None)
        look()

    @property
    def stored(self) -> Stored | SparseStored | None:
        """Where the original values lie, or None once they have been replaced."""
        values = self.__dict__["_values"]
        return values if isinstance(values, Stored | SparseStored) else None

    @property
    def shape(self) -> Any:
        return self.__dict__["_values"].shape

    @property
    def dtype(self) -> Any:
        return self.__dict__["_values"].dtype

    @property
    def export_dtype(self) -> Any:
        chosen = self.__dict__.get("_export_dtype")
        return self.dtype if chosen is None else chosen

    @export_dtype.setter
    def export_dtype(self, value: Any) -> None:
        self.__dict__["_export_dtype"] = value

    @property
    def onnx_dtype(self) -> int:
        """ONNX's number of the element type."""
        return onnx_number(self.export_dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that the values take in a file (sub-byte types packed)."""
        values = self.__dict__["_values"]
        if not isinstance(values, np.ndarray):
            return int(values.nbytes)
        if values.dtype.kind in "OUST":
            return sum(len(one if isinstance(one, bytes) else str(one).encode()) for one in values.ravel().tolist())
        return (values.size * bits(self.onnx_dtype) + 7) // 8

    def to_variable(self, dtype: Any = None, shape: Iterable[Dim] = ()) -> Variable:
        """Turn this very object into a variable; whoever reads it sees the change."""
        dtype = self.export_dtype if dtype is None else dtype
        home = self.__dict__.get("home")
        if home is not None:
            home.initializers.discard(self)
        for key in ("_values", "_loaded", "_export_dtype", "data_location", "home"):
            self.__dict__.pop(key, None)
        variable: Any = self
        variable.__class__ = Variable
        variable.dtype, variable.shape, variable.type = dtype, shape, "tensor_type"
        found: Variable = variable
        return found

    def copy(self) -> Constant:
        """A tensor of the same name and values with no links; the values are shared."""
        return Constant(self.name, self.__dict__["_values"], export_dtype=self.__dict__.get("_export_dtype"))

    def __str__(self) -> str:
        return f"Constant ({self.name}): (shape={list(self.shape)}, dtype={self.dtype})"

    __repr__ = __str__  # graphsurgeon's would print every value, or read it first


Tensor = Variable | Constant


def _checked(values: Any, name: str) -> Any:
    """`values` as an array, unless they are lazy. Raises TypeError for what is neither."""
    if isinstance(values, np.ndarray):
        return shelved(values)
    if isinstance(values, LazyValues):
        return values
    if isinstance(values, np.generic | bool | int | float | list | tuple):
        return np.asarray(values)
    raise TypeError(f"the values of constant {name!r} are a {type(values).__name__}, not an array")


def onnx_number(dtype: Any) -> int:
    """ONNX's number of a dtype as tensors have it: 0 for None, a number as it is."""
    if dtype is None:
        return 0
    return dtype if isinstance(dtype, int) else onnx_dtype(np.dtype(dtype))


def read_info(info: onnx.ValueInfoProto | None) -> tuple[Any, Any, list[Dim] | None]:
    """Kind, dtype and shape that a ValueInfoProto declares."""
    if info is None:
        return "tensor_type", None, None
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return kind or "tensor_type", None, None
    tensor = info.type.tensor_type
    dtype: Any = np_dtype(tensor.elem_type) if tensor.elem_type else None
    if dtype is None and tensor.elem_type:
        dtype = tensor.elem_type
    if not tensor.HasField("shape"):
        return kind, dtype, None
    shape: list[Dim] = []
    for dim in tensor.shape.dim:
        which = dim.WhichOneof("value")
        shape.append(dim.dim_value if which == "dim_value" else (dim.dim_param or None) if which else None)
    return kind, dtype, shape
