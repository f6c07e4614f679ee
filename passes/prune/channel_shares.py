"""How many channels of each group go, so that a share of the whole cost is saved at the least error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.unit_removal import Array
from passes.prune.channel_costs import Costs

_CLOSE = 1e-9


def step_of(size: int, multiple: int) -> int:
    """The multiple that the number of channels left is rounded to: the one wished for, or less for groups so small
    that it would be more than half of them."""
    step = multiple
    while step > 1 and step * 2 > size:
        step //= 2
    return max(step, 1)


def counts(size: int, multiple: int, most: float, kernel: int = 0) -> list[int]:
    """How many units of a group may go, ascending, none first: what is left is a multiple, and not less than a share
    `1 - most`. Of groups that fill a `kernel`, such ones are left."""
    step = kernel if 0 < kernel <= size else step_of(size, multiple)
    least = max(int(np.ceil(size * (1 - most))), 1)
    lefts = range(-(-least // step) * step, size, step)
    return [0, *sorted(size - left for left in lefts)]


def by_error(curves: Sequence[Array], choices: Sequence[Sequence[int]], costs: Costs, goal: float) -> list[int]:
    """For each group how many units go: those first that add least error for what they save, until `goal` is saved.

    `curves[g][n]` is the error when n units of group g are gone. Where a further unit is dear and the ones after it
    are cheap, they are weighed together. Stops short of the goal where there are no more choices.
    """
    gone = [0] * len(curves)
    saved = 0.0
    prices: dict[int, tuple[float, int] | None] = {}

    def cheapest(group: int) -> tuple[float, int] | None:
        """The lowest price at which units of a group can go, and how many are gone then."""
        found = [(count, costs.more(gone, group, count)) for count in choices[group] if count > gone[group]]
        errors = curves[group]
        asked = [(max(float(errors[n] - errors[gone[group]]), 0.0) / won, n) for n, won in found if won > 0]
        return min(asked, default=None)

    while saved < goal * (1 - _CLOSE):
        for group in range(len(curves)):
            if group not in prices:
                prices[group] = cheapest(group)
        offers = [(offer[0], group, offer[1]) for group, offer in prices.items() if offer is not None]
        if not offers:
            break
        _, group, count = min(offers)
        for fewer in choices[group]:  # no more than the goal asks for
            if gone[group] < fewer < count and saved + costs.more(gone, group, fewer) >= goal:
                count = fewer
                break
        gone[group] = count
        for other in costs.beside(group):
            prices.pop(other, None)
        saved = costs.saved(gone)
    return gone


def evenly(sizes: Sequence[int], choices: Sequence[Sequence[int]], costs: Costs, goal: float) -> list[int]:
    """For each group how many units go: the same share of each, as near as its multiple allows, until the goal."""
    shares = sorted({count / size for size, each in zip(sizes, choices, strict=True) for count in each})
    gone = [0] * len(sizes)
    for share in shares:
        gone = [
            max(count for count in each if count <= share * size + _CLOSE)
            for size, each in zip(sizes, choices, strict=True)
        ]
        if costs.saved(gone) >= goal * (1 - _CLOSE):
            break
    return gone
