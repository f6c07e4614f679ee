"""Least squares with some weights held at zero, for layers that are sparse.

Each output has inputs of its own then, and a matrix of its own to invert. Conjugate gradients on the free weights of
all outputs together need only products with the one Gram matrix there is; each step makes the error smaller, so they
may stop at any time (Hestenes and Stiefel, 1952; the diagonal for a preconditioner).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

_FEW: Final = 8  # one of so many inputs held, at the most, and weights are solved for at once
_STEPS: Final = 100
_ENOUGH: Final = 1e-5  # of the first gradient that may be left


def held(gram: Array, linear: Array, weights: Array, free: Array) -> Array:
    """Weights [groups, inputs, outputs] that are as they were where not `free` (bool), and best where they are.

    Where few are held, each output's are found from the best ones without that (with Lagrange's multipliers, as in
    Optimal Brain Surgeon): v - H^-1_:S (H^-1_SS)^-1 (v - w)_S. Else all are descended to. Raises
    numpy.linalg.LinAlgError where a matrix is no use.
    """
    if (~free).sum(1).max(initial=0) * _FEW > free.shape[1]:
        return descended(gram, linear, weights, free)
    found = np.linalg.solve(gram, linear)
    for group in range(len(free)):
        if free[group].all():
            continue
        inverse = np.linalg.inv(gram[group])
        for output in np.flatnonzero(~free[group].all(0)):
            kept = np.flatnonzero(~free[group, :, output])
            apart = found[group, kept, output] - weights[group, kept, output]
            found[group, :, output] -= inverse[:, kept] @ np.linalg.solve(inverse[np.ix_(kept, kept)], apart)
            found[group, kept, output] = weights[group, kept, output]
    return found


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
