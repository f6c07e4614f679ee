"""Sums in two halves, so that what is fitted to one can be tried on the other; kept, and gone on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

Array = np.ndarray[Any, Any]
S = TypeVar("S")
"""A dataclass of a number and arrays, the number first, that adds up."""


class TwoHalves(Generic[S]):
    """An accumulator whose samples go into one of two `halves` in turn; None where nothing was seen."""

    kind: ClassVar[type]
    """The dataclass that a half is."""

    def __init__(self) -> None:
        self.halves: list[S | None] = [None, None]
        self.trouble: str | None = None
        self._turn = 0

    @property
    def whole(self) -> S | None:
        """Both halves together; None where nothing was seen."""
        first, second = self.halves
        return second if first is None else first if second is None else first + second  # type: ignore[operator]

    def state(self) -> dict[str, Array]:
        """What it has summed up, to be kept."""
        found = {"turn": np.array(self._turn)}
        for half, one in enumerate(self.halves):
            if one is not None:
                found |= {f"{half}.{name}": np.asarray(value) for name, value in vars(one).items()}
        return found if self.trouble is None else found | {"trouble": np.array(self.trouble)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Be as one that had this state."""
        self._turn = int(state["turn"])
        self.trouble = str(state["trouble"]) if "trouble" in state else None
        for half in (0, 1):
            count, *sums = (state.get(f"{half}.{one.name}") for one in fields(self.kind))
            self.halves[half] = None if count is None else self.kind(int(count), *(np.asarray(one) for one in sums))
