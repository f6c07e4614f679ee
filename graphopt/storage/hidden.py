"""A hidden folder next to the target, in which a model is made complete before anybody sees it.

It is on the target's file system, so that its files can be renamed into place. Its owner holds a
lock on a file in it; folders of runs that died are found by their lock and process number and are
removed by the next run in the same folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"(\.graphopt-(\d+)-[0-9a-f]{16})(\.onnx)?")


class Hidden:
    """A new folder `.graphopt-<process>-<random>`; `files` in it is for the model. Raises OSError.

    `beside` is a path for a model that must stand in the target's folder itself, because its
    external data is there: readers follow no links to external data, hard ones included.
    """

    def __init__(self, folder: Path) -> None:
        sweep(folder)
        self.path = folder / f".graphopt-{os.getpid()}-{secrets.token_hex(8)}"
        self.files = self.path / "files"
        self.beside = self.path.with_name(self.path.name + ".onnx")
        self._lock = -1
        self.path.mkdir(0o700)
        try:
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            _try_lock(self._lock)
            self.files.mkdir(0o700)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the folder and all in it; links in it are not followed."""
        self.beside.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep(folder: Path) -> None:
    """Remove the hidden folders (and files) of runs that are no more. What cannot be removed is left."""
    try:
        matches = [_NAME.fullmatch(entry.name) for entry in os.scandir(folder)]
    except OSError:
        return
    for match in sorted(filter(None, matches), key=lambda match: match[0], reverse=True):
        path = folder / match[0]
        if not _is_dead(path, folder / match[1], int(match[2])):
            continue
        if match[3]:
            with suppress(OSError):
                path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)  # refuses links


def _is_dead(found: Path, path: Path, process: int) -> bool:
    """Whether nobody holds the lock in folder `path` and no process has the number: either alone can
    mislead, the number in another container and the lock between making a folder and locking it."""
    try:
        if found.lstat().st_uid != os.geteuid() or _runs(process):
            return False
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _runs(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _try_lock(descriptor: int) -> bool:
    """Lock an open file unless somebody else has; where files cannot be locked, say nobody could."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
