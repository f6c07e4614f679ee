"""Things cut into batches that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(things: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Things in their order, together no more than `most` in size, or one by itself."""
    chosen, held = list[T](), 0
    for one in things:
        needed = size(one)
        if chosen and held + needed > most:
            yield chosen
            chosen, held = [], 0
        chosen.append(one)
        held += needed
    if chosen:
        yield chosen
