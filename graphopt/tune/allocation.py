"""Which units to put back, in which order, until a budget is kept: greedy by error per cost, then measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_LEAST: Final = 1e-5  # cost of a move that seems to be free
_TRIMS: Final = 6


@dataclass(frozen=True)
class Rung(Generic[T]):
    """One way to have a unit: the energy of its error, and its cost (in any unit)."""

    option: T
    error: float
    cost: float


@dataclass(frozen=True)
class Move(Generic[T]):
    """Putting unit number `unit` on the option `to`; `gain` is error saved for each cost."""

    unit: int
    to: T
    gain: float
    cost: float


def moves(ladders: Sequence[Sequence[Rung[T]]]) -> list[Move[T]]:
    """All moves in the order in which they are worth making; those of one unit stay in order.

    A ladder begins with what the unit is now. Rungs that a better one makes useless are left out, so that
    each move of a unit saves less for its cost than the one before it.
    """
    found: list[tuple[float, int, int, Move[T]]] = []
    for unit, ladder in enumerate(ladders):
        hull = _hull(ladder)
        for place, (before, after) in enumerate(pairwise(hull)):
            cost = max(after.cost - before.cost, _LEAST)
            gain = (before.error - after.error) / cost
            found.append((-gain, unit, place, Move(unit, after.option, gain, cost)))
    return [one[3] for one in sorted(found, key=lambda one: one[:3])]


def fewest(count: int, holds: Callable[[int], bool]) -> int | None:
    """The fewest of `count` moves, made in order, with which `holds`; None where not even all of them do.

    Tries 0, 1, 2, 4 ... and halves the last interval: about 2 log2 tries. The answer was tried itself.
    """
    if holds(0):
        return 0
    low, high = 0, 1
    while high < count and not holds(high):
        low, high = high, high * 2
    if high >= count:
        high = count
        if count == 0 or not holds(count):
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def spared(made: Sequence[Move[T]], holds: Callable[[Sequence[Move[T]]], bool], tries: int = _TRIMS) -> list[Move[T]]:
    """The moves without those that turn out not to be needed, the dearest tried first, at most `tries` of them.

    Only the last move of a unit is taken back, and what remains was tried.
    """
    kept = list(made)
    last = {move.unit: move for move in made}
    for move in sorted(last.values(), key=lambda one: -one.cost)[:tries]:
        without = [one for one in kept if one is not move]
        if holds(without):
            kept = without
    return kept


def applied(start: Mapping[int, T], made: Sequence[Move[T]]) -> dict[int, T]:
    """The option of each unit once moves are made."""
    found = dict(start)
    for move in made:
        found[move.unit] = move.to
    return found


def _hull(ladder: Sequence[Rung[T]]) -> list[Rung[T]]:
    """The rungs from the first on with falling error and rising cost, each step saving less per cost."""
    first, *others = ladder
    hull = [first]
    for rung in sorted(others, key=lambda one: (one.cost, one.error)):
        if rung.error >= hull[-1].error:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], rung):
            hull.pop()
        hull.append(rung)
    return hull


def _slope(before: Rung[T], after: Rung[T]) -> float:
    return (before.error - after.error) / max(after.cost - before.cost, _LEAST)
