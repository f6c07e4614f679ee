"""Where the large tensors of a model lie: memory maps and arrays, never copies.

A model in memory is a *skeleton* ModelProto and a `Store`. In a skeleton a large `raw_data` is
not in the proto: its TensorProto has `data_location` EXTERNAL and an `external_data` reference
whose location is `EMBEDDED`, with the offset and length of the bytes in the store's address
space. Tensors that the file itself keeps in external files keep their own references.

Addresses are never used twice in a process, so a reference that is looked up in a store it does
not belong to is an error, never another tensor's bytes.
"""

from __future__ import annotations

import bisect
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from onnx import TensorProto

from graphopt.errors import BadModel, InternalError
from graphopt.ir.dtypes import bits
from graphopt.ir.wording import shown

EMBEDDED = "graphopt-" + secrets.token_hex(16)
"""The location of embedded payloads in skeletons: unguessable, this process's own, never in a file."""

EXPLICIT = "explicit"
"""Key of a skeleton reference whose tensor spelled its `data_location` out as DEFAULT."""

LARGE = 1024
"""Payloads of at least this many bytes are kept out of the skeleton."""

_PAGE = 4096
_DIGITS = 19
_lock = threading.Lock()
_next_address = 0


def _claim(size: int) -> int:
    global _next_address
    with _lock:
        address = _next_address
        _next_address += -(-max(size, 1) // _PAGE) * _PAGE
    return address


class Viewable(Protocol):
    """A file that can be looked into."""

    def view(self) -> memoryview:
        """The bytes of the whole file, read-only."""
        ...


@dataclass(frozen=True)
class Reference:
    """What a tensor's `external_data` says: file name, first byte, and bytes (None: not said)."""

    location: str
    offset: int
    length: int | None
    explicit: bool = False


def _number(text: str, key: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise BadModel(f"tensor {shown(name)} has external data with {key} {shown(text)}, which is not a byte count")
    return int(text)


def reference(proto: TensorProto) -> Reference:
    """Read `external_data` of a tensor whose `data_location` is EXTERNAL.

    Raises BadModel when there is no location, a key is given twice, or a number is none.
    """
    found: dict[str, str] = {}
    for entry in proto.external_data:
        if entry.key in found:
            raise BadModel(
                f"tensor {shown(proto.name)} gives {shown(entry.key)} of its external data twice; "
                "export the model again"
            )
        found[entry.key] = entry.value
    location = found.get("location", "")
    if not isinstance(location, str) or not location:
        raise BadModel(f"tensor {shown(proto.name)} has external data but does not say in which file")
    length = found.get("length")
    return Reference(
        location,
        _number(found.get("offset", "0"), "offset", proto.name),
        None if length is None else _number(length, "length", proto.name),
        EXPLICIT in found,
    )


def refer(proto: TensorProto, location: str, offset: int, length: int) -> None:
    """Make `proto` say that its bytes are `length` bytes at `offset` of `location`."""
    del proto.external_data[:]
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = proto.external_data.add()
        entry.key, entry.value = key, value


def element_count(proto: TensorProto) -> int:
    """Number of elements that the dims say. Raises BadModel for a negative dim or an absurd product."""
    count = 1
    for dim in proto.dims:
        if dim < 0:
            raise BadModel(f"tensor {shown(proto.name)} has dimension {dim}; dimensions of a tensor are counts")
        count *= dim
    if count >= 1 << 62:
        raise BadModel(f"tensor {shown(proto.name)} says that it has {count} elements, more than can be addressed")
    return count


def byte_count(proto: TensorProto) -> int:
    """Bytes that the elements take in raw form (packed below a byte); 0 for strings.

    Raises BadModel for bad dims and for an element type that the installed onnx does not know.
    """
    return (element_count(proto) * bits(proto.data_type) + 7) // 8


class Store:
    """The payloads of one model. Maps and arrays are shared with overlays, never copied.

    `folder` is where the model's external files are, None for a model that came from memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._bases: list[int] = []
        self._sizes: list[int] = []
        self._sources: list[memoryview | Callable[[], bytes]] = []
        self._files: dict[str, Viewable] = {}
        self._added: set[int] = set()

    def hold(self, buffer: Any, size: int | None = None) -> int:
        """Take in the bytes of a whole file, or a callable that gives `size` bytes: their address."""
        source = buffer if callable(buffer) else memoryview(buffer).cast("B").toreadonly()
        length = size if size is not None else len(source)
        base = _claim(length)
        self._bases.append(base)
        self._sizes.append(length)
        self._sources.append(source)
        return base

    def add(self, buffer: Any) -> tuple[int, int]:
        """Take in new bytes (any C-contiguous buffer, not copied): their offset and length."""
        base = self.hold(buffer)
        self._added.add(base)
        return base, self._sizes[-1]

    def attach(self, location: str, file: Viewable) -> None:
        """Let references to `location` be read from `file`."""
        self._files[location] = file

    def file(self, location: str) -> Viewable:
        """The external file that references to `location` are read from. Raises KeyError."""
        return self._files[location]

    def overlay(self) -> Store:
        """A store that sees all of this one and takes additions of its own."""
        child = Store(self.folder)
        child._bases, child._sizes = list(self._bases), list(self._sizes)
        child._sources, child._files = list(self._sources), dict(self._files)
        child._added = set(self._added)
        return child

    def is_embedded(self, proto: TensorProto) -> bool:
        """Whether the values are the model file's own (or memory's), not an external file's."""
        if proto.data_location != TensorProto.EXTERNAL:
            return True
        return any(entry.key == "location" and entry.value == EMBEDDED for entry in proto.external_data)

    def holds(self, proto: TensorProto) -> bool:
        """Whether the embedded values that `proto` refers to are in this store."""
        found = reference(proto)
        return found.location == EMBEDDED and self._find(found) is not None

    def adopt(self, proto: TensorProto, other: Store) -> None:
        """Let `proto`, whose values `other` holds, refer to this store instead; no values are copied."""
        if other is self or proto.data_location != TensorProto.EXTERNAL:
            return
        if not self.holds(proto):
            payload = other.payload(proto)
            refer(proto, EMBEDDED, *self.add(payload))

    def is_added(self, proto: TensorProto) -> bool:
        """Whether the values were added in memory (`add`) and come from no file."""
        if proto.data_location != TensorProto.EXTERNAL:
            return False
        found = reference(proto)
        index = self._find(found) if found.location == EMBEDDED else None
        return index is not None and self._bases[index] in self._added

    def payload(self, proto: TensorProto) -> memoryview | None:
        """The raw little-endian bytes of a tensor, or None when they are inside `proto` itself.

        Raises BadModel when the reference leaves the file, or its length is not what dims and
        element type need; InternalError when an embedded reference is not of this store.
        """
        if proto.data_location != TensorProto.EXTERNAL:
            return None
        found = reference(proto)
        expected = byte_count(proto)
        if found.length is not None and found.length != expected:
            raise BadModel(f"tensor {shown(proto.name)} needs {expected} bytes but its data has {found.length}")
        return self._view(found, expected, proto.name)

    def later(self, proto: TensorProto) -> tuple[Callable[[], memoryview], int]:
        """The bytes that `proto` refers to, to be fetched later, and how many they are.

        As many as the reference says, whatever dims and type say; `proto` may be edited meanwhile.
        """
        found, name = reference(proto), str(proto.name)
        size = byte_count(proto) if found.length is None else found.length
        return lambda: self._view(found, size, name), size

    def _view(self, found: Reference, size: int, name: str) -> memoryview:
        if found.location == EMBEDDED:
            return self._embedded(found, size, name)
        file = self._files.get(found.location)
        if file is None:
            raise BadModel(
                f"tensor {shown(name)} names external file {shown(found.location)}, which was not read with the model"
            )
        view = file.view()
        if found.offset + size > len(view):
            raise BadModel(
                f"tensor {shown(name)} ends at byte {found.offset + size} of "
                f"{shown(found.location)}, which has {len(view)}"
            )
        return view[found.offset : found.offset + size]

    def _find(self, found: Reference) -> int | None:
        index = bisect.bisect_right(self._bases, found.offset) - 1
        if index < 0 or found.offset + (found.length or 0) > self._bases[index] + self._sizes[index]:
            return None
        return index

    def _embedded(self, found: Reference, size: int, name: str) -> memoryview:
        index = self._find(found)
        if index is None:
            raise InternalError(f"the values of tensor {shown(name)} are not in this model's store")
        source = self._sources[index]
        view = source if isinstance(source, memoryview) else memoryview(source())
        start = found.offset - self._bases[index]
        if start + size > len(view):
            raise InternalError(f"the values of tensor {shown(name)} have changed in memory")
        return view[start : start + size]
