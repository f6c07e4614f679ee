"""Least squares with some weights held at zero, for layers that are sparse.

Each output has inputs of its own then, and a matrix of its own to invert. Conjugate gradients on the free weights of
all outputs together need only products with the one Gram matrix there is; each step makes the error smaller, so they
may stop at any time (Hestenes and Stiefel, 1952; the diagonal for a preconditioner).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from graphopt.analysis.layer_fit import LayerFit, Sums
from graphopt.analysis.least_squares import LEAST, Fit, centred, damped, matching_bias

Array = np.ndarray[Any, Any]

TRIED: Final = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Shares that are tried where none is given."""

_STEPS: Final = 100
_ENOUGH: Final = 1e-5  # of the first gradient that may be left
_COLUMNS: Final = 64  # outputs of each group by which the damping is chosen


def fitted_where(
    seen: LayerFit, weights: Array, bias: Array, free: Array, has_bias: bool, damping: float = 0.0
) -> Fit | str:
    """As `least_squares.fitted`, but weights where `free` (bool, of their shape) is False stay as they are."""
    if seen.trouble is not None:
        return seen.trouble
    sums = seen.whole
    if sums is None or sums.cross.shape[1:] != (weights.shape[1] + 1, weights.shape[2]):
        return "no data of the size of its weight were seen"
    if not sums.finite:
        return "its data or results have NaN or infinities"
    if not free.any():
        return "all its weights are zero"
    before = sums.error(np.concatenate([weights, bias[:, None, :]], axis=1))
    share = damping or _best(seen, weights, bias, free, has_bias)
    values = descended(*damped(*centred(sums, has_bias), weights, max(share, LEAST)), weights, free)
    made = matching_bias(sums, values) if has_bias else bias
    after = sums.error(np.concatenate([values, made[:, None, :]], axis=1))
    if not after < before:
        return "its error on the calibration feeds would not get smaller"
    return Fit(values, made, before, after, share)


def descended(gram: Array, linear: Array, weights: Array, free: Array) -> Array:
    """Weights [groups, inputs, outputs] with gram @ weights = linear where they are free, starting at `weights`."""
    found = weights.copy()
    inverse = 1.0 / np.maximum(np.einsum("gkk->gk", gram), 1e-300)[:, :, None]
    left = np.where(free, linear - gram @ found, 0.0)
    towards = inverse * left
    way = towards.copy()
    now = (left * towards).sum(1, keepdims=True)
    enough = now * _ENOUGH**2
    for _ in range(_STEPS):
        if not (now > enough).any():
            break
        along = np.where(free, gram @ way, 0.0)
        bend = (way * along).sum(1, keepdims=True)
        step = np.where(bend > 0, now / np.where(bend > 0, bend, 1.0), 0.0)
        found += step * way
        left -= step * along
        towards = inverse * left
        then = (left * towards).sum(1, keepdims=True)
        way = towards + np.where(now > 0, then / np.where(now > 0, now, 1.0), 0.0) * way
        now = then
    return found


def _best(seen: LayerFit, weights: Array, bias: Array, free: Array, has_bias: bool) -> float:
    """Of `TRIED`, the share with which what is fitted to one half of the samples misses least of the other."""
    first, second = seen.halves
    if first is None or second is None:
        return TRIED[-1]
    some = np.arange(0, weights.shape[2], max(weights.shape[2] // _COLUMNS, 1))
    first, second = _outputs(first, some), _outputs(second, some)
    weights, bias, free = weights[:, :, some], bias[:, some], free[:, :, some]
    missed = dict.fromkeys(TRIED, 0.0)
    for one, other in ((first, second), (second, first)):
        gram, linear = centred(one, has_bias)
        for share in TRIED:
            values = descended(*damped(gram, linear, weights, share), weights, free)
            made = matching_bias(one, values) if has_bias else bias
            missed[share] += other.missed(np.concatenate([values, made[:, None, :]], axis=1))
    return min(TRIED, key=lambda share: missed[share])


def _outputs(sums: Sums, which: Array) -> Sums:
    return Sums(sums.count, sums.gram, sums.cross[:, :, which], sums.energy[:, which])
