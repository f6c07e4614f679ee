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


def counts(size: int, multiple: int, most: float) -> list[int]:
    """How many units of a group may go, ascending, none first: what is left is a multiple, and not less than a share
    `1 - most`."""
    step = step_of(size, multiple)
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
    while saved < goal * (1 - _CLOSE):
        best: tuple[float, int, int] | None = None
        for group, curve in enumerate(curves):
            for count in choices[group]:
                if count <= gone[group]:
                    continue
                won = costs.more(gone, group, count)
                if won <= 0:
                    continue
                price = max(float(curve[count] - curve[gone[group]]), 0.0) / won
                if best is None or price < best[0]:
                    best = (price, group, count)
        if best is None:
            break
        _, group, count = best
        for fewer in choices[group]:  # no more than the goal asks for
            if gone[group] < fewer < count and saved + costs.more(gone, group, fewer) >= goal:
                count = fewer
                break
        gone[group] = count
        saved = costs.saved(gone)
    return gone


def evenly(sizes: Sequence[int], choices: Sequence[Sequence[int]], costs: Costs, goal: float) -> list[int]:
    """For each group how many units go: the same share of each, as near as its multiple allows, until the goal."""
    shares = sorted({count / size for size, each in zip(sizes, choices, strict=True) for count in each if count})
    gone = [0] * len(sizes)
    for share in shares:
        gone = [
            max(count for count in each if count <= share * size + _CLOSE)
            for size, each in zip(sizes, choices, strict=True)
        ]
        if costs.saved(gone) >= goal * (1 - _CLOSE):
            break
    return gone
