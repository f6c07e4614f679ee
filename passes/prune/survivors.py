"""The weights that stay, moved so that they make up for those that are gone.

With the Gram matrix H of the inputs of a layer and l of inputs and wanted results, weights v that are zero wherever
`mask` says so miss the results by v' H v - 2 v' l. Each output is a least squares problem of its own in the weights
that it keeps (the update of Optimal Brain Surgeon, Hassibi and Stork 1992, for all removed weights together). All
are solved at once by conjugate gradients, whose steps are products with H: outputs keep different weights, and no
matrix is inverted for each (Meng et al., "ALPS", 2024, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from graphopt.analysis.layer_fit import Sums
from graphopt.analysis.least_squares import centred, matching_bias

Array = np.ndarray[Any, Any]

TRIED: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Shares of damping that are tried where none is given."""

_OUTPUTS = 64  # outputs on which a damping is chosen
_STEPS = 200
_TRIAL_STEPS = 25
_NEAR = 1e-9  # share of the first squared gradient at which a solution is near enough


def held(gram: Array, linear: Array, weights: Array, share: float) -> tuple[Array, Array]:
    """Both sides of the normal equations with `share` of the mean energy of the inputs of a group pulling towards
    `weights`; of all groups, where those of one were never seen."""
    mean = np.einsum("gkk->g", gram) / max(gram.shape[1], 1)
    mean = np.where(mean > 0, mean, max(mean.mean(), 0.0) or 1.0)
    # An input that never changes may come out below zero once its mean is taken off: sums are of float32 products.
    below = np.maximum(-np.einsum("gkk->gk", gram).min(axis=1, initial=0.0), 0.0)
    more = (share * mean + 2 * below)[:, None, None]
    return gram + more * np.eye(gram.shape[1]), linear + more * weights


def refitted(gram: Array, linear: Array, mask: Array, start: Array, steps: int = _STEPS) -> Array:
    """Weights [groups, inputs, outputs] that are zero under `mask`, with the least squared error, from `start` on."""
    scale = 1 / np.einsum("gkk->gk", gram)[:, :, None]
    values = np.where(mask, 0, start)
    rest = np.where(mask, 0, linear - gram @ values)
    ahead = scale * rest
    along = np.einsum("gko,gko->go", rest, ahead)[:, None]
    near = _NEAR * along.max(initial=0.0)
    for _ in range(steps):
        if not along.max(initial=0.0) > near:
            break
        pushed = np.where(mask, 0, gram @ ahead)
        curved = np.einsum("gko,gko->go", ahead, pushed)[:, None]
        step = np.divide(along, curved, out=np.zeros_like(along), where=curved > 0)
        values += step * ahead
        rest -= step * pushed
        scaled = scale * rest
        after = np.einsum("gko,gko->go", rest, scaled)[:, None]
        ahead *= np.divide(after, along, out=np.zeros_like(along), where=along > 0)
        ahead += scaled
        along = after
    return values


def damping_of(
    halves: Sequence[Sums | None], weights: Array, bias: Array, has_bias: bool, share: float, tried: Sequence[float]
) -> float:
    """Of `tried`, the damping with which pruned weights fitted to one half of the samples miss least of the other.

    For the choice, each output loses the `share` of its weights of least activation. Some outputs stand for all.
    """
    first, second = halves
    if first is None or second is None:
        return tried[-1]
    outputs = np.unique(np.linspace(0, weights.shape[2] - 1, min(_OUTPUTS, weights.shape[2])).astype(np.int64))
    some, offset = weights[:, :, outputs], bias[:, outputs]
    missed = dict.fromkeys(tried, 0.0)
    halved = [_of(outputs, one) for one in (first, second)]
    for one, other in (halved, halved[::-1]):
        gram, linear = centred(one, has_bias)
        for damping in tried:
            ridge, wanted = held(gram, linear, some, damping)
            scores = np.square(some) * np.einsum("gkk->gk", ridge)[:, :, None]
            count = int(share * some.shape[1] + 0.5)
            order = np.argsort(scores, axis=1, kind="stable")[:, :count]
            mask = np.zeros(some.shape, np.bool_)
            np.put_along_axis(mask, order, True, axis=1)
            short = ridge.astype(np.float32), wanted.astype(np.float32)
            values = refitted(*short, mask, some.astype(np.float32), _TRIAL_STEPS).astype(np.float64)
            made = matching_bias(one, values) if has_bias else offset
            missed[damping] += other.missed(np.concatenate([values, made[:, None]], axis=1))
    return min(tried, key=lambda damping: missed[damping])


def _of(outputs: Array, sums: Sums) -> Sums:
    return Sums(sums.count, sums.gram, sums.cross[:, :, outputs], sums.energy[:, outputs])
