"""How many weights each layer loses, so that the errors of all layers together are least.

What a layer's error is, as a share of its results, is measured at a few sparsities; between them it is taken to grow
by an equal factor from step to step. The layer whose error grows least for the next weight then loses it, until there
are enough zeros: best for the sum of errors, where the error of a layer grows faster the more it has lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

SHARES: Final = (0.4, 0.6, 0.8)
"""Sparsities at which errors are measured."""

_STEPS = 200
_FIRST = 0.01  # the error with no zeros, as a share of that at the first of the sparsities


def allocated(units: Sequence[int], errors: Sequence[Sequence[float]], total: int) -> list[int]:
    """How many of its `units` each layer is to lose, `total` together; `errors` are those at `SHARES`."""
    if not units:
        return []
    slopes = [np.diff(_convex(_curve(one))) / max(count, 1) for count, one in zip(units, errors, strict=True)]
    layers = np.repeat(np.arange(len(units)), _STEPS)
    left, lost = min(total, sum(units)), [0] * len(units)
    taken = [0] * len(units)
    steps = np.tile(np.arange(_STEPS), len(units))  # of equal slopes, as on a straight line, all layers take turns
    order = np.lexsort((steps, np.concatenate(slopes).astype(np.float32)))
    for layer in layers[order].tolist():
        taken[layer] += 1
        more = min(units[layer] * taken[layer] // _STEPS - lost[layer], left)
        lost[layer] += more
        left -= more
    return lost


def _curve(errors: Sequence[float]) -> Array:
    """Errors at `_STEPS` + 1 sparsities from 0 to 1, where nothing is left of the results."""
    known = np.maximum.accumulate(np.clip(np.asarray(errors, np.float64), 1e-12, 1.0))
    places = np.array([0.0, *SHARES, 1.0])
    values = np.array([known[0] * _FIRST, *known, 1.0])
    return np.asarray(np.exp(np.interp(np.linspace(0, 1, _STEPS + 1), places, np.log(values))))


def _convex(curve: Array) -> Array:
    """The largest convex function that is nowhere above the curve."""
    hull = [0]
    for at in range(1, len(curve)):
        while len(hull) > 1:
            one, two = hull[-2], hull[-1]
            if (curve[two] - curve[one]) * (at - one) < (curve[at] - curve[one]) * (two - one):
                break
            hull.pop()
        hull.append(at)
    return np.interp(np.arange(len(curve)), hull, curve[hull])
