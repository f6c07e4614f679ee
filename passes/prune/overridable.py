"""What to do about weights that callers may override."""

from __future__ import annotations

from typing import Final

_WHY: Final = "whose value callers may give"


def advised(why: str) -> str:
    """A clause on why something stays, with what to run where it is only that a weight is listed as an input."""
    return f"{why}: run initializers-from-inputs first" if why.endswith(_WHY) else why
