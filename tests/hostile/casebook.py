"""What a hostile case is: a folder that somebody else filled, and what becomes of who optimizes what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Build = Callable[[Path], None]
FED = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)


@dataclass(frozen=True)
class Case:
    """One case and what is promised of it.

    `build` fills a folder, beside which lies a folder `elsewhere` with a file `secret.bin` that nothing may open.
    `code` is the exit code (several: each would do), `says` a pattern that is found in what is printed. The result
    has the operators of `keep`. It takes at most so many seconds and megabytes. `file` is what is optimized, `fed`
    what the result is compared on by the tests themselves (None: it cannot be, or need not).
    """

    name: str
    family: str
    why: str
    build: Build
    code: tuple[int, ...]
    says: str
    keep: tuple[str, ...] = ()
    file: str = "model.onnx"
    fed: Mapping[str, Any] | None = None
    options: tuple[str, ...] = ()
    seconds: float = 10.0
    megabytes: int = 1500


@dataclass
class Family:
    """The cases of one kind, each a function that builds it; its docstring says why it is there."""

    name: str
    cases: list[Case] = field(default_factory=list)

    def case(self, code: int | tuple[int, ...], says: str = "", **more: Any) -> Callable[[Build], Build]:
        """Note the decorated function as a case."""

        def note(build: Build) -> Build:
            codes = (code,) if isinstance(code, int) else code
            if codes == (0,):
                more.setdefault("fed", {"x": FED})
            name = build.__name__.replace("_", "-")
            why = " ".join((build.__doc__ or "").split())
            self.cases.append(Case(name, self.name, why, build, codes, says, **more))
            return build

        return note
