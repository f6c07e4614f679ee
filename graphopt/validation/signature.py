"""What a model asks to be fed: its required inputs, with types and dims as declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, TypeProto

from graphopt.errors import UsageError
from graphopt.validation.values import Array

Dim = int | str  # a size, or the name of a symbol; an unnamed dim is called "input[axis]"

_UNNAMED: Final = frozenset(("", "?", "-1", "*", "None", "none", "unk", "unknown"))  # say nothing, so bind nothing
_FORMS: Final = {
    "tensor_type": "tensor",
    "sequence_type": "sequence",
    "optional_type": "optional",
    "map_type": "map",
    "sparse_tensor_type": "sparse tensor",
}


@dataclass(frozen=True)
class Input:
    """One required input. `form` is tensor, sequence, optional, map or sparse tensor.

    `element` and `dims` are those of the tensor, or of the tensors inside a sequence or
    optional; `dims` is None where the rank is unknown. `key` is a map's key type.
    """

    name: str
    form: str
    element: int
    dims: tuple[Dim, ...] | None
    inner: str = "tensor"
    key: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of the elements; strings are object arrays."""
        if self.element == TensorProto.STRING:
            return np.dtype(object)
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.element))

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbolic dims, in order, each once."""
        return tuple(dict.fromkeys(dim for dim in self.dims or () if isinstance(dim, str)))

    @property
    def text(self) -> str:
        """Such as `float[batch,3,224,224]`."""
        name = TensorProto.DataType.Name(self.element).lower() if self.element else "undefined"
        tensor = name if self.dims is None else f"{name}[{','.join(map(str, self.dims))}]"
        return tensor if self.form == "tensor" else f"{self.form}({tensor})"

    def shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """The declared dims with every symbol replaced by its size."""
        return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in self.dims or ())


def required_inputs(proto: onnx.ModelProto) -> tuple[Input, ...]:
    """The inputs that a caller must give: those without an initializer of the same name."""
    graph = proto.graph
    defaults = {tensor.name for tensor in graph.initializer}
    defaults |= {sparse.values.name for sparse in graph.sparse_initializer}
    return tuple(_input(value) for value in graph.input if value.name not in defaults)


def default_inputs(proto: onnx.ModelProto) -> tuple[Input, ...]:
    """The inputs that have a default, which a caller may override."""
    required = {each.name for each in required_inputs(proto)}
    return tuple(_input(value) for value in proto.graph.input if value.name not in required)


def cast(array: Array, wanted: Input, label: str) -> Array:
    """`array` in the dtype that `wanted` asks for.

    Only where nothing is lost, or from float64 to float32. Raises `UsageError` otherwise;
    `label` says where the array came from.
    """
    dtype = wanted.dtype
    if array.dtype == dtype:
        return array
    text = dtype == np.dtype(object)
    if text and array.dtype.kind in "US":
        decoded: Array = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
        return decoded.astype(object)
    if not text and array.dtype.kind not in "OUSMmc" and dtype.kind != "c":
        with np.errstate(all="ignore"):
            converted: Array = array.astype(dtype)
            if (array.dtype, dtype) == (np.dtype(np.float64), np.dtype(np.float32)):
                return converted
            back = converted.astype(array.dtype)
        same = back == array
        if array.dtype.kind == "f":
            same |= np.isnan(array)
        if bool(np.all(same)):
            return converted
    elements = "string" if array.dtype.kind in "OUS" else array.dtype.name
    raise UsageError(
        f"{label} has {elements} elements that do not fit the model's {wanted.text} exactly; convert them first"
    )


def _input(value: onnx.ValueInfoProto) -> Input:
    form = _FORMS.get(value.type.WhichOneof("value") or "", "tensor")
    inner, kind = _innermost(value.type)
    if kind.HasField("map_type"):
        element, _ = _element(kind.map_type.value_type, value.name)
        return Input(value.name, form, element, (), "map", kind.map_type.key_type)
    element, dims = _element(kind, value.name)
    return Input(value.name, form, element, dims, inner)


def _innermost(kind: TypeProto) -> tuple[str, TypeProto]:
    """Look through optional and sequence: what is inside, and the form of the outermost inner."""
    inner = "tensor"
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        outer = kind.WhichOneof("value")
        kind = kind.sequence_type.elem_type if outer == "sequence_type" else kind.optional_type.elem_type
        if kind.WhichOneof("value") == "sequence_type":
            inner = "sequence"
    return inner, kind


def _element(kind: TypeProto, name: str) -> tuple[int, tuple[Dim, ...] | None]:
    tensor = kind.sparse_tensor_type if kind.HasField("sparse_tensor_type") else kind.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    dims: list[Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            dims.append(dim.dim_value)
        else:
            named = dim.dim_param not in _UNNAMED
            dims.append(dim.dim_param if named else f"{name}[{axis}]")
    return tensor.elem_type, tuple(dims)
