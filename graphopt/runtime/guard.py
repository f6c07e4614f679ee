"""What the worker does to itself before it touches a model: it dies with its parent, within limits."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_F_SETSIG: Final = 10


def die_with_parent(lifeline: int, parent: int, main_thread: bool) -> None:
    """Arrange that the kernel kills this process when its parent ends, however it ends.

    lifeline: the read end of a pipe whose write end only the parent holds. The kernel signals
    its closing, whatever this process is busy with. parent: its process id. main_thread:
    whether the parent's main thread started this process; PR_SET_PDEATHSIG goes by the end of
    the *thread* that did, so it is set only then. It covers a parent that has forked, whose
    other children hold copies of the pipe.
    """
    with contextlib.suppress(OSError, AttributeError):  # not every system has all of this
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        if sys.platform == "linux":
            # SIGIO, the default, could be handled or blocked by a custom operator library.
            fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if sys.platform == "linux" and main_thread:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):  # it ended before any of this
        os._exit(1)


def be_modest() -> None:
    """No core files, no interrupts from the keyboard, and first choice when the machine lacks memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def limit_memory(allowance: int) -> int | None:
    """Let this process have `allowance` bytes of private writable memory more than it has now.

    RLIMIT_DATA counts what a model costs: the heap, anonymous mappings as they are reserved, and
    external weights, which onnxruntime maps privately. (RLIMIT_AS would also count libraries and
    the shared memory of feeds; RLIMIT_RSS does nothing on Linux.) An allocation above it fails,
    which onnxruntime reports. Returns the limit in bytes, or None where the system has none.
    """
    now = private_bytes()
    if now is None:
        return None
    limit = now + allowance
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    except (OSError, ValueError):
        return None
    return limit


def private_bytes() -> int | None:
    """What RLIMIT_DATA counts, for this process; None where /proc does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return None


def release_memory() -> None:
    """Give freed heap back to the system; glibc keeps tens of megabytes otherwise."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
