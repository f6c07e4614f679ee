"""Files beside models that a run writes: reports, remarks, bundles. Whole or not at all, over nothing of the user's."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from graphopt.errors import OverLimit, UsageError
from graphopt.storage.hidden import Partial
from graphopt.storage.refused import is_scarce


def check_place(path: Path, taken: Iterable[tuple[str, Path]] = (), *, flag: str, what: str) -> None:
    """See before a run that `what` (such as "the report") can be written to `path`, the value of `flag`,
    and that this is none of the files in `taken`.

    `taken` pairs a name for the message with a path. Raises UsageError.
    """
    shown = f"{flag} {_printable(str(path))}"
    try:
        real, status = Path(os.path.realpath(path)), path.stat() if path.exists() else None
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown}: cannot be written ({reason(error)})") from None
    for name, other in taken:
        if real == Path(os.path.realpath(other)) or (status is not None and other.exists() and path.samefile(other)):
            raise UsageError(f"{shown}: this is {name}; choose another file for {what}")
    if status is not None and not stat.S_ISREG(status.st_mode):
        kind = "a folder; name a file in it" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise UsageError(f"{shown}: this is {kind}")
    if not real.parent.is_dir():
        raise UsageError(f"{shown}: there is no folder {_printable(str(path.parent))!r}; create it first")
    try:  # permissions alone do not tell: file systems can be read-only, full, or not ours
        with tempfile.TemporaryFile(dir=real.parent):
            pass
    except OSError as error:
        folder = _printable(str(path.parent))
        raise UsageError(f"{shown}: nothing can be written in {folder!r} ({reason(error)})") from None


@contextmanager
def replacing(path: Path, what: str, rest: str = "; the run itself is done") -> Iterator[IO[bytes]]:
    """A stream whose bytes become the file `path` when the block ends well: a reader finds the old file
    or the new one. A new file gets the permissions of the old one.

    Raises UsageError or OverLimit, about `what` (such as "the report") and ending with `rest`, when it cannot be
    written.
    """
    try:
        real = Path(os.path.realpath(path))
        partial = Partial(real)
        try:
            yield partial.stream
            partial.settle(_mode(real))
        finally:
            partial.remove()
    except OSError as error:
        why = f"cannot write {what} {_printable(str(path))!r}: {reason(error)}{rest}"
        raise (OverLimit if is_scarce(error) else UsageError)(why) from None


def reason(error: Exception) -> str:
    """Why the operating system refused, in a clause."""
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else _printable(str(error))


def _mode(path: Path) -> int:
    """The permissions of the file that is replaced, else those that a new file gets."""
    with suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode) & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(char: Any) -> str:
    return str(char).encode("unicode_escape", "surrogatepass").decode("ascii")
