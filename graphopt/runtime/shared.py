"""Arrays between the two processes: anonymous shared memory, handed over by file descriptor.

Nothing here has a name, so there is nothing to unlink: the memory goes when the last of the two
processes closes it, however they end. Sending costs one copy (a `pwrite`, which on fresh pages
is faster than writing through a mapping); receiving costs none.

A parcel's small arrays share one block that is kept for the next parcel; an array of at least
`own` bytes gets a block of its own, so that the receiver can keep it and drop its neighbours.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import Final

import numpy as np

from graphopt.runtime.elements import Array
from graphopt.runtime.transport import Closed, Message

KEEP_INPUTS: Final = 1 << 26  # bytes of shared memory that stay between two runs
KEEP_OUTPUTS: Final = 1 << 23
OWN: Final = 1 << 20  # an output this large gets a block of its own

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED: Final = ctypes.c_void_p(-1).value

_ALIGNMENT: Final = 64  # what onnxruntime's own allocator gives
_SMALLEST: Final = 1 << 16
_MOST_OWN: Final = 64


def anonymous_file(size: int) -> int:
    """A descriptor of `size` bytes of shared memory without a name (a deleted file off Linux)."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("graphopt", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, size)
    return file


def file_of(data: bytes) -> int:
    """A descriptor of shared memory that holds `data`. Raises OSError when there is none left."""
    file = anonymous_file(0)
    try:
        _write(file, 0, np.frombuffer(data, np.uint8))
    except BaseException:
        os.close(file)
        raise
    return file


