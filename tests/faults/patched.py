"""The interposer's work without a compiler: what Python itself tells its audit hooks, and some functions of `os`.

It sees every file that is opened, renamed, linked or removed, every folder, map, child and fsync; not
what `io` writes and reads once a file is open, nor allocations, nor what C libraries do by themselves.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from interposer import ENTRIES, FAIL, KINDS, SHORT, SIGNAL, TEXT, Shared

_EVENTS = {
    "open": "open",
    "os.rename": "name",
    "os.remove": "name",
    "os.rmdir": "name",
    "os.link": "name",
    "os.symlink": "name",
    "os.mkdir": "mkdir",
    "os.chmod": "mode",
    "os.truncate": "ftruncate",
    "os.listdir": "list",
    "os.scandir": "list",
    "mmap.__new__": "mmap",
}
_FUNCTIONS = {
    "fsync": "fsync",
    "read": "read",
    "pread": "read",
    "write": "write",
    "pwrite": "write",
    "ftruncate": "ftruncate",
    "stat": "look",
    "lstat": "look",
    "memfd_create": "start",
    "pipe": "start",
    "fork": "start",
}
_USUAL = {
    "open": errno.EMFILE,
    "list": errno.EMFILE,
    "start": errno.EMFILE,
    "write": errno.ENOSPC,
    "mkdir": errno.ENOSPC,
    "ftruncate": errno.ENOSPC,
    "name": errno.EACCES,
    "mode": errno.EPERM,
    "mmap": errno.ENOMEM,
}


class Patched:
    """What `ctypes.CDLL` of the interposer is, in Python."""

    def __init__(self) -> None:
        room = mmap.mmap(-1, ctypes.sizeof(Shared))
        self._seen = Shared.from_buffer(room)
        self._spec = (0, -1, 0, 0, 0, 0, 0)
        self._process = 0
        sys.addaudithook(self._heard)
        for name, kind in _FUNCTIONS.items():
            if hasattr(os, name):
                setattr(os, name, self._around(getattr(os, name), name, kind))
        socket.socketpair = self._around(socket.socketpair, "socketpair", "start")

    def faults_setup(self) -> Any:
        return ctypes.pointer(self._seen)

    def faults_arm(self, *spec: Any) -> None:
        self._seen.sites = self._seen.fired = self._seen.named_memory = self._seen.entries = 0
        self._spec = tuple(int(getattr(one, "value", one)) for one in spec)  # type: ignore[assignment]
        self._process = os.getpid()

    def faults_disarm(self) -> None:
        self._process = 0

    def _around(self, real: Callable[..., Any], name: str, kind: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._process and self._spec[4] == SHORT:
                if name in ("write", "pwrite") and self._struck(kind, name, arguments) and len(arguments[1]) > 1:
                    arguments = (arguments[0], memoryview(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
            else:
                self._strike(kind, name, arguments)
            return real(*arguments, **options)

        return call

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        kind = _EVENTS.get(event)
        if kind is None or not self._process:
            return
        if event == "open" and str(arguments[0]).startswith("/dev/shm/"):
            self._seen.named_memory += 1
        if self._spec[4] != SHORT:
            self._strike(kind, event, arguments)

    def _strike(self, kind: str, name: str, arguments: tuple[Any, ...]) -> None:
        if self._struck(kind, name, arguments) and self._spec[4] == FAIL:
            number = self._spec[2] or _USUAL.get(kind, errno.EIO)
            raise OSError(number, os.strerror(number), *[one for one in arguments[:1] if isinstance(one, str)])

    def _struck(self, kind: str, name: str, arguments: tuple[Any, ...]) -> bool:
        mask, at, error, on, action, _, log = self._spec
        if self._process != os.getpid() or not mask & KINDS[kind]:
            return False
        number, self._seen.sites = self._seen.sites, self._seen.sites + 1
        hit = number == at or bool(on and 0 <= at < number)
        if (log or number == at) and self._seen.entries < ENTRIES:
            self._seen.log[self._seen.entries].value = f"{name} {arguments[:1]}".encode()[: TEXT - 1]
            self._seen.entries += 1
        if hit:
            self._seen.fired += 1
            if action == SIGNAL:
                signal.raise_signal(error)
        return hit
