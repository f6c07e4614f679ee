"""Which files under some folders were opened, by whatever process: told by the kernel (Linux's inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_OPEN, _OVERFLOW = 0x20, 0x4000
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_HEAD = struct.Struct("iIII")


class Watch:
    """Watches folders (each with all folders below it) or single files for openings."""

    def __init__(self, places: Iterable[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._places: dict[int, Path] = {}
        self._file = self._libc.inotify_init1(_NONBLOCK | _CLOEXEC) if sys.platform == "linux" else -1
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "there is no inotify here")
        for place in places:
            for folder in [place, *(Path(root) for root, _, _ in os.walk(place))]:
                number = self._libc.inotify_add_watch(self._file, os.fsencode(folder), _OPEN)
                if number < 0:
                    raise OSError(ctypes.get_errno(), f"cannot watch {folder}")
                self._places[number] = folder

    def opened(self) -> list[str]:
        """The files (not the folders) opened since the last call, each once, in order."""
        seen: dict[str, None] = {}
        while True:
            try:
                data = os.read(self._file, 1 << 16)
            except BlockingIOError:
                return list(seen)
            place = 0
            while place < len(data):
                number, mask, _, length = _HEAD.unpack_from(data, place)
                if mask & _OVERFLOW:
                    raise RuntimeError("more was opened than the kernel keeps in mind")
                place += _HEAD.size
                name = os.fsdecode(data[place : place + length].rstrip(b"\0"))
                place += length
                path = self._places[number] / name if name else self._places[number]
                if not path.is_dir():
                    seen[str(path)] = None

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
