"""Between numpy arrays and torch tensors, for every element type that torch computes with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import TensorProto

from graphopt.training.refusal import Unsupported

Array = np.ndarray[Any, Any]

# torch stores the wide unsigned types but computes nothing with them: int64 carries them.
_TYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.BOOL: torch.bool,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.int64,
    TensorProto.UINT32: torch.int64,
    TensorProto.UINT64: torch.int64,
    TensorProto.INT4: torch.int8,
    TensorProto.UINT4: torch.uint8,
    TensorProto.INT2: torch.int8,
    TensorProto.UINT2: torch.uint8,
}
_NARROW = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn")
_TRAINED = ("float16", "bfloat16", "float32", "float64")


def torch_type(onnx_type: int, compute: torch.dtype | None = None) -> torch.dtype:
    """The torch type that holds elements of ONNX type `onnx_type`; `compute` stands for every float type."""
    found = _TYPES.get(onnx_type)
    if found is None:
        known = TensorProto.DataType.items()
        name = next((str(name) for name, number in known if number == onnx_type), str(onnx_type)).lower()
        raise Unsupported(f"tensors of element type {name} cannot be trained through")
    return compute if compute is not None and found.is_floating_point else found


def to_torch(array: Array, compute: torch.dtype | None = None) -> torch.Tensor:
    """A tensor with a copy of the array's values; floats become `compute` where that is given.

    Floats of a byte or less become single ones.
    """
    kind = array.dtype
    if kind.kind in "OUST" or kind.kind == "c":
        name = "string" if kind.kind in "OUST" else kind.name
        raise Unsupported(f"tensors of element type {name} cannot be trained through")
    if kind.name == "bfloat16":
        found = torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    elif kind.name in ("int4", "int2"):
        found = torch.from_numpy(array.astype(np.int8))
    elif kind.name in ("uint4", "uint2"):
        found = torch.from_numpy(array.astype(np.uint8))
    elif kind.name in ("uint16", "uint32", "uint64"):
        found = torch.from_numpy(array.astype(np.int64))
    elif kind.name in _NARROW:
        found = torch.from_numpy(array.astype(np.float32))
    elif kind.kind == "V":
        raise Unsupported(f"tensors of element type {kind.name} cannot be trained through")
    else:
        found = torch.from_numpy(np.array(array, order="C"))
    return found.to(compute) if compute is not None and found.is_floating_point() else found


def is_trained(kind: np.dtype[Any]) -> bool:
    """Whether weights of a type can be trained; floats of a byte or less are codes, and stay."""
    return kind.name in _TRAINED


def to_numpy(tensor: torch.Tensor) -> Array:
    """The values of a tensor as an array; bfloat16 as ml_dtypes has it."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        import ml_dtypes

        return np.asarray(plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(plain.numpy())
