"""Element types that travel between graphopt and onnxruntime: ONNX's numbers, names, dtypes, packing.

The child imports this, so it must not import onnx; the table is the one of the ONNX IR
specification (`TensorProto.DataType`), as far as onnxruntime names the types.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

STRING: Final = 8
BFLOAT16: Final = 16  # numpy itself has no dtype for this and what follows

# number: (onnxruntime's name, the dtype's name in numpy or ml_dtypes, bits of one element)
_TABLE: Final[dict[int, tuple[str, str, int]]] = {
    1: ("float", "float32", 32),
    2: ("uint8", "uint8", 8),
    3: ("int8", "int8", 8),
    4: ("uint16", "uint16", 16),
    5: ("int16", "int16", 16),
    6: ("int32", "int32", 32),
    7: ("int64", "int64", 64),
    STRING: ("string", "object", 0),
    9: ("bool", "bool", 8),
    10: ("float16", "float16", 16),
    11: ("double", "float64", 64),
    12: ("uint32", "uint32", 32),
    13: ("uint64", "uint64", 64),
    14: ("complex64", "complex64", 64),
    15: ("complex128", "complex128", 128),
    BFLOAT16: ("bfloat16", "bfloat16", 16),
    17: ("float8e4m3fn", "float8_e4m3fn", 8),
    18: ("float8e4m3fnuz", "float8_e4m3fnuz", 8),
    19: ("float8e5m2", "float8_e5m2", 8),
    20: ("float8e5m2fnuz", "float8_e5m2fnuz", 8),
    21: ("uint4", "uint4", 4),
    22: ("int4", "int4", 4),
    23: ("float4e2m1", "float4_e2m1fn", 4),
    24: ("float8e8m0", "float8_e8m0fnu", 8),
    25: ("uint2", "uint2", 2),
    26: ("int2", "int2", 2),
}
_BY_TEXT: Final = {row[0]: number for number, row in _TABLE.items()}
_BY_DTYPE: Final = {row[1]: number for number, row in _TABLE.items()}
_TENSOR: Final = re.compile(r"tensor\((\w+)\)")


def element_of(type_text: str) -> int | None:
    """ONNX's number for the elements of onnxruntime's type text, such as `seq(tensor(float))`.

    None when it has no tensor in it, or one of a type that this table does not know.
    """
    found = _TENSOR.search(type_text)
    return _BY_TEXT.get(found[1]) if found else None


def type_text(number: int) -> str:
    """A tensor's type in onnxruntime's words, such as `tensor(float)`; "" for an element that it does not have."""
    row = _TABLE.get(number)
    return "" if row is None else f"tensor({row[0]})"


@cache  # a dtype's name is slow to make
def number_of(dtype: np.dtype[Any]) -> int | None:
    """ONNX's number for a numpy or ml_dtypes dtype; None for a dtype that ONNX does not have."""
    if dtype.kind in "OUT":
        return STRING
    return _BY_DTYPE.get(dtype.name)


@cache
def dtype_of(number: int) -> np.dtype[Any]:
    """The dtype of arrays of that element type: object for strings, ml_dtypes' where numpy has none."""
    name = _TABLE[number][1]
    if number < BFLOAT16:
        return np.dtype(name)
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


def bits_of(number: int) -> int:
    """Bits of one element in onnxruntime's memory; 0 for strings."""
    return _TABLE[number][2]


def pack(array: Array, number: int) -> Array:
    """`array` as a flat array of the bytes that onnxruntime expects.

    Elements narrower than a byte lie several to a byte, the first in the lowest bits. A
    C-contiguous array of wider elements is viewed, not copied.
    """
    bits = bits_of(number)
    flat = array.reshape(-1)
    if bits >= 8:
        return flat.view(np.uint8)
    share = 8 // bits
    codes = np.zeros(-(-flat.size // share) * share, dtype=np.uint8)
    codes[: flat.size] = flat.view(np.uint8) & ((1 << bits) - 1)
    packed = codes[::share].copy()
    for place in range(1, share):
        packed |= codes[place::share] << (place * bits)
    return packed


def unpack(raw: Array, number: int, shape: tuple[int, ...]) -> Array:
    """The array whose packed bytes are `raw` (uint8, flat); a view of it unless elements are sub-byte."""
    bits, dtype = bits_of(number), dtype_of(number)
    if bits >= 8:
        return raw.view(dtype).reshape(shape)
    share = 8 // bits
    codes = np.empty(raw.size * share, dtype=np.uint8)
    for place in range(share):
        codes[place::share] = (raw >> (place * bits)) & ((1 << bits) - 1)
    return codes[: math.prod(shape)].view(dtype).reshape(shape)


def size_of(number: int, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of that type and shape in onnxruntime's memory; not for strings."""
    return -(-math.prod(shape) * bits_of(number) // 8)
