"""What is known about expressions of sizes besides their form: bounds, order, equality."""

from __future__ import annotations

import math

from graphopt.analysis.dims import Atom, Dim, Expr, Symbol

Bounds = tuple[int | None, int | None]
"""The least and the greatest possible number; None where there is no known limit."""


def bounds(dim: Dim) -> Bounds:
    """Between which numbers `dim` lies, by interval arithmetic over its terms."""
    if isinstance(dim, int):
        return dim, dim
    if dim._bounds is None:
        low: int | None = 0
        high: int | None = 0
        for powers, coefficient in dim.terms:
            least, most = _product(powers)
            if coefficient < 0:
                least, most = most, least
            low = None if low is None or least is None else low + coefficient * least
            high = None if high is None or most is None else high + coefficient * most
        dim._bounds = (low, high)
    return dim._bounds


def low(dim: Dim) -> int | None:
    """The least number that `dim` can be, None when unknown."""
    return bounds(dim)[0]


def at_least(dim: Dim, number: int) -> bool:
    """Whether `dim` is provably `number` or more."""
    least = bounds(dim)[0]
    return least is not None and least >= number


def at_most(dim: Dim, number: int) -> bool:
    """Whether `dim` is provably `number` or less."""
    most = bounds(dim)[1]
    return most is not None and most <= number


def less_or_equal(one: Dim, other: Dim) -> bool | None:
    """Whether `one <= other` in every run (True), in none (False), or unknown (None)."""
    if one == other:
        return True
    least, most = bounds(other - one)
    if least is not None and least >= 0:
        return True
    return False if most is not None and most < 0 else None


def equal(one: Dim, other: Dim) -> bool | None:
    """Whether two sizes are equal in every run (True), in none (False), or unknown (None)."""
    if one == other:
        return True
    gap = one - other
    if isinstance(gap, int):
        return False
    least, most = bounds(gap)
    if (least is not None and least > 0) or (most is not None and most < 0):
        return False
    step = math.gcd(*(coefficient for powers, coefficient in gap.terms if powers))
    return False if gap.constant % step else None


def _product(powers: tuple[tuple[Atom, int], ...]) -> Bounds:
    least: int | None = 1
    most: int | None = 1
    for atom, power in powers:
        under, over = _atom(atom)
        if under is None or under < 0:
            # Of numbers that may be negative only an even power is known to be none.
            return (0, None) if len(powers) == 1 and power % 2 == 0 else (None, None)
        least = None if least is None else least * under**power
        most = None if most is None or over is None else most * over**power
    return least, most


def _atom(atom: Atom) -> Bounds:
    if isinstance(atom, Symbol):
        return atom.low, None
    known = [bounds(arg) for arg in atom.args]
    lows = [one for one, _ in known if one is not None]
    highs = [one for _, one in known if one is not None]
    if atom.kind == "floor":
        (under, over), (least, most) = known
        if least is None or least < 1:
            # A divisor of zero ends the run, so a size divided by a size is at least zero.
            return (0, over) if under is not None and under >= 0 and least == 0 else (None, None)
        if least == most:
            return None if under is None else under // least, None if over is None else over // least
        return (0 if under is not None and under >= 0 else None), (over if over is not None and over >= 0 else None)
    all_low, all_high = len(lows) == len(known), len(highs) == len(known)
    if atom.kind == "max":
        return max(lows, default=None), max(highs) if all_high else None
    if atom.kind == "min":
        return min(lows) if all_low else None, min(highs, default=None)
    return min(lows) if all_low else None, max(highs) if all_high else None


__all__ = ["Bounds", "Expr", "at_least", "at_most", "bounds", "equal", "less_or_equal", "low"]
