"""The directions in which the results of a layer vary most: what a layer of few ranks should keep.

Of all matrices of rank r in place of W, W V V' misses W x least in the mean square over the data seen, where the
columns of V are the r eigenvectors of largest eigenvalue of W' H W, with the second moments H of the data: the
covariance of the results. The error is the sum of the other eigenvalues (Eckart and Young 1936, for W whitened by the
data). With a bias, moments are taken about the mean, and the bias makes the means right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from graphopt.analysis.layer_fit import Sums
from graphopt.analysis.least_squares import centred

Array = np.ndarray[Any, Any]

TRIED: Final = (0.001, 0.01, 0.1, 1.0)
"""Shares of the mean energy of the inputs that are tried in place of what few samples do not show."""


def principal(gram: Array, weights: Array) -> tuple[Array, Array]:
    """Eigenvalues of W' H W, largest first, and eigenvectors [outputs, ranks], for W [inputs, outputs].

    As many as the smaller of inputs and outputs. Raises LinAlgError where H is no use.
    """
    inputs, outputs = weights.shape
    if outputs <= inputs:
        values, vectors = np.linalg.eigh(weights.T @ gram @ weights)
        return np.maximum(values[::-1], 0), vectors[:, ::-1]
    # H = L L', and W' H W has the eigenvalues of the smaller matrix L' W W' L.
    tiny = np.finfo(np.float64).eps * max(float(np.trace(gram)), np.finfo(np.float64).tiny)
    lower = np.linalg.cholesky(gram + tiny * np.eye(inputs))
    values, vectors = np.linalg.eigh(lower.T @ (weights @ weights.T) @ lower)
    made = weights.T @ lower @ vectors[:, ::-1]
    return np.maximum(values[::-1], 0), np.linalg.qr(made)[0]


def held(gram: Array, share: float) -> Array:
    """H with `share` of its mean diagonal added: a weight counts for inputs, too, that few samples did not show."""
    return np.asarray(gram + share * np.trace(gram) / max(len(gram), 1) * np.eye(len(gram)))


def left(gram: Array, weights: Array, basis: Array) -> Array:
    """What is not in the first r columns of a basis, for r from 0 to all: shares of the energy of W x."""
    kept = weights @ basis
    total = float(np.einsum("io,io->", weights, gram @ weights))
    energy = np.einsum("ir,ir->r", kept, gram @ kept)
    shares = np.concatenate([[0.0], np.cumsum(energy)]) / total if total > 0 else np.zeros(len(energy) + 1)
    return np.asarray(np.clip(1 - shares, 0, 1))


def foreseen(
    halves: Sequence[Sums | None], weights: Array, has_bias: bool, damping: float = 0.0
) -> tuple[float, Array]:
    """The best damping, unless one is given, and the error that each rank will make on data like those seen: bases of
    one half of the samples tried on the other, in the mean of both ways."""
    moments = [centred(one, has_bias)[0][0] for one in halves if one is not None]
    pairs = [(moments[0], moments[1]), (moments[1], moments[0])] if len(moments) == 2 else [(moments[0], moments[0])]
    best: tuple[float, float, Array] | None = None
    for share in (damping,) if damping else TRIED:
        curve = np.mean([left(other, weights, principal(held(one, share), weights)[1]) for one, other in pairs], axis=0)
        error = float(curve[len(curve) // 4 :].sum())
        if best is None or error < best[0]:
            best = error, share, curve
    assert best is not None, "something was tried"
    return best[1], best[2]


def factors(sums: Sums, weights: Array, bias: Array, has_bias: bool, damping: float, rank: int) -> tuple[Array, ...]:
    """A [inputs, rank] and B [rank, outputs] whose product comes nearest to W on the data, and the bias beside them."""
    gram = centred(sums, has_bias)[0][0]
    basis = principal(held(gram, damping), weights)[1][:, :rank]
    first, second = weights @ basis, basis.T
    if has_bias:
        mean = sums.gram[0, :-1, -1] / sums.count
        bias = bias + mean @ (weights - first @ second)
    return first, second, bias
