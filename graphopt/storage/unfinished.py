"""A folder that fills up file by file, marked until it is whole: what a run that was killed has left in it can be told
from what is anybody else's, and is cleared by the next."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from graphopt.errors import UsageError
from graphopt.stopping import held
from graphopt.storage.hidden import dead, hold, is_hidden, remove_file, sweep

MARK: Final = ".graphopt-unfinished"
_KINDS: Final = (".txt", ".onnx")
_MOST: Final = 1 << 20  # characters of a mark that are read


class Unfinished:
    """The mark of a folder that is being filled, which is made where it is not there. Raises OSError; UsageError where
    the folder holds anything but what a run that is no more has left."""

    def __init__(self, folder: Path, flag: str) -> None:
        check_fillable(folder, flag)
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        self._mark = folder / MARK
        with held():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self._mark, flags, 0o600)
            try:
                hold(self._file)
                os.write(self._file, f"{os.getpid()}\n".encode())
            except BaseException:
                self.finish()
                raise

    def begin(self, stem: str) -> None:
        """Note that files of this stem, `STEM.txt`, `STEM.onnx` and data beside that, are about to be written."""
        os.write(self._file, f"{stem}\n".encode())

    def finish(self) -> None:
        """Take the mark away: what is in the folder is the user's from now on."""
        with held():
            if self._file >= 0:
                remove_file(self._mark)
                self.leave()

    def leave(self) -> None:
        """Leave the mark to the next run."""
        with held(), suppress(OSError):
            file, self._file = self._file, -1
            if file >= 0:
                os.close(file)


def check_fillable(folder: Path, flag: str) -> None:
    """Raises UsageError when `folder`, the value of `flag`, is a file, or holds anything but what a run that is no more
    has left unfinished."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{flag} {folder}: this is a file; name a folder that is empty or does not exist")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    found = _marked(folder)
    if found is None:
        raise UsageError(f"{flag} {folder}: the folder holds other files; name an empty or a new one")
    process, stems = found
    if not dead(folder / MARK, process):
        raise UsageError(f"{flag} {folder}: another run is writing to this folder; name an empty or a new one")
    others = sorted(one.name for one in folder.iterdir() if one.name != MARK and not _ours(one, stems))
    if others:
        raise UsageError(
            f"{flag} {folder}: a run that was stopped has left files there, and {others[0]!r} is not one of them; "
            "name an empty or a new folder"
        )


def _marked(folder: Path) -> tuple[int | None, set[str]] | None:
    """The process that has marked a folder, None where its lock alone tells, and the stems that it noted; None where
    there is no such mark."""
    try:
        file = os.open(folder / MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return None
        text = stream.read(_MOST).decode(errors="replace")
    first, _, rest = text.partition("\n")
    if not first and not rest:
        return None, set()  # killed before it said anything
    if not (first.isascii() and first.isdigit() and len(first) < 12):
        return None
    return None if int(first) == os.getpid() else int(first), set(rest.splitlines())


def _ours(path: Path, stems: set[str]) -> bool:
    """Whether a name in a marked folder is one that the run has noted, or of what it had not put in place."""
    if is_hidden(path.name):
        return True
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and any(
        path.name.startswith(f"{stem}{kind}") for stem in stems for kind in _KINDS
    )


def _clear(folder: Path) -> None:
    """Remove what a run that is no more has left in a folder that was checked; its mark goes last."""
    found = _marked(folder)
    if found is None:
        return
    sweep(folder)
    for path in [one for one in folder.iterdir() if one.name != MARK and _ours(one, found[1])]:
        if not is_hidden(path.name):
            path.unlink(missing_ok=True)
    (folder / MARK).unlink(missing_ok=True)
