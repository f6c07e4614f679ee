"""What the user said about the inputs to validate on, before any of it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Arrays = Mapping[str, Any]
Given = str | Path | Arrays | Iterable[Arrays] | Callable[[], Any]


@dataclass(frozen=True)
class FeedPlan:
    """What the user said about inputs.

    `feeds`: an `.npz` file, a folder of them, `module:function`, a function, one mapping of arrays, or
    several; None generates them. `values` pins inputs (`sr` -> `16000`) and `sizes` pins
    symbolic dims (`batch` -> 4) of generated feeds. `limit` uses only the first feeds, of which
    `half` takes those of one half (see `graphopt.validation.halves`); `generate` is how many feeds are made
    where none are given, a few unless it says.
    """

    feeds: Given | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    limit: int | None = None
    half: Literal["", "first", "second"] = ""
    generate: int | None = None
