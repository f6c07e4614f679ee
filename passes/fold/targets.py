"""The target of a Reshape as a constant: numbers, 0 for a dim that is copied, -1 for what is left."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.analysis.dim_bounds import at_least, equal
from graphopt.analysis.dim_functions import product
from graphopt.analysis.dims import Dim, Unwieldy
from graphopt.ir import Node

Target = tuple[int, ...]


def target_of(
    given: Sequence[Dim] | None, entries: Sequence[Dim], made: Sequence[Dim] | None, node: Node
) -> tuple[Target | None, str]:
    """The constant that asks for what `entries` ask for in every run, or in a clause why there is none.

    `given` and `made` are the dims of what is reshaped and of the result.
    """
    if made is None or len(made) != len(entries):
        return None, "the rank of the result is not known"
    if given is not None and _contradict(given, made):
        return None, "no run gets by it"
    zero_is_zero = bool(node.attrs.get("allowzero", 0))
    target: list[int] = []
    open_places: list[int] = []
    for place, (entry, dim) in enumerate(zip(entries, made, strict=True)):
        copied = given is not None and place < len(given) and given[place] == dim
        if isinstance(entry, int) and entry != -1:
            target.append(entry)
        elif isinstance(dim, int) and dim > 0:
            target.append(dim)
        elif copied and not zero_is_zero:
            target.append(0)
        else:
            target.append(-1)
            open_places.append(place)
    if len(open_places) > 1:
        return None, f"dims {open_places[0]} and {open_places[1]} are neither numbers nor those of the input"
    if open_places:
        (place,) = open_places
        others = [dim for axis, dim in enumerate(made) if axis != place]
        if entries[place] != -1 and not all(at_least(dim, 1) for dim in others):
            return None, f"dim {place} cannot be left open, since another one may be 0"
    return tuple(target), ""


def _contradict(given: Sequence[Dim], made: Sequence[Dim]) -> bool:
    """Whether the two shapes never have the same number of elements."""
    try:
        return equal(product(given), product(made)) is False
    except Unwieldy:
        return False
