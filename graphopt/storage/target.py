"""Where a model is written to: what may be replaced, and what never is."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graphopt.errors import GraphoptError, OverLimit, Unsafe, UsageError
from graphopt.ir.wording import shown, shown_path
from graphopt.storage.refused import is_full, is_scarce, why
from graphopt.storage.source import Source


@dataclass(frozen=True)
class Target:
    """A place for a model: `asked` is the user's path, `path` the file itself (links followed).

    `mode` is the permissions of the file that will be replaced, None when there is none.
    """

    asked: Path
    path: Path
    mode: int | None

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def through_link(self) -> bool:
        """Whether a reader of `asked` would look for external data in another folder than `folder`."""
        return Path(os.path.realpath(self.asked.parent)) != self.folder


def aim(target: Path, source: Source | None, in_place: bool) -> Target:
    """Resolve and check the path to write to. A link is followed: the file it names is replaced.

    Raises UsageError for a path that cannot be written, or that is the input without `in_place`;
    Unsafe for a file that holds the input's external data.
    """
    what = shown_path(target)
    try:
        path = Path(os.path.realpath(target))
        status = _status(path)
        parent = _status(path.parent)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not a file name"
        raise UsageError(f"cannot write {what} ({reason})") from None
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise UsageError(f"cannot write {what}: it is a directory; name a file in it")
    if parent is None or not stat.S_ISDIR(parent.st_mode):
        raise UsageError(f"cannot write {what}: there is no folder {shown_path(path.parent)}; create it first")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise UsageError(f"cannot write {what}: it is not a regular file")
    if source is not None:
        _spare(path, status, source, in_place, what)
    if not _may_write(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {what}: no permission to write in {shown_path(path.parent)}")
    if status is not None and not _may_write(path, os.W_OK):
        raise UsageError(f"cannot write {what}: the file is write-protected")
    return Target(target, path, None if status is None else stat.S_IMODE(status.st_mode) & 0o777)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _may_write(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _spare(path: Path, status: os.stat_result | None, source: Source, in_place: bool, what: str) -> None:
    identity = None if status is None else (status.st_dev, status.st_ino)
    for file in source.external:
        if identity == file.identity or path == file.path:
            raise Unsafe(
                f"{what} holds external data of the input (its {shown(file.location)}); "
                "writing there would destroy it, choose another output"
            )
    if in_place or source.path is None:
        return
    if (identity is not None and identity == source.identity) or path == Path(os.path.realpath(source.path)):
        raise UsageError(f"{what} is the input itself; choose another output, or say --in-place to replace it")


def check_room(target: Target, size: int) -> None:
    """Raise OverLimit when the disk has no room for `size` more bytes beside what is there; an old file is kept
    until the new one is whole."""
    try:
        free = shutil.disk_usage(target.folder).free
    except OSError:
        return  # the system does not say
    if size > free:
        raise OverLimit(
            f"cannot write {shown_path(target.asked)}: it takes {size} bytes and the disk has room for {free}; make "
            "room or choose another output, nothing was changed"
        )


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turn an operating system's error while writing `what` into one sentence."""
    try:
        yield
    except OSError as error:
        raise failure(what, error) from None


def failure(what: Path, error: OSError) -> GraphoptError:
    """The sentence for an error of the operating system while writing `what`."""
    name = shown_path(what)
    if is_full(error):
        return OverLimit(f"cannot write {name}: {why(error)}; make room or choose another output, nothing was changed")
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"cannot write {name}: permission denied; nothing was changed")
    kind = OverLimit if is_scarce(error) else UsageError
    return kind(f"cannot write {name}: {why(error)}; nothing was changed")
