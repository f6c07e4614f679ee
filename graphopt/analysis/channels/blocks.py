"""Reshapes as blocks: which input axes become which output axes, and by which common factors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.analysis.dim_functions import divide
from graphopt.analysis.dims import Dim, Unwieldy


@dataclass(frozen=True)
class Block:
    """Input axes whose elements are, in order, those of the output axes."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def blocks(before: Sequence[Dim], after: Sequence[Dim]) -> list[Block]:
    """The smallest blocks that a reshape can be cut into, in order; what cannot be cut is one block."""
    found = list[Block]()
    i = j = 0
    while i < len(before) and j < len(after):
        start, first = i, j
        left, right = before[i], after[j]
        i, j = i + 1, j + 1
        while left != right:
            grows = _grows(left, right)
            if grows == "left" and i < len(before):
                left, i = _times(left, before[i]), i + 1
            elif grows == "right" and j < len(after):
                right, j = _times(right, after[j]), j + 1
            else:
                i, j = len(before), len(after)
                break
        found.append(Block(tuple(range(start, i)), tuple(range(first, j))))
    if i < len(before) or j < len(after):  # ones at the end
        found.append(Block(tuple(range(i, len(before))), tuple(range(j, len(after)))))
    return found


def _times(one: Dim, other: Dim) -> Dim:
    try:
        return one * other
    except Unwieldy:
        return 0


def _grows(left: Dim, right: Dim) -> str | None:
    """Which side has to take one more axis; None where that cannot be told."""
    if left == 0 or right == 0:
        return None
    if isinstance(left, int) and isinstance(right, int):
        return "left" if left < right else "right"
    try:
        if divide(right, left) is not None:
            return "left"
        return "right" if divide(left, right) is not None else None
    except Unwieldy:
        return None


@dataclass(frozen=True)
class Factors:
    """Sizes whose product is that of a block, fine enough that every axis is a run of them.

    `inputs` and `outputs` give for each axis of the block the first factor and the one behind its last.
    """

    sizes: tuple[int, ...]
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]


def factors(before: Sequence[int], after: Sequence[int]) -> Factors | None:
    """Common factors of the axes of a block; None where an axis straddles others."""
    ends = sorted({*_ends(before), *_ends(after)})
    sizes = list[int]()
    last = 1
    for end in ends:
        if end % last:
            return None
        sizes.append(end // last)
        last = end
    runs = tuple(_runs(axes, ends) for axes in (before, after))
    return Factors(tuple(sizes), runs[0], runs[1])


def _ends(axes: Sequence[int]) -> list[int]:
    """Products of the first axes: 1, a, a*b, ..."""
    found = [1]
    for size in axes:
        found.append(found[-1] * size)
    return found


def _runs(axes: Sequence[int], ends: Sequence[int]) -> tuple[tuple[int, int], ...]:
    places = {end: at for at, end in enumerate(ends)}
    marks = [places[end] + 1 for end in _ends(axes)]
    return tuple(itertools.pairwise(marks))
