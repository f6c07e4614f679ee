"""The nearest known name, for error messages about a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]

# Similarity is quadratic in the length; nobody mistypes a name this long.
_LONGEST = 80


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name in `known` that `name` most likely stands for, or None when none is close."""
    if len(name) > _LONGEST:
        return None
    by_key: dict[str, str] = {}
    for candidate in known:
        by_key.setdefault(_key(candidate), candidate)
    matches = difflib.get_close_matches(_key(name), by_key, n=1, cutoff=0.6)
    return by_key[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The clause "; did you mean 'x'?" for the nearest name, or "" when none is close."""
    match = nearest(name, known)
    return f"; did you mean {match!r}?" if match is not None else ""


def _key(name: str) -> str:
    return name.lower().replace("_", "-")
