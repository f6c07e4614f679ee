"""Operators that arrange the elements of a tensor in another shape."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.analysis.dim_bounds import at_least
from graphopt.analysis.dim_functions import broadcast, divide, floor_div, product
from graphopt.analysis.dims import Dim, Expr, symbols
from graphopt.analysis.inference.fact import Call, Dims, Fact, Rule, Unknown, axis_of


def sized(entry: Dim, call: Call) -> Dim:
    """An element of a shape operand as a dim: one that may be negative says nothing more than a symbol."""
    return entry if isinstance(entry, int) or at_least(entry, 0) else call.fresh()


def _entries(call: Call, slot: int) -> list[Dim] | int:
    """The elements of a shape operand, or only how many there are. Raises Unknown."""
    fact = call.fact(slot)
    if fact.value is not None:
        return list(fact.value.reshape(-1))
    if fact.dims is not None and len(fact.dims) == 1 and isinstance(fact.dims[0], int):
        return fact.dims[0]
    raise Unknown


def _reshape(call: Call) -> Fact:
    dtype = call.dtype(0)
    wanted: Sequence[Dim] | int | None = call.listed("shape") if "shape" in call.attrs else _entries(call, 1)
    if wanted is None:
        raise Unknown
    if isinstance(wanted, int):
        return Fact(dtype, tuple(call.fresh() for _ in range(wanted)))
    return Fact(dtype, reshaped(call.fact(0).dims, wanted, bool(call.integer("allowzero", 0)), call))


def reshaped(given: Dims | None, wanted: Sequence[Dim], allowzero: bool, call: Call) -> Dims:
    """What a Reshape to `wanted` gives: 0 copies a dim (unless `allowzero`), -1 takes what is left."""
    dims: list[Dim] = []
    doubtful: list[int] = []  # entries that may turn out to be 0, and then copy a dim
    rest: int | None = None
    for place, entry in enumerate(wanted):
        if entry == -1:
            rest = place
            dims.append(1)
        elif entry == 0 and not allowzero:
            dims.append(call.fresh() if given is None else given[place])
        elif isinstance(entry, int) or at_least(entry, 0 if allowzero else 1):
            dims.append(entry)
        elif at_least(entry, 0):
            doubtful.append(place)
            dims.append(entry)
        else:
            dims.append(call.fresh())
    wrong = [place for place in doubtful if not _stands(place, dims, given, rest is not None)]
    for place in wrong:
        dims[place] = call.fresh()
    if rest is not None:
        dims[rest] = call.fresh() if given is None else _left(given, dims, rest, call)
    return tuple(dims)


def _stands(place: int, dims: Sequence[Dim], given: Dims | None, open_: bool) -> bool:
    """Whether the computed entry of a target is the dim that comes out even where it is 0, so that the
    dim of the input that stands there is copied.

    It is where that one is 0 too, or is not there (which ends the run). Otherwise the result has
    elements that the input has not, which ends the run as well, unless something else is 0 or left
    open: another dim that can be 0 has to be so independently of this one. (Runs where sizes of
    different names are 0 at once are not told apart from that.)
    """
    entry = dims[place]
    if given is None:
        return False
    if place >= len(given) or vanishes_with(given[place], entry):
        return True
    if open_ or not vanishes_with(product(given), entry):
        return False
    mine = set(symbols(entry))
    others = [dim for axis, dim in enumerate(dims) if axis != place]
    return all(at_least(dim, 1) or (isinstance(dim, Expr) and mine.isdisjoint(symbols(dim))) for dim in others)


def vanishes_with(dim: Dim, other: Dim) -> bool:
    """Whether `dim` is 0 in every run in which `other` is."""
    if dim == 0 or dim == other or at_least(other, 1):
        return True
    if not isinstance(dim, Expr) or not isinstance(other, Expr):
        return False
    if len(other.terms) == 1:
        atoms = {atom for atom, _ in other.terms[0][0]}
        return all(atoms <= {atom for atom, _ in powers} for powers, _ in dim.terms)
    return divide(dim, other) is not None


def _left(given: Dims, dims: Sequence[Dim], rest: int, call: Call) -> Dim:
    """The dim that -1 stands for: what equal factors leave of the elements."""
    above, below = list(given), [one for place, one in enumerate(dims) if place != rest]
    for one in list(below):
        if one in above and (one != 0):
            above.remove(one)
            below.remove(one)
    under = product(below)
    if under == 1:
        return product(above)
    if under == 0:
        return call.fresh()
    exact = divide(product(above), under)
    return exact if exact is not None else floor_div(product(above), under)


def _transpose(call: Call) -> Fact:
    fact = call.fact(0)
    if fact.dims is None:
        return Fact(fact.dtype)
    perm = call.listed("perm") or list(reversed(range(len(fact.dims))))
    if sorted(perm) != list(range(len(fact.dims))):
        raise Unknown
    return Fact(fact.dtype, tuple(fact.dims[one] for one in perm))


def _flatten(call: Call) -> Fact:
    fact = call.fact(0)
    if fact.dims is None:
        return Fact(fact.dtype, (call.fresh(), call.fresh()))
    axis = call.integer("axis", 1)
    if axis < 0:
        axis += len(fact.dims)
    return Fact(fact.dtype, (product(fact.dims[:axis]), product(fact.dims[axis:])))


def _squeeze(call: Call) -> Fact:
    dtype, dims, axes = call.dtype(0), call.dims(0), call.numbers("axes", 1)
    if axes is None:
        if not all(isinstance(one, int) or at_least(one, 2) for one in dims):
            return Fact(dtype)
        return Fact(dtype, tuple(one for one in dims if one != 1))
    gone = {axis_of(axis, len(dims)) for axis in axes}
    return Fact(dtype, tuple(one for axis, one in enumerate(dims) if axis not in gone))


def _unsqueeze(call: Call) -> Fact:
    dtype, dims, axes = call.dtype(0), call.dims(0), call.numbers("axes", 1)
    if axes is None:
        raise Unknown
    rank = len(dims) + len(axes)
    new = {axis_of(axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise Unknown
    rest = iter(dims)
    return Fact(dtype, tuple(1 if axis in new else next(rest) for axis in range(rank)))


def _expand(call: Call) -> Fact:
    dtype, given = call.dtype(0), call.fact(0).dims
    wanted = _entries(call, 1)
    if isinstance(wanted, int):
        if given is None:
            raise Unknown
        return Fact(dtype, tuple(call.fresh() for _ in range(max(wanted, len(given)))))
    if given is None:
        raise Unknown
    rank = max(len(given), len(wanted))
    ones: list[Dim] = [1] * rank
    have, want = [*ones, *given][-rank:] if rank else [], [*ones, *wanted][-rank:] if rank else []
    dims: list[Dim] = []
    for one, two in zip(have, want, strict=True):
        found = broadcast(one, sized(two, call))
        if found is None or (isinstance(two, int) and two < 0):
            raise Unknown
        dims.append(found)
    return Fact(dtype, tuple(dims))


def _tile(call: Call) -> Fact:
    dtype, dims = call.dtype(0), call.dims(0)
    if call.opset < 6:
        raise Unknown
    repeats = _entries(call, 1)
    if isinstance(repeats, int):
        return Fact(dtype, tuple(call.fresh() for _ in dims))
    return Fact(dtype, tuple(one * sized(times, call) for one, times in zip(dims, repeats, strict=True)))


def _depth_to_space(call: Call) -> Fact:
    n, c, h, w = call.dims(0)
    size = call.integer("blocksize", 0)
    return Fact(call.dtype(0), (n, floor_div(c, size * size), h * size, w * size))


def _space_to_depth(call: Call) -> Fact:
    n, c, h, w = call.dims(0)
    size = call.integer("blocksize", 0)
    return Fact(call.dtype(0), (n, c * (size * size), floor_div(h, size), floor_div(w, size)))


RULES: dict[str, Rule] = {
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
