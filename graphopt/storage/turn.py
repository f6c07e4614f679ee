"""Runs that put files in place in one folder do so one after the other."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait for our turn in a folder, and have it for as long as the block lasts.

    The folder itself is locked, so that nothing is left behind, whoever dies. Where folders cannot be locked
    there are no turns.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
