"""Mapped files that are read through: their pages are given back while that goes on.

A page of a mapped file that was looked at stays with the process until the system needs its memory; a model of ten
gigabytes that is read once would count as ten gigabytes. The pages of files that are only read, and of those that
share what is written with the disk, can be given back at any moment: whoever looks again finds the same bytes.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
import weakref
from contextlib import suppress

LARGE = 1 << 28
"""Bytes of maps from which on they are watched, and of resident pages at which these are given back."""

_EVERY = 0.01  # seconds between two looks
_PAGE = mmap.PAGESIZE


class _Watch:
    """All maps of this process, and a thread that looks after them where they are large."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: also in the child of a fork, where the thread is not."""
        self.lock = threading.Lock()
        self.maps: dict[int, weakref.ref[mmap.mmap]] = {}
        self.thread: threading.Thread | None = None
        self.base = 0

    def add(self, mapped: mmap.mmap) -> None:
        key = id(mapped)
        with self.lock:
            self.maps[key] = weakref.ref(mapped, lambda gone: self.forget(key, gone))
            if self.thread is None and sum(len(one) for one in self._alive()) >= LARGE and _file_pages() is not None:
                self.base = _file_pages() or 0
                self.thread = threading.Thread(target=self.run, name="graphopt-resident", daemon=True)
                self.thread.start()

    def forget(self, key: int, gone: weakref.ref[mmap.mmap]) -> None:
        if self.maps.get(key) is gone:  # no lock: it may be held by this very thread when the map goes
            self.maps.pop(key, None)

    def run(self) -> None:
        while self.goes_on():
            time.sleep(_EVERY)
            self.look()

    def look(self) -> None:
        """Give pages back where there are many of them."""
        now = _file_pages() or 0
        self.base = min(self.base, now)  # libraries: never more, or pages being read would count as such
        if (now - self.base) * _PAGE >= LARGE:
            self.give_back()

    def goes_on(self) -> bool:
        """Whether there is enough to look after; the thread ends where there is not."""
        with self.lock:
            if sum(len(one) for one in self._alive()) >= LARGE:
                return True
            self.thread = None
            return False

    def give_back(self) -> None:
        for one in self._alive():
            with suppress(ValueError, OSError):  # closed meanwhile; a system that does not do it
                one.madvise(mmap.MADV_DONTNEED)

    def _alive(self) -> list[mmap.mmap]:
        found = [one() for one in list(self.maps.values())]
        return [one for one in found if one is not None and not one.closed]


def _file_pages() -> int | None:
    """Resident pages of files that this process has mapped; None where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  (a hundred times a second)
            return int(file.read().split()[2])
    except (OSError, ValueError, IndexError):
        return None


_watch = _Watch()
os.register_at_fork(after_in_child=_watch.reset)


def watch(mapped: mmap.mmap) -> mmap.mmap:
    """Look after a map that is read-only or shared with its file, as long as it is there: the map itself."""
    if hasattr(mapped, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
        _watch.add(mapped)
    return mapped


def look() -> None:
    """Give pages back now where there are many of them: for loops that read faster than a thread looks."""
    if _watch.thread is not None:
        _watch.look()