class Layout:
    """What one parcel will hold, and where; nothing is written yet."""

    def __init__(self, own: int | None = None) -> None:
        self._own = own
        self.common = 0
        self.owned: list[int] = []
        self.pieces: list[tuple[int, int, Array]] = []

    def add(self, piece: Array, reserve: int = 0) -> list[int]:
        """Plan for `piece`; returns `[block, offset, bytes]`. At least `reserve` bytes are set aside."""
        size = max(piece.nbytes, reserve)
        if self._own is not None and size >= self._own and len(self.owned) < _MOST_OWN:
            self.owned.append(size)
            place = (len(self.owned), 0)
        else:
            place = (0, self.common)
            self.common += -(-size // _ALIGNMENT) * _ALIGNMENT
        if piece.nbytes:
            self.pieces.append((*place, piece))
        return [*place, piece.nbytes]

    @property
    def bytes(self) -> int:
        """Shared memory that the parcel takes."""
        return self.common + sum(self.owned)


class Outbox:
    """The sending end. `keep`: bytes of the common block that are kept between parcels."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._file = -1
        self._size = 0

    def write(self, layout: Layout) -> tuple[Message, list[int], list[int]]:
        """Copy the pieces into shared memory.

        Returns what the receiver must be told, the descriptors to send, and those of them that
        the sender must close afterwards. Raises OSError when there is no memory for it.
        """
        owned: list[int] = []
        try:
            return self._write(layout, owned)
        except BaseException:
            for each in owned:
                os.close(each)
            self.close()  # the receiver has not been told of it
            raise

    def _write(self, layout: Layout, owned: list[int]) -> tuple[Message, list[int], list[int]]:
        fresh = layout.common > self._size
        if fresh:
            self.close()
            self._size = max(_SMALLEST, 1 << (layout.common - 1).bit_length())
            self._file = anonymous_file(self._size)
        elif self._size > self._keep:
            os.ftruncate(self._file, self._size)  # `trim` gave the pages back
        owned.extend(map(anonymous_file, layout.owned))
        for block, offset, piece in layout.pieces:
            _write(owned[block - 1] if block else self._file, offset, piece)
        told = {"common": self._size if fresh else 0, "owned": layout.owned}
        return told, ([self._file] if fresh else []) + owned, owned

    def trim(self) -> None:
        """After the receiver has read it: give back the pages of a common block larger than `keep`.

        Only for a receiver that does not seal; the other kind keeps what it has mapped.
        """
        if self._size > self._keep:
            os.ftruncate(self._file, 0)

    def renew(self) -> None:
        """After sending: leave a common block larger than `keep` to the receiver, and start another."""
        if self._size > self._keep:
            self.close()

    def close(self) -> None:
        """Forget the common block; the next parcel makes another."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._size = -1, 0


class Parcel:
    """A received parcel: block 0, used again for later parcels, and the blocks of single arrays."""

    def __init__(self, blocks: list[Array]) -> None:
        self._blocks = blocks

    def bytes_at(self, place: Sequence[int]) -> Array:
        """A uint8 view of the bytes at `[block, offset, bytes]`. Raises Closed when outside."""
        block, offset, size = place
        if not 0 <= block < len(self._blocks) or not 0 <= offset <= offset + size <= len(self._blocks[block]):
            raise Closed("an array outside its block")
        return self._blocks[block][offset : offset + size]

    def is_common(self, piece: Array) -> bool:
        """Whether `piece` lies in the block that later parcels overwrite."""
        return bool(np.may_share_memory(piece, self._blocks[0]))


class Inbox:
    """The receiving end: keeps the common block mapped between parcels.

    sealing: whether to take from the sender the power to shrink what it sent, because reading it
    would then end this process (SIGBUS). keep: bytes of the common block that are kept, the
    sender's own figure where it uses `renew`; None, without a limit, where it uses `trim`.
    """

    def __init__(self, *, sealing: bool, keep: int | None) -> None:
        self._sealing = sealing
        self._keep = keep
        self._common = np.empty(0, np.uint8)

    def open(self, told: Message, files: Sequence[int]) -> Parcel:
        """Map what came; closes `files`. Raises Closed when it is not what was told."""
        sizes = ([told["common"]] if told["common"] else []) + list(told["owned"])
        try:
            if len(sizes) != len(files):
                raise Closed("blocks are missing")
            maps = [self._map(file, size) for file, size in zip(files, sizes, strict=True)]
        finally:
            for file in files:
                os.close(file)
        common = maps.pop(0) if told["common"] else self._common
        kept = self._keep is None or common.size <= self._keep
        self._common = common if kept else np.empty(0, np.uint8)
        return Parcel([common, *maps])

    def close(self) -> None:
        """Drop the common block."""
        self._common = np.empty(0, np.uint8)

    def _map(self, file: int, size: int) -> Array:
        try:
            if self._sealing and hasattr(fcntl, "F_ADD_SEALS"):
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
            if size <= 0 or os.fstat(file).st_size < size:
                raise Closed("a block shorter than told")
            return _mapped(file, size)
        except OSError as error:
            raise Closed(str(error)) from error


def _write(file: int, offset: int, piece: Array) -> None:
    if piece.flags.c_contiguous:
        view = piece.reshape(-1).view(np.uint8).data
        while view:
            count = os.pwrite(file, view, offset)
            view, offset = view[count:], offset + count
    else:
        target = _mapped(file, offset + piece.nbytes)[offset:]
        np.copyto(target.view(piece.dtype).reshape(piece.shape), piece)


def _mapped(file: int, size: int) -> Array:
    """The first `size` bytes of `file`, writable; the mapping goes with the last array on it."""
    return np.asarray(_Mapping(file, size))


class _Mapping:
    """A shared mapping. Python's own keeps a descriptor open for each; a user may keep a thousand results."""

    def __init__(self, file: int, size: int) -> None:
        self._size, self._unmap = size, _libc.munmap  # by then the module may be gone
        both = mmap.PROT_READ | mmap.PROT_WRITE
        self._address = _libc.mmap(None, size, both, mmap.MAP_SHARED, file, 0)
        if self._address in (None, _FAILED):
            self._address = None
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (self._address, False), "version": 3}

    def __del__(self) -> None:
        if self._address is not None:
            self._unmap(self._address, self._size)
