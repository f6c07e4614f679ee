"""Element types: ONNX's numbers, numpy's (and ml_dtypes') dtypes, and how elements are packed.

Which types exist is asked of the installed onnx, so a newer onnx brings its own. Types narrower
than a byte (int4, uint4, float4e2m1, int2, uint2, float6) hold one element a byte in numpy and
are packed least significant bits first in a file (ONNX IR specification, `TensorProto.raw_data`).
"""

from __future__ import annotations

from typing import Any

import ml_dtypes  # noqa: F401  (registers its dtypes with numpy)
import numpy as np
import onnx
from onnx import TensorProto

from graphopt.errors import BadModel, UsageError

Array = np.ndarray[Any, Any]

_TOGETHER = 1 << 22  # elements that are packed together: a multiple of eight

MOST_AXES = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
"""How many axes an array can have."""

_NARROW = {
    "INT4": 4,
    "UINT4": 4,
    "FLOAT4E2M1": 4,
    "INT2": 2,
    "UINT2": 2,
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
}


def _known() -> tuple[dict[int, np.dtype[Any]], dict[int, int]]:
    dtypes: dict[int, np.dtype[Any]] = {}
    widths: dict[int, int] = {}
    for name, number in TensorProto.DataType.items():
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
        except (KeyError, TypeError):
            continue
        dtypes[number] = dtype
        widths[number] = 0 if dtype.kind == "O" else _NARROW.get(name, 8 * dtype.itemsize)
    return dtypes, widths


_DTYPES, _BITS = _known()
_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}


def np_dtype(onnx_type: int) -> np.dtype[Any] | None:
    """The numpy dtype that holds elements of ONNX type `onnx_type` (object for strings).

    None for UNDEFINED and for numbers that the installed onnx does not know.
    """
    return _DTYPES.get(onnx_type)


def onnx_dtype(dtype: Any) -> int:
    """ONNX's number for a numpy dtype (anything that `np.dtype` takes).

    Raises UsageError when ONNX has no such element type.
    """
    dtype = np.dtype(dtype)
    number = _NUMBERS.get(dtype)
    if number is None and dtype.byteorder == ">":
        number = _NUMBERS.get(dtype.newbyteorder("<"))
    if number is None and dtype.kind in "OUST":
        number = TensorProto.STRING
    if number is None:
        raise UsageError(f"numpy dtype {dtype} has no ONNX element type; convert the array to one that has")
    return int(number)


def bits(onnx_type: int) -> int:
    """Bits that one element takes in a file; 0 for strings, whose elements differ in size.

    Raises BadModel for UNDEFINED and for numbers that the installed onnx does not know.
    """
    width = _BITS.get(onnx_type)
    if width is None:
        raise BadModel(f"element type {onnx_type} is not one that onnx {onnx.__version__} knows")
    return width


def pack(codes: Array, width: int) -> Array:
    """Pack one code a byte (uint8, any shape) into `width` bits each, `width` in 2, 4, 6: uint8 [n]."""
    flat = codes.reshape(-1)
    if flat.size <= _TOGETHER:
        return _packed(flat, width)
    made = np.empty((flat.size * width + 7) // 8, np.uint8)
    for start in range(0, flat.size, _TOGETHER):
        part = _packed(flat[start : start + _TOGETHER], width)
        made[start * width // 8 :][: part.size] = part
    return made


def _packed(flat: Array, width: int) -> Array:
    flat = flat & np.uint8((1 << width) - 1)
    group = 4 if width == 6 else 8 // width
    size = (flat.size * width + 7) // 8
    padded = np.zeros(-(-flat.size // group) * group, np.uint8)
    padded[: flat.size] = flat
    parts = padded.reshape(-1, group)
    if width == 6:
        a, b, c, d = parts.T
        packed = np.stack([a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2], axis=1)
    else:
        packed = np.zeros(len(parts), np.uint8)
        for place in range(group):
            packed |= parts[:, place] << np.uint8(place * width)
    return np.ascontiguousarray(packed.reshape(-1)[:size])


def unpack(packed: Array, width: int, count: int) -> Array:
    """The inverse of `pack`: `count` codes of `width` bits from uint8 bytes, one a byte: uint8 [count]."""
    if count <= _TOGETHER:
        return _unpacked(packed, width, count)
    made = np.empty(count, np.uint8)
    for start in range(0, count, _TOGETHER):
        part = made[start : start + _TOGETHER]
        first = start * width // 8
        part[:] = _unpacked(packed[first : first + (part.size * width + 7) // 8], width, part.size)
    return made


def _unpacked(packed: Array, width: int, count: int) -> Array:
    mask = np.uint8((1 << width) - 1)
    if width != 6:
        group = 8 // width
        codes = np.empty((packed.size, group), np.uint8)
        for place in range(group):
            codes[:, place] = packed >> np.uint8(place * width) & mask
        return codes.reshape(-1)[:count]
    padded = np.zeros(-(-packed.size // 3) * 3, np.uint8)
    padded[: packed.size] = packed
    x, y, z = padded.reshape(-1, 3).T
    codes = np.stack([x, x >> 6 | y << 2, y >> 4 | z << 4, z >> 2], axis=1)
    return codes.reshape(-1)[:count] & mask


def from_bytes(data: Any, onnx_type: int, count: int) -> Array:
    """`count` elements of ONNX type `onnx_type` from their little-endian bytes; flat and read-only.

    Shares memory with `data` unless the type is packed. `data` holds exactly the bytes needed.
    """
    dtype, width = _DTYPES[onnx_type], bits(onnx_type)
    if width % 8 == 0:
        array = np.frombuffer(data, dtype, count) if count else np.empty(0, dtype)
    else:
        array = unpack(np.frombuffer(data, np.uint8), width, count).view(dtype)
    array.flags.writeable = False
    return array


def to_bytes(array: Array) -> Array:
    """The bytes that `array` has in a file: uint8 [n], sharing memory where nothing must change.

    `array` is of any ONNX element type except strings.
    """
    width = bits(onnx_dtype(array.dtype))
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return flat if width % 8 == 0 else pack(flat, width)
