"""Hidden files and folders, in which something is made complete before anybody sees it.

They are on the target's file system, so that they can be renamed into place. Their owner holds a lock on a file;
those of runs that died are found by their lock and process number and are removed by the next run in the same folder.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import secrets
import shutil
import weakref
from contextlib import suppress
from pathlib import Path, PurePosixPath

from graphopt.stopping import held
from graphopt.storage.mentions import mentioned
from graphopt.storage.turn import turn

_NAME = re.compile(r"(\.graphopt-(\d+)-[0-9a-f]{16})(\.onnx|\.partial)?")
_NOTES = "placed"
_ATTEMPTS = 3  # at removing: a disk may refuse once


def hidden_name() -> str:
    """A new name, `.graphopt-<process>-<random>`."""
    return f".graphopt-{os.getpid()}-{secrets.token_hex(8)}"


class Hidden:
    """A new folder of that name; `files` in it is for the model. Raises OSError.

    `beside` is a path for a model that must stand in the target's folder itself, because its
    external data is there: readers follow no links to external data, hard ones included. What nobody
    has removed goes when the program ends.
    """

    def __init__(self, folder: Path) -> None:
        sweep(folder)
        self.path = folder / hidden_name()
        self.files = self.path / "files"
        self.beside = self.path.with_name(self.path.name + ".onnx")
        with held():
            self.path.mkdir(0o700)
            self._lock = -1
            try:
                self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                hold(self._lock)
                self.files.mkdir(0o700)
            except BaseException:
                _clear(self.path, self.beside, self._lock, os.getpid())
                raise
            self._end = weakref.finalize(self, _clear, self.path, self.beside, self._lock, os.getpid())

    def note(self, place: PurePosixPath, file: Path) -> None:
        """Note that `file` is about to be put in place before its model is, or belongs to the model that is about to be
        replaced: should we die, the next run removes it unless a model names it."""
        status = file.stat()
        with (self.path / _NOTES).open("a") as notes:
            notes.write(json.dumps([str(place), status.st_dev, status.st_ino]) + "\n")

    def remove(self) -> None:
        """Remove the folder and all in it; links in it are not followed. What cannot be removed is left."""
        with held():
            self._end()


class Partial:
    """A new file of such a name, open for writing as `stream`; it becomes `place`, or goes. Raises OSError."""

    def __init__(self, place: Path) -> None:
        sweep(place.parent)
        self._place = place
        self.path = place.parent / f"{hidden_name()}.partial"
        with held():
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self.path, flags, 0o600)
            self._end = weakref.finalize(self, _clear, None, self.path, -1, os.getpid())
            try:
                hold(descriptor)
                self.stream = os.fdopen(descriptor, "w+b")
            except BaseException:
                os.close(descriptor)
                raise

    def settle(self, mode: int, durable: bool = True) -> None:
        """Put it in place, with these permissions: a reader finds the old file or the new one. A `durable` one does
        so after the machine lost its power, too."""
        self.stream.flush()
        if durable:
            os.fsync(self.stream.fileno())
        self.path.chmod(mode)
        with held():
            self.path.replace(self._place)
            self._end.detach()
        with suppress(OSError):  # all of it is on the disk
            self.stream.close()

    def remove(self) -> None:
        """Take it away, unless it is in place."""
        with held():
            with suppress(OSError):
                self.stream.close()
            self._end()


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it; what cannot be removed is left."""
    for _ in range(_ATTEMPTS):
        with suppress(MemoryError, OSError):  # which it does not ignore all of
            shutil.rmtree(path, ignore_errors=True)  # refuses links
            if not os.path.lexists(path):
                return


def remove_file(path: Path) -> bool:
    """Remove a file; False when it cannot be removed."""
    for _ in range(_ATTEMPTS):
        try:
            path.unlink(missing_ok=True)
        except (OSError, MemoryError):
            continue
        return True
    return False


def is_hidden(name: str) -> bool:
    """Whether this is a name that hidden files and folders have."""
    return _NAME.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Remove the hidden folders (and files) of runs that are no more. What cannot be removed is left."""
    try:
        with os.scandir(folder) as entries:
            matches = [_NAME.fullmatch(entry.name) for entry in entries if entry.name.startswith(".graphopt-")]
    except OSError:
        return
    for match in sorted(filter(None, matches), key=lambda match: match[0], reverse=True):
        path = folder / match[0]
        lock = path if match[3] == ".partial" else folder / match[1] / "lock"
        if not dead(path, int(match[2]), lock):
            continue
        if match[3]:
            with suppress(OSError):
                path.unlink()
        else:
            with suppress(OSError, ValueError):
                _take_back(path / _NOTES, folder)
            remove_tree(path)


def _take_back(notes: Path, folder: Path) -> None:
    """Remove what a run that died has noted and no model names: what it had put in place before its model, or the data
    of the one that it had replaced. Raises OSError and ValueError."""
    for line in notes.read_text().splitlines():
        name, device, inode = json.loads(line)
        placed = folder / name
        with turn(folder), suppress(FileNotFoundError):
            status = placed.lstat()
            if (status.st_dev, status.st_ino) == (device, inode) and not mentioned(placed):
                placed.unlink()


def _clear(folder: Path | None, file: Path, lock: int, process: int) -> None:
    if os.getpid() != process:  # a fork of the process whose they are
        return
    if lock >= 0:  # first: listing a folder takes descriptors, and there may be no more
        with suppress(OSError):
            os.close(lock)
    remove_file(file)
    if folder is not None:
        remove_tree(folder)
        if os.path.lexists(folder):
            atexit.register(remove_tree, folder)  # when what holds descriptors now is closed


def dead(found: Path, process: int | None, lock: Path | None = None) -> bool:
    """Whether nobody holds the lock, its own unless another is named, and no process has the number: either alone can
    mislead, the number in another container and the lock between making a folder and locking it. The lock alone tells
    where there is no number."""
    lock = found if lock is None else lock
    try:
        if found.lstat().st_uid != os.geteuid() or (process is not None and _runs(process)):
            return False
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return hold(descriptor)
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


def hold(descriptor: int) -> bool:
    """Lock an open file unless somebody else has; where files cannot be locked, say nobody could."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
