"""Writing files in chunks, and reading them back to compare with what was meant."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from graphopt.errors import InternalError
from graphopt.ir.resident import look
from graphopt.ir.wording import shown
from graphopt.storage.external import open_regular
from graphopt.storage.walk import Piece

CHUNK = 4 << 20
_BUFFER = 1 << 20

Content = Callable[[], Iterable[Piece]]
"""Gives the pieces of a file, as often as it is asked."""


def write_file(path: Path, content: Content) -> int:
    """Write the new file `path`, to the disk, and read it back: its size in bytes.

    Large pieces go to the file in chunks and are never copied whole. Raises OSError (also when
    `path` exists), and InternalError when the file does not hold what was written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    size = 0
    with os.fdopen(os.open(path, flags, 0o666), "wb", buffering=_BUFFER) as file:
        for chunk in _chunks(content()):
            file.write(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if not holds(path, content()):
        raise InternalError(
            f"{shown(path.name)} does not read back as it was written; the disk or memory may be faulty"
        )
    return size


def _chunks(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        if len(piece) <= CHUNK:
            yield piece
            continue
        view = memoryview(piece)
        for start in range(0, len(view), CHUNK):
            yield view[start : start + CHUNK]
            look()


def holds(path: Path, pieces: Iterable[Piece]) -> bool:
    """Whether the file `path` holds exactly `pieces`. Raises OSError."""
    found = bytearray(CHUNK)
    with io.BufferedReader(io.FileIO(open_regular(path), "rb"), _BUFFER) as file:
        for chunk in _chunks(pieces):
            with memoryview(found) as room:
                count = file.readinto(room[: len(chunk)])
            if count != len(chunk) or not found.startswith(chunk):  # a plain memcmp; == is not
                return False
        return not file.read(1)


def contents(path: Path) -> Iterator[Piece]:
    """The bytes of a regular file in chunks. Raises OSError."""
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def same_content(path: Path, other: Path) -> bool:
    """Whether `path` is a regular file, no link, with the bytes of the file `other`."""
    try:
        return path.lstat().st_size == other.stat().st_size and holds(path, contents(other))
    except OSError:
        return False


def digest(path: Path) -> str:
    """SHA-256 (hex) of a regular file. Raises OSError."""
    sha = hashlib.sha256()
    for chunk in contents(path):
        sha.update(chunk)
    return sha.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
