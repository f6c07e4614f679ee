"""Which weights of a layer to remove, found for all of them together while the others make up for it.

The problem is to minimise v' H v - 2 v' l over weights v with so many zeros. It is split in two that are both easy:
weights x that need not be zero anywhere, a least squares problem, and weights z that need not fit anything, the
nearest to x that have the zeros. A penalty on x - z that grows from round to round brings them together (the
alternating direction method of multipliers, ADMM). Removing the weights of least w^2 / [H^-1]_ii, the influence of
Optimal Brain Surgeon, one after the other ends in about the same place, but costs a matrix for each output.

Source: Meng, Behdin, Wang, Mazumder, "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large
Language Models", NeurIPS 2024. Boza, "Fast and Effective Weight Update for Pruned Large Language Models", TMLR 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from passes.prune.survivors import refitted

Array = np.ndarray[Any, Any]

_FIRST = 0.06  # penalty at first, as a share of the mean curvature
_ROUNDS = 3  # with one penalty
_STEPS = 30  # of conjugate gradients, to compare masks by
_EXCHANGES = 8
_GAIN = 1e-6  # of the squared results, below which one error is no smaller than another in float32
_GROWTH = ((0.02, 1.3), (0.005, 1.2), (0.0, 1.1))
"""By how much the penalty grows, where more than this share of the zeros moved since the last time."""


def searched(gram: Array, linear: Array, weights: Array, choose: Callable[[Array], Array], most: int = 60) -> Array:
    """The mask of zeros [groups, inputs, outputs], for a positive definite H [groups, inputs, inputs].

    `choose` gives a mask for scores, as `Choice.mask` does. Inputs are scaled to curvature 1, so that the square of
    a weight is what it does alone. float32: only the mask is used. Raises LinAlgError where H is no use.
    """
    scale = np.sqrt(np.einsum("gkk->gk", gram))[:, :, None]
    curvature, basis = np.linalg.eigh(gram / scale / scale.transpose(0, 2, 1))
    curvature, basis = np.maximum(curvature, 0).astype(np.float32)[:, :, None], basis.astype(np.float32)
    wanted, values = (linear / scale).astype(np.float32), (weights * scale).astype(np.float32)
    # Sizes of weights would over- or underflow the penalty's arithmetic where they are extreme.
    size = np.float32(np.abs(values).max(initial=0.0)) or np.float32(1)
    wanted, values = wanted / size, values / size
    mask = before = choose(np.square(values))
    sparse, pull = np.where(mask, 0, values), np.zeros_like(values)
    penalty = np.float32(_FIRST)
    for number in range(most):
        if number % _ROUNDS == 0:
            solve = _solver(basis, curvature + penalty, values.shape[2])
        free = solve(wanted - pull + penalty * sparse)
        shifted = free + pull / penalty
        mask = choose(np.square(shifted))
        sparse = np.where(mask, 0, shifted)
        pull += penalty * (free - sparse)
        if number % _ROUNDS == _ROUNDS - 1:
            moved = float(np.mean(before != mask))
            if moved == 0 and number >= _ROUNDS:
                break
            penalty *= np.float32(next(growth for least, growth in _GROWTH if moved >= least))
            before = mask
    return mask


def improved(
    gram: Array, linear: Array, weights: Array, masks: Sequence[Array], choose: Callable[[Array], Array]
) -> Array:
    """The best of some masks once the survivors have made up for it, with weights exchanged while that helps.

    A weight that is gone would lower the error by the square of its gradient over its curvature, were it let back
    alone; one that stays costs its own square times that. Those that cost most stay, if the error is then smaller.
    """
    short = gram.astype(np.float32), linear.astype(np.float32)
    curvature = np.einsum("gkk->gk", short[0])[:, :, None]

    def fit(mask: Array, start: Array) -> tuple[float, Array, Array]:
        values = refitted(*short, mask, start.astype(np.float32), _STEPS)
        pushed = short[0] @ values
        return float(np.einsum("gko,gko->", values, pushed - 2 * short[1], dtype=np.float64)), values, pushed

    found = [(fit(mask, weights), mask) for mask in masks]
    (loss, values, pushed), mask = min(found, key=lambda one: one[0][0])
    for _ in range(_EXCHANGES):
        shifted = values + np.where(mask, (short[1] - pushed) / curvature, 0)
        other = choose(np.square(shifted) * curvature)
        if np.array_equal(other, mask):
            break
        after = fit(other, values)
        if not after[0] < loss - _GAIN * abs(loss):
            break
        (loss, values, pushed), mask = after, other
    return mask


def _solver(basis: Array, curvature: Array, outputs: int) -> Callable[[Array], Array]:
    """Products with the inverse of the matrix of these eigenvectors and eigenvalues."""
    turned = basis.transpose(0, 2, 1)
    if outputs > basis.shape[1]:
        inverse = (basis / curvature.transpose(0, 2, 1)) @ turned
        return lambda values: np.asarray(inverse @ values)
    return lambda values: np.asarray(basis @ ((turned @ values) / curvature))
