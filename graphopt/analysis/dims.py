"""Sizes as expressions: an int, or a polynomial with integer coefficients over named symbols.

An expression is kept in one canonical form, a sum of products, so `==` means "provably the same
size". What is no polynomial (a floor division, a minimum, ...) is an `Opaque` atom inside one, made
by `dim_functions`; `dim_bounds` says what else is known: bounds, order, and provable difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

MOST_TERMS: Final = 16
MOST_ATOMS: Final = 64
LARGEST: Final = 1 << 63

Order = tuple[str, int]


class Unwieldy(ArithmeticError):
    """An expression would outgrow what is worth keeping, or leave the range of int64."""


class Symbol:
    """A named size. `low` is a known lower bound, None for a number that may be negative.

    `serial` is 0 for a name that the model declares, else the number of a fresh symbol.
    """

    __slots__ = ("_hash", "low", "name", "order", "serial", "size")

    def __init__(self, name: str, low: int | None = 0, serial: int = 0) -> None:
        self.name, self.low, self.serial = name, low, serial
        self.order: Order = (name, 0)
        self.size = 1
        self._hash = hash((name, serial))

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is Symbol and self.name == other.name and self.serial == other.serial)

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


class Opaque:
    """A function of expressions that is no polynomial: `kind` of "floor", "min", "max", "broadcast".

    floor: of args[0] / args[1]. broadcast: the size of two or more axes that are broadcast together.
    """

    __slots__ = ("_hash", "args", "kind", "order", "size")

    def __init__(self, kind: str, args: tuple[Dim, ...]) -> None:
        self.kind, self.args = kind, args
        self.size = 1 + sum(arg.size for arg in args if isinstance(arg, Expr))
        if self.size > MOST_ATOMS:
            raise Unwieldy
        self.order: Order = (str(self), 1)
        self._hash = hash((kind, args))

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is Opaque and self.kind == other.kind and self.args == other.args)

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        if self.kind == "floor":
            above, below = (f"({arg})" if _is_sum(arg) else str(arg) for arg in self.args)
            return f"floor({above}/{below})"
        return f"{self.kind}({', '.join(str(arg) for arg in self.args)})"

    __repr__ = __str__


Atom = Symbol | Opaque
Monomial = tuple[tuple[Atom, int], ...]
"""Atoms with their powers, in order; () is 1."""
Term = tuple[Monomial, int]


class Expr:
    """A canonical polynomial that is not a plain int: `terms` are monomials with coefficients.

    Supports `+`, `-`, `*` with expressions and ints; the result is an int where nothing else is left.
    """

    __slots__ = ("_bounds", "_hash", "size", "terms")
    _bounds: tuple[int | None, int | None] | None

    def __init__(self, terms: tuple[Term, ...], size: int) -> None:
        self.terms, self.size = terms, size
        self._hash = hash(terms)
        self._bounds = None

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is Expr and self._hash == other._hash and self.terms == other.terms)

    def __hash__(self) -> int:
        return self._hash

    @property
    def constant(self) -> int:
        """The term without atoms."""
        return self.terms[-1][1] if not self.terms[-1][0] else 0

    @property
    def atom(self) -> Atom | None:
        """The atom that the expression is, if it is just one."""
        if len(self.terms) == 1:
            ((powers, coefficient),) = self.terms
            if coefficient == 1 and len(powers) == 1 and powers[0][1] == 1:
                return powers[0][0]
        return None

    def __add__(self, other: Dim) -> Dim:
        sums = dict(self.terms)
        if isinstance(other, int):
            if not other:
                return self
            sums[()] = sums.get((), 0) + other
        else:
            for powers, coefficient in other.terms:
                sums[powers] = sums.get(powers, 0) + coefficient
        return build(sums)

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, int):
            return self if other == 1 else build({powers: coefficient * other for powers, coefficient in self.terms})
        if len(self.terms) * len(other.terms) > 4 * MOST_TERMS:
            raise Unwieldy
        sums: dict[Monomial, int] = {}
        for left, times in self.terms:
            for right, factor in other.terms:
                powers = _joined(left, right)
                sums[powers] = sums.get(powers, 0) + times * factor
        return build(sums)

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + (-other)

    def __rsub__(self, other: int) -> Dim:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        parts: list[str] = []
        for powers, coefficient in self.terms:
            sign = "-" if coefficient < 0 else "+"
            factors = [text for atom, power in powers for text in [str(atom)] * min(power, 4)]
            if any(power > 4 for _, power in powers):
                factors = [str(atom) if power == 1 else f"{atom}**{power}" for atom, power in powers]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            parts += [sign, "*".join(factors)]
        head = parts[1] if parts[0] == "+" else f"-{parts[1]}"
        return " ".join([head, *parts[2:]])

    __repr__ = __str__


Dim = int | Expr


def symbol(name: str, low: int | None = 0, serial: int = 0) -> Expr:
    """The expression that is one symbol."""
    return of_atom(Symbol(name, low, serial))


def of_atom(atom: Atom) -> Expr:
    """The expression that is one atom."""
    return Expr(((((atom, 1),), 1),), atom.size)


def build(sums: Mapping[Monomial, int]) -> Dim:
    """The canonical form of a sum of monomials. Raises Unwieldy when it is too large to keep."""
    terms = [term for term in sums.items() if term[1]]
    if not terms:
        return 0
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    if len(terms) > 1:
        terms.sort(key=_place)
    size = sum(atom.size for powers, _ in terms for atom, _ in powers)
    if len(terms) > MOST_TERMS or size > MOST_ATOMS or any(abs(coefficient) >= LARGEST for _, coefficient in terms):
        raise Unwieldy
    if any(power > MOST_ATOMS for powers, _ in terms for _, power in powers):
        raise Unwieldy
    return Expr(tuple(terms), size)


def _place(term: Term) -> tuple[int, list[tuple[Order, int]]]:
    powers = term[0]
    return -sum(power for _, power in powers), [(atom.order, -power) for atom, power in powers]


def _joined(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: item[0].order))


def _is_sum(dim: Dim) -> bool:
    """Whether the text of `dim` needs brackets as a factor."""
    return isinstance(dim, Expr) and (len(dim.terms) > 1 or dim.atom is None)


def symbols(dim: Dim) -> Iterator[Symbol]:
    """The symbols that `dim` is made of, each as often as it occurs."""
    pending: list[Dim] = [dim]
    while pending:
        one = pending.pop()
        if isinstance(one, Expr):
            for powers, _ in one.terms:
                for atom, _ in powers:
                    if isinstance(atom, Symbol):
                        yield atom
                    else:
                        pending.extend(atom.args)


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The number that `dim` is where symbols have these sizes, by name.

    Raises KeyError for a symbol without one, ZeroDivisionError where a divisor is zero.
    """
    if isinstance(dim, int):
        return dim
    total = 0
    for powers, coefficient in dim.terms:
        product = coefficient
        for atom, power in powers:
            product *= _atom_value(atom, sizes) ** power
        total += product
    return total


def _atom_value(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        return sizes[atom.name]
    values = [evaluate(arg, sizes) for arg in atom.args]
    if atom.kind == "floor":
        return values[0] // values[1]
    if atom.kind == "broadcast":
        return next((value for value in values if value != 1), 1)
    return min(values) if atom.kind == "min" else max(values)
