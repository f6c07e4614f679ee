"""A page as the text that a file or pipe gets."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console


def page(draw: Callable[[Console], None]) -> str:
    console = Console(file=io.StringIO(), width=400, highlight=False, emoji=False)
    draw(console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())
