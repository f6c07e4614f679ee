"""Builds and arms the interposer: one call into the C library that fails, or at which a signal arrives.

It reaches what no patch in Python reaches: the writes of `io`, numpy's files, allocations, the maps of
C libraries. What needs it is skipped, with the reason, where there is no C compiler or no Linux;
`patched` is the layer in Python that runs everywhere.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

KINDS = {
    "open": 1,
    "read": 2,
    "write": 4,
    "fsync": 8,
    "name": 16,  # rename, link, unlink, rmdir
    "mkdir": 32,
    "mmap": 64,
    "ftruncate": 128,
    "allocate": 256,
    "mode": 512,  # chmod, flock
    "look": 1024,  # stat and its family
    "close": 2048,
    "talk": 4096,  # sockets and pipes: to the worker, and to the terminal
    "list": 8192,
    "start": 16384,  # memfd, pipe, socketpair, fork
}
FAIL, SHORT, SIGNAL = 0, 1, 2
ENTRIES, TEXT = 4096, 160


class Shared(ctypes.Structure):
    """What the armed process leaves for the one that watches it."""

    _fields_ = (
        ("sites", ctypes.c_long),
        ("fired", ctypes.c_long),
        ("named_memory", ctypes.c_long),
        ("entries", ctypes.c_long),
        ("log", (ctypes.c_char * TEXT) * ENTRIES),
    )


@functools.cache
def why_not() -> str | None:
    """Why there can be no interposer here."""
    if sys.platform != "linux":
        return "calls into the C library are intercepted on Linux only"
    if shutil.which("cc") is None:
        return "there is no C compiler (cc) to build the interposer with"
    return None if library().is_file() else "the interposer cannot be built here"


@functools.cache
def library() -> Path:
    """The built library, kept in the temporary folder under a hash of its source."""
    source = HERE / "interposer.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"faults-interposer-{os.getuid()}-{digest}.so"
    if not built.is_file():
        part = built.with_name(f"{built.name}.{os.getpid()}")
        command = ["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(part), str(source), "-ldl"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            part.replace(built)
    return built


def mask(*kinds: str) -> int:
    """The number that stands for some kinds of calls."""
    return sum(KINDS[kind] for kind in kinds)


def environment(spec: tuple[int, ...], child: tuple[int, ...] | None = None) -> dict[str, str]:
    """What arms a program from its first call on (see `faults_arm` in interposer.c), and its children."""
    found = {"LD_PRELOAD": str(library()), "FAULTS": ",".join(map(str, spec))}
    if child is not None:
        found["FAULTS_CHILD"] = ",".join(map(str, child))
    return found
