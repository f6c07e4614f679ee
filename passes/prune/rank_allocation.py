"""Which rank each layer gets, so that enough work is saved at the least error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Ladder:
    """The ranks that a layer may have: their `errors` and `costs`. It costs `whole` with no error as it is."""

    ranks: Array
    errors: Array
    costs: Array
    whole: float

    def at(self, price: float) -> int:
        """The place of the rank where the error and the cost at a price come to least; -1 for the layer as it is."""
        sums = self.errors + price * self.costs
        best = int(np.argmin(sums)) if sums.size else -1
        return best if best >= 0 and sums[best] < price * self.whole else -1

    def saved(self, price: float) -> float:
        """What is saved at a price."""
        place = self.at(price)
        return 0.0 if place < 0 else self.whole - float(self.costs[place])


def shared(ladders: Sequence[Ladder], wanted: float) -> list[int]:
    """For each layer the place of its rank, -1 where it stays, so that at least `wanted` is saved, or all that can be.

    All layers pay the same price: then no other choice saves as much with a smaller sum of errors (Everett 1963).
    """
    if wanted <= 0 or not ladders:
        return [-1] * len(ladders)
    whole = max(one.whole for one in ladders)
    low, high = 0.0, 1.0 / whole if whole > 0 else 1.0
    for _ in range(_HALVINGS):  # until even the errors of the smallest ranks are cheap
        if sum(one.saved(high) for one in ladders) >= wanted:
            break
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if sum(one.saved(middle) for one in ladders) >= wanted:
            high = middle
        else:
            low = middle
    places = [one.at(high) for one in ladders]
    return _without_more(ladders, places, wanted)


def _without_more(ladders: Sequence[Ladder], places: list[int], wanted: float) -> list[int]:
    """The same with larger ranks, those of most error first, where more is saved than it takes: prices have steps."""
    spare = sum(one.whole - one.costs[place] for one, place in zip(ladders, places, strict=True) if place >= 0) - wanted
    order = sorted(range(len(ladders)), key=lambda at: -_error(ladders[at], places[at]))
    for at in order:
        one, place = ladders[at], places[at]
        if place < 0:
            continue
        fits = np.flatnonzero((one.costs - one.costs[place] <= spare) & (one.errors < one.errors[place]))
        if one.whole - one.costs[place] <= spare:
            spare -= one.whole - float(one.costs[place])
            places[at] = -1
        elif fits.size:
            better = int(fits[np.argmin(one.errors[fits])])
            spare -= float(one.costs[better] - one.costs[place])
            places[at] = better
    return places


def _error(one: Ladder, place: int) -> float:
    return 0.0 if place < 0 else float(one.errors[place])
