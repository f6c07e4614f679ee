"""Large arrays that a run makes: in files without a name, so that they do not add up in memory.

Within `shelving(folder)`, values that constants are given go to files in that folder once there is more of them than
is kept in memory. The files have no names and are gone when nobody looks at the arrays any more, however the
process ends. The arrays are mapped: numpy sees no difference. Elements narrower than a byte lie there packed.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphopt.errors import OverLimit
from graphopt.ir.dtypes import Array, bits, from_bytes, onnx_dtype, pack
from graphopt.ir.resident import look, watch
from graphopt.ir.wording import shown_path

KEPT = 1 << 28
"""Bytes of new values that stay in memory."""

_SMALL = 1 << 16  # bytes of an array that always stays in memory
_SCRATCH = 1 << 26  # bytes of an array to be filled that lies in a file from the start
_SEGMENT = 1 << 26  # bytes of the first file; each next one takes an eighth of all before, if that is more


class Shelf:
    """Files in one folder, and what is left of the bytes that may stay in memory."""

    def __init__(self, folder: Path, kept: int) -> None:
        self.folder, self.left = folder, kept
        self._segment: mmap.mmap | None = None
        self._end = self._total = 0

    def takes(self, size: int) -> bool:
        """Whether an array of so many bytes belongs here; counts it against what stays in memory if not."""
        if size < _SMALL:
            return False
        if size <= self.left:
            self.left -= size
            return False
        return True

    def room(self, size: int) -> memoryview:
        """So many new bytes, all zero. Raises OverLimit where the disk has no room for them."""
        look()
        start = -(-self._end // _SMALL) * _SMALL
        if self._segment is None or start + size > len(self._segment):
            wanted = max(_SEGMENT, self._total // 8)
            made = self._file(max(size, wanted))
            if size > wanted // 2:  # to itself, so that it can go by itself; the others stay together
                return memoryview(made)[:size]
            self._segment, start = made, 0
        self._end = start + size
        return memoryview(self._segment)[start : start + size]

    def _file(self, size: int) -> mmap.mmap:
        try:
            with tempfile.TemporaryFile(dir=self.folder, buffering=0) as file:
                allocate(file.fileno(), size)
                self._total += size
                return watch(mmap.mmap(file.fileno(), size))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.EACCES):
                raise
            reason = os.strerror(error.errno).lower()
            raise OverLimit(
                f"no room for {size} bytes of new weights in {shown_path(self.folder)} ({reason}); make room or choose "
                "an output in another folder, nothing was changed"
            ) from None


def allocate(descriptor: int, size: int) -> None:
    """Give an open file `size` bytes that are really there, so that writing to them cannot fail. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    zeros = bytes(1 << 20)
    left = size
    while left:
        left -= os.write(descriptor, zeros[: min(len(zeros), left)])


_shelf: ContextVar[Shelf | None] = ContextVar("shelf", default=None)


@contextmanager
def shelving(folder: Path, kept: int | None = None) -> Iterator[None]:
    """Let new values go to files in `folder` once there are more than `kept` bytes (KEPT) of them."""
    token = _shelf.set(Shelf(folder, KEPT if kept is None else kept))
    try:
        yield
    finally:
        _shelf.reset(token)


def scratch(shape: tuple[int, ...], dtype: Any) -> Array:
    """A new array to be filled and stored, for results as large as a weight: in a file where it is large."""
    shelf, dtype = _shelf.get(), np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if shelf is None or dtype.kind == "O" or size < _SCRATCH:
        return np.empty(shape, dtype)
    return np.frombuffer(shelf.room(size), dtype).reshape(shape)


def shelved(values: Array) -> Array | Shelved:
    """`values`, or where they lie when they do not stay in memory: read-only then."""
    shelf = _shelf.get()
    if shelf is None or values.nbytes < _SMALL or values.dtype.kind in "OUST" or values.dtype.byteorder == ">":
        return values
    narrow = bits(onnx_dtype(values.dtype)) % 8 != 0
    if not narrow and values.flags.c_contiguous and is_mapped(values):
        return _locked(values)
    if not is_mapped(values) and not shelf.takes(values.nbytes):
        return values
    return _packed(shelf, values) if narrow else _copied(shelf, values)


def _copied(shelf: Shelf, values: Array) -> Array:
    made = np.frombuffer(shelf.room(values.nbytes), values.dtype).reshape(values.shape)
    made[...] = values
    return _locked(made)


def _packed(shelf: Shelf, values: Array) -> Shelved:
    width = bits(onnx_dtype(values.dtype))
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    room = shelf.room((flat.size * width + 7) // 8)
    np.frombuffer(room, np.uint8)[:] = pack(flat, width)
    return Shelved(room.toreadonly(), values.dtype, values.shape)


def _locked(values: Array) -> Array:
    values = values.view()
    values.flags.writeable = False
    return values


class Shelved(LazyValues):
    """Values of elements narrower than a byte that lie packed in a file: `data` are the bytes, as a model has them."""

    def __init__(self, data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.data, self.dtype, self.shape = data, dtype, shape

    @property
    def onnx_dtype(self) -> int:
        """ONNX's number of the element type."""
        return onnx_dtype(self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that the values take in a file."""
        return len(self.data)

    def load(self) -> Array:
        """The values, one a byte."""
        made = from_bytes(self.data, self.onnx_dtype, math.prod(self.shape)).reshape(self.shape)
        made.flags.writeable = False
        return made

    def __repr__(self) -> str:
        return f"Shelved(shape={list(self.shape)}, dtype={self.dtype})"

    __str__ = __repr__


def is_mapped(values: Array) -> bool:
    """Whether an array looks into a mapped file, so that it takes no memory of its own."""
    owner: Any = values
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner.obj if isinstance(owner, memoryview) else owner, mmap.mmap)
