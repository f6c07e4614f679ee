"""The search for the rewrite that breaks a model, as pure functions: what is tried is the caller's.

The rewrites of a run are in a total order, and a prefix of it is what a run makes that stops
rewriting after the first so many. Passes are deterministic, so every run goes through the same
states: the prefixes of one run are steps of one path, whatever its rewrites have to do with each
other. That is not so of other subsets: with one rewrite left out, another may not be possible.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Answer(enum.Enum):
    """What a try says: the result holds, it does not, or that cannot be told of it."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"

    def __str__(self) -> str:
        return self.value


class Spent(Exception):
    """No more tries are allowed."""


@dataclass(frozen=True)
class Interval:
    """Prefix `good` holds and prefix `bad` does not; nothing in between could be told.

    Where they are neighbours, the rewrite number `bad` of the total order is the one.
    """

    good: int
    bad: int

    @property
    def exact(self) -> bool:
        return self.bad == self.good + 1


def first_bad(count: int, ask: Callable[[int], Answer], seams: Sequence[int] = ()) -> Interval:
    """Two prefixes between which a result that holds becomes one that does not.

    Prefix 0 is known to be good and prefix `count` to be bad; `ask` tells of the others, and is asked
    ceil(log2(count)) times at most where it never skips. Wherever that costs nothing, a seam is asked
    about: a length at which one pass ends and the next begins. What is found was asked about from
    both sides, so it is right also where good and bad alternate.
    """
    good, bad = 0, count
    unknown: set[int] = set()
    while True:
        for tried in _order(good, bad, seams):
            if tried in unknown:
                continue
            answer = ask(tried)
            if answer is Answer.SKIP:
                unknown.add(tried)
                continue
            good, bad = (tried, bad) if answer is Answer.GOOD else (good, tried)
            break
        else:
            return Interval(good, bad)


def _order(good: int, bad: int, seams: Sequence[int]) -> Iterator[int]:
    """The lengths between two prefixes, best first: a seam near enough to the middle, the middle, and then
    ever further away from it, because what cannot be told of one length cannot of its neighbours either."""
    size = bad - good
    if size < 2:
        return
    half = 1 << ((size - 1).bit_length() - 1)  # neither side may be larger, or a try more is needed
    middle = good + size // 2
    near = [seam for seam in seams if bad - half <= seam <= good + half and good < seam < bad]
    first = min(near, key=lambda seam: abs(seam - middle), default=middle)
    seen = set[int]()
    steps = [0, *(sign * (1 << power) for power in range(size.bit_length()) for sign in (1, -1))]
    for tried in (first, *(middle + step for step in steps), *range(good + 1, bad)):
        if good < tried < bad and tried not in seen:
            seen.add(tried)
            yield tried


def smallest_failing(items: Sequence[T], fails: Callable[[tuple[T, ...]], bool]) -> tuple[tuple[T, ...], bool]:
    """A part of `items` that fails and from which nothing can be left out, in order; and whether that is
    known, which it is not when `fails` raised `Spent` before.

    All of `items` are known to fail, and none of them not to. Delta debugging as by Zeller and
    Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.
    """
    left = tuple(items)
    parts = 2
    try:
        while len(left) > 1:
            chunks = _chunks(left, parts)
            rests = [_without(left, chunk) for chunk in chunks] if parts > 2 else []
            smaller = next((one for one in (*chunks, *rests) if fails(one)), None)
            if smaller is not None:
                parts = 2 if smaller in chunks else max(parts - 1, 2)
                left = smaller
            elif parts >= len(left):
                break
            else:
                parts = min(parts * 2, len(left))
    except Spent:
        return left, False
    return left, True


def _chunks(items: tuple[T, ...], parts: int) -> list[tuple[T, ...]]:
    bounds = [len(items) * index // parts for index in range(parts + 1)]
    return [items[low:high] for low, high in itertools.pairwise(bounds)]


def _without(items: tuple[T, ...], chunk: tuple[T, ...]) -> tuple[T, ...]:
    gone = set(chunk)
    return tuple(item for item in items if item not in gone)
