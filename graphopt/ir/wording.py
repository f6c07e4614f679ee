"""How names that come out of a model are shown in messages: short, and with nothing that a terminal obeys."""

from __future__ import annotations

import os

_LONGEST = 80


def shown(name: str | bytes) -> str:
    """`name` in quotes, at most 80 characters of it, control and other unprintable ones escaped."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    return _quoted(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path that the user gave, in quotes and whole, unprintable characters escaped."""
    return _quoted(os.fspath(path))


def _quoted(text: str) -> str:
    safe = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )
    return f"'{safe}'"
