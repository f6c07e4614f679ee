"""How much of the error each unit is behind: the error of the outputs when only it is quantized.

Errors of different units hardly correlate, so their energies add up. A group of units is therefore
measured at once, and only groups with much error are taken apart: finding the k worst of n units takes
about 2 k log2(n / k) measurements.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

ALONE: Final = 32  # units that are all measured alone
_ENOUGH: Final = 0.5  # of the units: where fewer errors are known, all are measured
_SMALL: Final = 0.002  # of all the error: a group under it is not taken apart


def energies(
    units: Sequence[T], measure: Callable[[Collection[T]], float], *, alone: int = ALONE, most: int = 96
) -> dict[T, float]:
    """The energy of the error that each unit is behind; members of a group that was not taken apart share its.

    `measure` gives the energy with only these units quantized; it is asked at most about `most` times.
    """
    if len(units) <= alone:
        return {unit: measure((unit,)) for unit in units}
    numbers = itertools.count()
    asked = 0
    heap: list[tuple[float, int, Sequence[T]]] = []
    size = -(-len(units) // (alone // 2))
    for start in range(0, len(units), size):
        group = units[start : start + size]
        heap.append((-measure(group), next(numbers), group))
        asked += 1
    heapq.heapify(heap)
    total = -sum(one[0] for one in heap)
    found: dict[T, float] = {}
    while heap:
        energy, _, group = heapq.heappop(heap)
        if len(group) == 1 or asked >= most or -energy <= _SMALL * total:
            found.update((unit, -energy / len(group)) for unit in group)
            continue
        middle = len(group) // 2
        for half in (group[:middle], group[middle:]):
            heapq.heappush(heap, (-measure(half), next(numbers), half))
            asked += 1
    return {unit: found[unit] for unit in units}


def predicted(
    units: Sequence[T], known: Mapping[T, float], measure: Callable[[Collection[T]], float]
) -> dict[T, float]:
    """The same where the errors of some units were predicted before.

    Those of the others are measured, and so is all that was predicted at once: the predictions are scaled to that,
    so that only their proportions are taken on trust. Where few are known, all are measured.
    """
    told = [unit for unit in units if unit in known]
    if len(told) <= _ENOUGH * len(units):
        return energies(units, measure)
    total, whole = sum(known[unit] for unit in told), measure(told)
    scale = whole / total if 0.0 < total < math.inf and whole < math.inf else 1.0
    rest = energies([unit for unit in units if unit not in known], measure)
    return {unit: known[unit] * scale if unit in known else rest[unit] for unit in units}
