"""The influence of each weight of a layer on its results, over the data that were seen.

All are shares of the squared results (less their mean) of the whole layer, so that they can be compared between layers.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from graphopt.analysis.layer_fit import Sums
from graphopt.analysis.least_squares import centred
from passes.prune.survivors import held

Array = np.ndarray[Any, Any]
Importance = Literal["magnitude", "activation", "second-order"]


def by_magnitude(weights: Array) -> Array:
    """The square of each weight, as a share of the sum of all."""
    squares = np.square(weights)
    total = float(squares.sum())
    return squares / total if 0 < total < np.inf else squares


def by_activation(weights: Array, sums: Sums) -> Array:
    """What each weight adds to the results: the square of the weight times that of its input, summed over rows
    (Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024: Wanda)."""
    energy = np.einsum("gkk->gk", sums.gram)[:, :-1, None]
    return np.asarray(np.square(weights) * energy / _total(sums))


def by_second_order(weights: Array, sums: Sums, has_bias: bool, damping: float) -> Array:
    """What removing each weight adds to the squared error once all others have made up for it: w^2 / [H^-1]_ii
    (Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS 1992)."""
    gram, linear = centred(sums, has_bias)
    inverse = np.linalg.inv(held(gram, linear, weights, damping)[0])
    alone = np.einsum("gkk->gk", gram)[:, :, None]  # damping must not make an influence larger than without others
    left = np.minimum(1 / np.einsum("gkk->gk", inverse)[:, :, None], alone)
    return np.asarray(np.square(weights) * left * sums.count / _total(sums))


def _total(sums: Sums) -> float:
    return sums.variance if sums.variance > 0 else 1.0
