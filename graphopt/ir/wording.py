"""How names that come out of a model are shown in messages: short, and with nothing that a terminal obeys."""

from __future__ import annotations

_LONGEST = 80


def shown(name: str | bytes) -> str:
    """`name` in quotes, at most 80 characters of it, control and other unprintable ones escaped."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    safe = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in cut
    )
    return f"'{safe}'"
