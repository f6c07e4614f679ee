"""Which units of what a layer reads can go at least cost, when the weights that are left make up for them.

With sums over rows x of what the layer reads and y of what it should make (see `layer_fit`), the weights W that
miss least are known in closed form, and so is what it costs to do without the inputs of a unit u, all other
weights changing as is best: the trace of W_u' (H_uu)^-1 W_u, where H is the inverse of the Gram matrix (Hassibi and
Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", 1992, for more weights than one). Units
go one after the other, the cheapest first, W and H following each time, so that of two units that say the same only
one is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.layer_fit import LayerFit, Sums
from graphopt.analysis.least_squares import centred

Array = np.ndarray[Any, Any]

STEADYING: Final = 0.03
"""Share of each input's own energy that is added to it: what is learned from few samples is not taken at its word."""

_ROUNDS = 96  # units that are removed are taken in at most so many rounds
_EVERY = 12  # rounds after which the error is computed, where it is asked for
_LEAST = 1e-9


@dataclass(frozen=True)
class Order:
    """Units in the order in which they go, and the squared error a row that each adds, where that was asked for."""

    units: Array
    costs: Array


def removal(sums: Sums, weights: Array, has_bias: bool, positions: Array, count: int, priced: bool = False) -> Order:
    """The order in which `count` units go, and what they cost if they are to be `priced`.

    `weights` float64 [inputs, outputs] are those there are, which the solution is pulled towards; `positions`
    [units, k] are the inputs of each unit. Raises numpy.linalg.LinAlgError where the sums are no use.
    """
    gram, linear = (one[0] for one in centred(sums, has_bias))
    diagonal = np.maximum(np.diagonal(gram), 0.0)
    mean = float(diagonal.mean()) or 1.0
    ridge = STEADYING * np.maximum(diagonal, _LEAST * mean) + _LEAST * mean
    inverse = np.linalg.inv(gram + np.diag(ridge))
    found = inverse @ (linear + ridge[:, None] * weights)
    alive = np.ones(len(positions), np.bool_)
    units, most = np.zeros(0, np.int64), -(-count // _ROUNDS)
    marks, errors = [0], [_missed(gram, linear, found) if priced else 0.0]
    for turn in range(1, _ROUNDS + 1):
        if len(units) == count:
            break
        each = np.where(alive, _costs(inverse, found, positions), np.inf)
        chosen = np.argsort(each, kind="stable")[: min(most, count - len(units))]
        gone = positions[chosen].reshape(-1)
        solved = np.linalg.solve(inverse[np.ix_(gone, gone)], np.concatenate([inverse[gone], found[gone]], axis=1))
        found -= inverse[:, gone] @ solved[:, len(inverse) :]
        inverse -= inverse[:, gone] @ solved[:, : len(inverse)]
        found[gone] = 0.0
        inverse[gone] = 0.0
        inverse[:, gone] = 0.0
        inverse[gone, gone] = 1.0
        alive[chosen] = False
        units = np.concatenate([units, chosen])
        if priced and (turn % _EVERY == 0 or len(units) == count):
            marks.append(len(units))
            errors.append(_missed(gram, linear, found))
    return Order(units, np.diff(np.interp(np.arange(len(units) + 1), marks, np.maximum.accumulate(errors))))


def _missed(gram: Array, linear: Array, weights: Array) -> float:
    """The squared error a row of `weights`, less what does not depend on them."""
    return float((weights * (gram @ weights - 2 * linear)).sum())


def _costs(inverse: Array, weights: Array, positions: Array) -> Array:
    """What each unit costs now."""
    if positions.shape[1] == 1:
        at = positions[:, 0]
        return np.asarray(np.square(weights[at]).sum(1) / np.maximum(np.diagonal(inverse)[at], 1e-300))
    blocks = inverse[positions[:, :, None], positions[:, None, :]]
    mine = weights[positions]
    return np.asarray((mine * np.linalg.solve(blocks, mine)).sum((1, 2)))


def without(seen: LayerFit, inputs: Array) -> LayerFit:
    """The sums of a layer that reads only `inputs` (ascending), in one group."""
    made = LayerFit(seen.rows, seen.most, seen.kept)
    made.trouble = seen.trouble
    made.halves = [None if half is None else _restricted(half, inputs) for half in seen.halves]
    return made


def _restricted(sums: Sums, inputs: Array) -> Sums:
    kept = np.append(inputs, sums.gram.shape[1] - 1)
    return Sums(sums.count, sums.gram[:, kept[:, None], kept], sums.cross[:, kept], sums.energy)
