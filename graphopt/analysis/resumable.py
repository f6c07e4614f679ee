"""Accumulators whose sums are plain: what they hold can be kept, and another of the same key goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray[Any, Any]


class Resumable:
    """An accumulator that names in `sums` its attributes that change as it sees values: numbers, arrays, lists of
    arrays of one shape, texts and None."""

    sums: ClassVar[tuple[str, ...]] = ()

    def state(self) -> dict[str, Array]:
        """What it has summed up, to be kept."""
        values = {name: getattr(self, name) for name in self.sums}
        return {name: np.asarray(value) for name, value in values.items() if value is not None}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Be as one that had this state. Raises ValueError where this is no state of such a one."""
        if not set(state) <= set(self.sums):
            raise ValueError("this is the state of another accumulator")
        for name in self.sums:
            setattr(self, name, _as(getattr(self, name), state.get(name)))


def _as(like: Any, value: Array | None) -> Any:
    """A value that was kept, in the type that the attribute has."""
    if value is None:
        return None
    if isinstance(like, list):
        return list(value)
    if value.dtype.kind == "U":
        return str(value)
    return value if isinstance(like, np.ndarray) else type(like)(value) if like is not None else value.item()
