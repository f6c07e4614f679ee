"""Functions of sizes that are not polynomials, each brought to one canonical form.

Where the form is provably a polynomial (an exact division, a minimum whose order is known) that is
what comes out. Divisors are taken to be non-zero: a run that divides by zero has no result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

from graphopt.analysis.dim_bounds import at_least, equal, less_or_equal
from graphopt.analysis.dims import Atom, Dim, Expr, Monomial, Opaque, Symbol, build, of_atom


def product(dims: Iterable[Dim]) -> Dim:
    """All of them multiplied; 1 for none. Raises Unwieldy."""
    found: Dim = 1
    for dim in dims:
        found = found * dim
    return found


def total(dims: Iterable[Dim]) -> Dim:
    """All of them added. Raises Unwieldy."""
    found: Dim = 0
    for dim in dims:
        found = found + dim
    return found


def floor_div(one: Dim, other: Dim) -> Dim:
    """The greatest integer not above `one / other`. Raises ZeroDivisionError for a plain zero."""
    if isinstance(one, int) and isinstance(other, int):
        return one // other
    if isinstance(other, int):
        return -floor_div(one, -other) if other == -1 else _floor_by(one, other)
    exact = divide(one, other)
    if exact is not None:
        return exact
    return of_atom(Opaque("floor", (one, other)))


def ceil_div(one: Dim, other: Dim) -> Dim:
    """The least integer not below `one / other`. Raises ZeroDivisionError for a plain zero."""
    if isinstance(other, int) and other > 0:
        return floor_div(one + (other - 1), other)
    return -floor_div(-one, other)


def modulo(one: Dim, other: Dim) -> Dim:
    """The rest of `floor_div`: it has the sign of the divisor."""
    return one - other * floor_div(one, other)


def _floor_by(one: Dim, by: int) -> Dim:
    """floor(one / by): whole multiples out, common factors away, nested floors joined."""
    if by < 0:
        return _floor_by(-one, -by)
    if by == 0:
        raise ZeroDivisionError
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for powers, coefficient in (((), one),) if isinstance(one, int) else one.terms:
        whole[powers], rest[powers] = divmod(coefficient, by)
    outside, inside = build(whole), build(rest)
    if isinstance(inside, int):
        return outside + inside // by
    shared = math.gcd(by, *(coefficient for powers, coefficient in inside.terms if powers))
    if shared > 1:  # floor((g*a + c) / (g*d)) = floor((a + floor(c/g)) / d)
        inside = build({powers: coefficient // shared for powers, coefficient in inside.terms})
        by //= shared
        if by == 1:
            return outside + inside
    if isinstance(inside, Expr):
        alone = inside - inside.constant
        nested = alone.atom if isinstance(alone, Expr) else None
        if isinstance(nested, Opaque) and nested.kind == "floor" and isinstance(nested.args[1], int):
            inner, under = nested.args[0], nested.args[1]
            return outside + _floor_by(inner + inside.constant * under, under * by)
    return outside + of_atom(Opaque("floor", (inside, by)))


def divide(one: Dim, other: Dim) -> Dim | None:
    """`one / other` where that is exact as polynomials (`other` not zero), else None."""
    if one == 0:
        return 0
    if isinstance(other, int):
        if isinstance(one, int):
            return None if other == 0 or one % other else one // other
        if other == 0 or any(coefficient % other for _, coefficient in one.terms):
            return None
        return build({powers: coefficient // other for powers, coefficient in one.terms})
    quotient: dict[Monomial, int] = {}
    left: Dim = one
    head, times = other.terms[0]
    for _ in range(16):  # each round takes the leading term away
        if left == 0:
            return build(quotient)
        first, coefficient = left.terms[0] if isinstance(left, Expr) else ((), left)
        powers = _without(first, head)
        if powers is None or coefficient % times:
            return None
        quotient[powers] = quotient.get(powers, 0) + coefficient // times
        left = left - build({powers: coefficient // times}) * other
    return None


def _without(powers: Monomial, taken: Monomial) -> Monomial | None:
    left = dict(powers)
    for atom, power in taken:
        have = left.get(atom, 0)
        if have < power:
            return None
        left[atom] = have - power
        if have == power:
            del left[atom]
    return tuple(left.items())


def minimum(*dims: Dim) -> Dim:
    """The least of the sizes. Raises Unwieldy."""
    return _extreme("min", dims)


def maximum(*dims: Dim) -> Dim:
    """The greatest of the sizes. Raises Unwieldy."""
    return _extreme("max", dims)


def _extreme(kind: str, dims: tuple[Dim, ...]) -> Dim:
    flat: list[Dim] = []
    for dim in dims:
        atom = dim.atom if isinstance(dim, Expr) else None
        flat.extend(atom.args if isinstance(atom, Opaque) and atom.kind == kind else (dim,))
    kept: list[Dim] = []
    for dim in flat:
        if any(_beats(kind, other, dim) for other in kept):
            continue
        kept = [other for other in kept if not _beats(kind, dim, other)]
        kept.append(dim)
    if len(kept) == 1:
        return kept[0]
    shift = min(dim if isinstance(dim, int) else dim.constant for dim in kept)
    args = sorted((dim - shift for dim in kept), key=_by_text)
    return of_atom(Opaque(kind, tuple(args))) + shift


def _beats(kind: str, one: Dim, other: Dim) -> bool:
    return less_or_equal(one, other) is True if kind == "min" else less_or_equal(other, one) is True


def broadcast(one: Dim, other: Dim) -> Dim | None:
    """The size of two axes that are broadcast together; None when no run can broadcast them."""
    if one == other or other == 1:
        return one
    if one == 1:
        return other
    if equal(one, other) is False and equal(one, 1) is False and equal(other, 1) is False:
        return None
    for dim in (one, other):  # the one that is not 1 wins
        if (isinstance(dim, int) and dim != 1) or at_least(dim, 2):
            return dim
    for dim, whole in ((one, other), (other, one)):
        if _is_part(dim, whole):
            return whole
    args: dict[Dim, None] = {}
    for dim in (one, other):
        atom = dim.atom if isinstance(dim, Expr) else None
        args.update(dict.fromkeys(atom.args if isinstance(atom, Opaque) and atom.kind == "broadcast" else (dim,)))
    if len(args) == 1:
        return next(iter(args))
    return of_atom(Opaque("broadcast", tuple(sorted(args, key=_by_text))))


def _is_part(dim: Dim, whole: Dim) -> bool:
    """Whether `dim` is the least of `whole` and sizes of at least 2: so both are the same wherever they can
    be broadcast, as positions that are cut off at the longest sequence and the tokens that they are added to."""
    atom = dim.atom if isinstance(dim, Expr) else None
    if not isinstance(atom, Opaque) or atom.kind != "min" or whole not in atom.args:
        return False
    return all(arg == whole or at_least(arg, 2) for arg in atom.args)


def nonempty(dim: Dim) -> Dim:
    """The expression over sizes that are one less, so that its bounds are those of runs in which no
    symbol that is a size is 0."""
    if isinstance(dim, int):
        return dim
    found: Dim = 0
    for powers, coefficient in dim.terms:
        term: Dim = coefficient
        for atom, power in powers:
            for _ in range(power):
                term = term * _nonempty(atom)
        found = found + term
    return found


def _nonempty(atom: Atom) -> Dim:
    if isinstance(atom, Symbol):
        return of_atom(atom) + 1 if atom.low == 0 else of_atom(atom)
    args = [nonempty(arg) for arg in atom.args]
    if atom.kind == "floor":
        return floor_div(*args)
    if atom.kind == "broadcast":
        return functools.reduce(lambda one, other: one if (both := broadcast(one, other)) is None else both, args)
    return _extreme(atom.kind, tuple(args))


def _by_text(dim: Dim) -> tuple[str, int]:
    return str(dim), int(isinstance(dim, Expr) and isinstance(dim.atom, Opaque))
