"""Values of every kind that onnxruntime takes and gives, as parcels of shared memory.

A description is a small JSON list: `["tensor", element, shape, place]`, `["text", shape, place]`
(lengths, then UTF-8), `["list", [...]]`, `["map", keys, values]` or `["none"]`, with places as
`shared.Layout` gives them. A map's keys and values are each one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.runtime.elements import STRING, Array, bits_of, dtype_of, number_of, pack, size_of, unpack
from graphopt.runtime.transport import Closed

if TYPE_CHECKING:
    from graphopt.runtime.options import Value
    from graphopt.runtime.shared import Layout, Parcel

Description = list[Any]


def describe(value: Value, layout: Layout) -> Description:
    """Plan `value` into `layout`.

    Raises TypeError for what onnxruntime has no type for, UnicodeEncodeError for a string that
    is not Unicode.
    """
    if value is None:
        return ["none"]
    if isinstance(value, Mapping):
        keys = np.array(list(value), dtype=None if value else np.int64)
        items = np.array(list(value.values()), dtype=None if value else np.float32)
        return ["map", describe(keys, layout), describe(items, layout)]
    if isinstance(value, (list, tuple)):
        return ["list", [describe(each, layout) for each in value]]
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a value of type {type(value).__name__} cannot be passed")
    number = number_of(value.dtype)
    if number is None:
        raise TypeError(f"an array of {value.dtype} cannot be passed")
    if number == STRING:
        return ["text", list(value.shape), layout.add(_encode_text(value))]
    piece = value
    if bits_of(number) < 8 or not value.dtype.isnative:
        piece = pack(np.ascontiguousarray(value, dtype=dtype_of(number)), number)
    # onnxruntime takes an array of one byte an element even where it reads them packed.
    return ["tensor", number, list(value.shape), layout.add(piece, reserve=value.size)]


def describe_raw(number: int, shape: list[int], raw: Array, layout: Layout) -> Description:
    """Plan a tensor whose packed bytes are `raw` (uint8, flat)."""
    return ["tensor", number, shape, layout.add(raw)]


def build(description: Description, parcel: Parcel, tensor: Callable[[int, tuple[int, ...], Array], Any]) -> Any:
    """The value of a description: strings as object arrays, maps as dicts of Python scalars.

    tensor: makes a tensor of (element, shape, packed bytes as flat uint8). Raises Closed when
    the description does not fit the parcel.
    """
    try:
        return _build(description, parcel, tensor)
    except (LookupError, TypeError, ValueError) as error:
        raise Closed(str(error)) from error


def to_array(parcel: Parcel) -> Callable[[int, tuple[int, ...], Array], Array]:
    """For `build`: arrays that outlive the parcel, without a copy where the memory is theirs alone."""

    def make(number: int, shape: tuple[int, ...], raw: Array) -> Array:
        array = unpack(raw, number, shape)
        return array.copy() if parcel.is_common(raw) else array

    return make


def _build(description: Description, parcel: Parcel, tensor: Callable[..., Any]) -> Any:
    kind = description[0]
    if kind == "tensor":
        _, number, extents, place = description
        shape = tuple(extents)
        raw = parcel.bytes_at(place)
        if raw.size != size_of(number, shape):
            raise ValueError("a tensor's bytes and shape disagree")
        return tensor(number, shape, raw)
    if kind == "text":
        return _decode_text(parcel.bytes_at(description[2]), tuple(description[1]))
    if kind == "list":
        return [_build(each, parcel, tensor) for each in description[1]]
    if kind == "map":
        keys = _build(description[1], parcel, unpack_copy)
        items = _build(description[2], parcel, unpack_copy)
        return dict(zip(keys.tolist(), items.tolist(), strict=True))
    if kind == "none":
        return None
    raise ValueError(f"a value of kind {kind!r}")


def unpack_lent(number: int, shape: tuple[int, ...], raw: Array) -> Array:
    """For `build`: arrays on the memory of the parcel."""
    return unpack(raw, number, shape)


def unpack_copy(number: int, shape: tuple[int, ...], raw: Array) -> Array:
    """For `build`: arrays that share no memory with the parcel."""
    return unpack(raw, number, shape).copy()


def _encode_text(value: Array) -> Array:
    texts = [str(each).encode() for each in value.reshape(-1).tolist()]
    lengths = np.array([len(each) for each in texts], dtype="<i8")
    return np.frombuffer(lengths.tobytes() + b"".join(texts), dtype=np.uint8)


def _decode_text(raw: Array, shape: tuple[int, ...]) -> Array:
    count = math.prod(shape)
    lengths = raw[: 8 * count].view("<i8").tolist()
    blob = raw[8 * count :].tobytes()
    texts = np.empty(count, dtype=object)
    start = 0
    for place, length in enumerate(lengths):
        texts[place] = blob[start : start + length].decode()
        start += length
    return texts.reshape(shape)
