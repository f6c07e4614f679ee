"""The search for the smallest part of a model that still fails, as pure functions of a test.

Ends are chopped first, because half of a model goes with each answer there: the last nodes, so
that outputs move earlier, then the first, so that inputs move later. What is left is taken apart
by delta debugging, from which nothing can be left out in the end.
"""

from __future__ import annotations

from collections.abc import Callable

from graphopt.debug.bisect import Spent, smallest_failing

Kept = tuple[int, ...]


def smallest(count: int, fails: Callable[[Kept], bool]) -> tuple[Kept, bool]:
    """The places of the nodes of a smallest part of `count` nodes that fails, and whether it is known that
    nothing can be left out, which it is not when `fails` raised `Spent` before.

    All nodes together are known to fail.
    """
    left: Kept = tuple(range(count))
    try:
        left = left[: _least(len(left), lambda size: fails(left[:size]))]
        kept = left
        left = left[len(left) - _least(len(left), lambda size: fails(kept[len(kept) - size :])) :]
    except Spent:
        return left, False
    return smallest_failing(left, fails)


def _least(count: int, fails: Callable[[int], bool]) -> int:
    """A number at which it fails and below which it does not, as far as asked; `count` is known to fail."""
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        if fails(middle):
            bad = middle
        else:
            good = middle
    return bad
