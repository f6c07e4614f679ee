"""Finding and reading recipe files: the built-in ones by name, everybody's by path."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from graphopt.errors import UsageError
from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.tokens import shorten

__all__ = ["MAX_FILE", "built_in", "read"]

MAX_FILE = 256 * 1024  # bytes
_SUFFIX = ".toml"


def built_in() -> tuple[str, ...]:
    """The names of the built-in recipes, in alphabetical order."""
    from importlib.resources import files

    folder = files("graphopt.pipeline") / "recipes"
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in folder.iterdir() if f.name.endswith(_SUFFIX)))


def read(name_or_path: str | os.PathLike[str]) -> tuple[str, str]:
    """What to call the recipe in messages, and its text.

    A string without a slash that does not end in `.toml` is the name of a built-in recipe,
    everything else is a path. Raises `UsageError` when there is no such recipe or it is no text file.
    """
    if isinstance(name_or_path, str) and not _is_path(name_or_path):
        return f"recipe {name_or_path}", _built_in_text(name_or_path)
    path = Path(name_or_path)
    shown = f"recipe {shorten(str(path), 200)!r}"
    if path.suffix != _SUFFIX:
        raise UsageError(f"{shown} is not a {_SUFFIX} file; a recipe is one, or the name of a built-in recipe")
    data = _bytes(path, shown)
    try:
        return shown, data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{shown} is not UTF-8 text: line {line} has the byte 0x{data[error.start]:02x}") from error


def _is_path(text: str) -> bool:
    return text.endswith(_SUFFIX) or "/" in text or os.sep in text


def _built_in_text(name: str) -> str:
    from importlib.resources import files

    known = built_in()
    if name not in known:
        ending = did_you_mean(name, known) or f"; there are {', '.join(known)}, and files that end in {_SUFFIX}"
        raise UsageError(f"no recipe is called {shorten(name)!r}{ending}")
    return (files("graphopt.pipeline") / "recipes" / f"{name}{_SUFFIX}").read_text("utf-8")


def _bytes(path: Path, shown: str) -> bytes:
    """The bytes of a regular file of at most MAX_FILE bytes."""
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise UsageError(f"{shown} does not exist") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{shown} cannot be opened: {reason}") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{shown} is a folder, not a file")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{shown} is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE:
        raise UsageError(f"{shown} is larger than {MAX_FILE // 1024} KiB, which no recipe is")
    return data
