"""What layers lose when inputs of theirs go in units, the rest making good for it as well as it can.

Of a layer that makes y from data x, with H = E[x x'] (damped) and the best weights W, taking away the inputs S and
fitting the others anew raises the mean squared error by tr(W_S' (H^-1_SS)^-1 W_S), and changes the others by
-H^-1_:S (H^-1_SS)^-1 W_S (Hassibi and Stork, "Optimal Brain Surgeon", NIPS 1992, for groups of inputs). Units go one
by one, cheapest first, and H^-1 is brought up to date after each, so that of two units which say the same
only one is seen as cheap to lose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.layer_fit import LayerFit, Sums
from graphopt.analysis.least_squares import LEAST, centred, damped

Array = np.ndarray[Any, Any]

_STEPS: Final = 256  # units go so many at a time that there are at most so many steps
_JUDGED: Final = 24  # how often the error is judged on the way

STEADYING: Final = 0.03
"""Share of each input's own energy that is added to it where what is learned from few samples is not to be taken at
its word."""

_LEAST: Final = 1e-9


@dataclass(frozen=True)
class Reading:
    """A layer that reads the units: `columns` [units, k] are its inputs that belong to each.

    `gram` [inputs, inputs] and `linear` [inputs, outputs] are the sides of its normal equations for each row of data,
    damped; `variance` is that of its results for each row.
    """

    columns: Array
    gram: Array
    linear: Array
    variance: float


Judge = Callable[[Sequence[Array]], float]
"""The error of weights [inputs, outputs], one for each layer, those of lost inputs zero."""


@dataclass(frozen=True)
class Removal:
    """Units in the order in which they go, and the error when that many are gone: `errors[n]` after n units, beyond
    the error with all of them, as a share of the variance of the results."""

    order: Array
    errors: Array


def reading(sums: Sums, weights: Array, has_bias: bool, columns: Array, damping: float) -> Reading:
    """What sums over data of a layer with one group tell of its units; `weights` [1, inputs, outputs]."""
    gram, linear = damped(*centred(sums, has_bias), weights, max(damping, LEAST))
    return Reading(columns, gram[0], linear[0], sums.variance / sums.count)


def steadied(sums: Sums, weights: Array, has_bias: bool, columns: Array) -> tuple[Reading, Judge]:
    """What sums tell of units where each input is damped by a share of its own energy, towards `weights` [inputs,
    outputs], and the squared error a row without that; errors are not shares."""
    gram, linear = (one[0] for one in centred(sums, has_bias))
    diagonal = np.maximum(np.diagonal(gram), 0.0)
    mean = float(diagonal.mean()) or 1.0
    ridge = STEADYING * np.maximum(diagonal, _LEAST * mean) + _LEAST * mean

    def missed(found: Sequence[Array]) -> float:
        return float((found[0] * (gram @ found[0] - 2 * linear)).sum())

    return Reading(columns, gram + np.diag(ridge), linear + ridge[:, None] * weights, 1.0), missed


def why_no_reading(seen: LayerFit, weights: Array) -> str | None:
    """Why what was seen of a layer tells nothing of its units, in a clause."""
    if seen.trouble is not None:
        return seen.trouble
    sums = seen.whole
    if sums is None or sums.gram.shape[0] != 1 or sums.cross.shape[1:] != (weights.shape[1] + 1, weights.shape[2]):
        return "no data of the size of its weight were seen"
    if not sums.finite or not np.isfinite(weights).all():
        return "its data, results or weights have NaN or infinities"
    return None if sums.variance > 0 else "its results do not vary"


def second_order(
    readings: Sequence[Reading],
    judge: Judge | None = None,
    count: int | None = None,
    steps: int = _STEPS,
    between: int = 0,
) -> Removal | str:
    """The units in the order in which the layers that read them lose least, or a clause.

    The errors of several layers, each as a share of its variance, are added. With a `judge`, the errors are those
    that it finds, now and then, of the weights of all layers as they are by then: after `between` steps, if given.
    `count` units go (None: all but one), in at most so many `steps`.
    """
    try:
        states = [_State.of(one) for one in readings]
    except np.linalg.LinAlgError:
        return "the Gram matrix of its data cannot be inverted: a larger damping may help"
    units = len(readings[0].columns)
    alive = np.ones(units, np.bool_)
    order, errors = list[int](), [0.0]
    judged = {0: judge([one.whole for one in states])} if judge is not None else {}
    step = -(-(units if count is None else count) // steps)
    every, last = step * between or max(units // _JUDGED, 1), units - 1 if count is None else count
    while (left := last - len(order)) > 0:
        there = np.flatnonzero(alive)
        losses = np.full(units, np.inf)
        losses[there] = np.sum([one.losses(there) for one in states], axis=0)
        going = np.argsort(losses, kind="stable")[: min(step, left)]
        alive[going] = False
        grown = sum(one.remove(going) for one in states)
        order += going.tolist()
        share = np.cumsum(losses[going])
        share *= grown / share[-1] if share[-1] > 0 else 0.0  # what they cost together, by what each costs alone
        errors += (errors[-1] + share).tolist()
        if judge is not None and (len(order) >= max(judged) + every or left == len(going)):
            judged[len(order)] = judge([one.whole for one in states])
    if judge is not None:
        points = sorted(judged)
        errors = np.interp(np.arange(last + 1), points, [judged[one] - judged[0] for one in points]).tolist()
    return Removal(np.array(order, np.int64), np.maximum.accumulate(np.maximum(errors, 0.0)))


@dataclass
class _State:
    """A layer from which units go: the inverse of its Gram matrix and its weights, for the inputs `places` that are
    left or went lately. Now and then those that went are dropped, since all that is done takes the square of them."""

    columns: Array
    inverse: Array
    weights: Array
    variance: float
    places: Array
    size: int
    left: Array

    @classmethod
    def of(cls, one: Reading) -> _State:
        """A layer with all its units. Raises numpy.linalg.LinAlgError where the sums are no use."""
        inverse = np.linalg.inv(one.gram)
        size = len(inverse)
        return cls(
            one.columns, inverse, inverse @ one.linear, one.variance, np.arange(size), size, np.ones(size, np.bool_)
        )

    @property
    def whole(self) -> Array:
        """The weights of all inputs, those of lost ones zero."""
        found = np.zeros((self.size, self.weights.shape[1]))
        found[self.places] = self.weights
        return found

    def losses(self, units: Array) -> Array:
        """What the loss of each of some units alone adds, as a share of the variance."""
        return _losses(self.columns[units], self.inverse, self.weights) / self.variance

    def remove(self, units: Array) -> float:
        """Take units out; what it adds, as a share of the variance."""
        which = self.columns[units].ravel()
        grown = _remove(which, self.inverse, self.weights)
        self.left[which] = False
        if np.count_nonzero(self.left) * 4 < len(self.left) * 3:
            self._drop()
        return grown / self.variance

    def _drop(self) -> None:
        """Forget the inputs that went."""
        left = self.left
        moved = np.maximum(np.cumsum(left) - 1, 0)
        self.columns = moved[self.columns]  # of units that went anything, since nobody asks for them
        self.inverse, self.weights = self.inverse[np.ix_(left, left)], self.weights[left]
        self.places, self.left = self.places[left], np.ones(np.count_nonzero(left), np.bool_)


def losing(one: Reading, packs: Sequence[Array]) -> list[Array]:
    """The best weights [inputs, outputs] of a layer without the units of each pack, those of lost inputs zero.

    Raises numpy.linalg.LinAlgError where the sums are no use.
    """
    inverse = np.linalg.inv(one.gram)
    whole = inverse @ one.linear
    found = []
    for pack in packs:
        columns = one.columns[pack].ravel()
        weights = whole - inverse[:, columns] @ np.linalg.solve(inverse[np.ix_(columns, columns)], whole[columns])
        weights[columns] = 0.0
        found.append(weights)
    return found


def _losses(columns: Array, inverse: Array, weights: Array) -> Array:
    """The mean squared error that the loss of each unit alone adds."""
    if columns.shape[1] == 1:
        which = columns[:, 0]
        found: Array = np.square(weights[which]).sum(1) / np.maximum(np.diag(inverse)[which], np.finfo(float).tiny)
        return found
    blocks = inverse[columns[:, :, None], columns[:, None, :]]
    gone = np.einsum("ukk->u", blocks) <= 0
    blocks[gone] = np.eye(columns.shape[1])
    rows = weights[columns]
    return np.asarray(np.einsum("uko,uko->u", rows, np.linalg.solve(blocks, rows)))


def _remove(columns: Array, inverse: Array, weights: Array) -> float:
    """Take inputs out, in place; the mean squared error that it adds."""
    block = inverse[np.ix_(columns, columns)]
    lost = np.linalg.solve(block, weights[columns])
    grown = float(np.einsum("ko,ko->", weights[columns], lost))
    side = inverse[:, columns].copy()
    weights -= side @ lost
    inverse -= side @ np.linalg.solve(block, side.T)
    inverse[columns], inverse[:, columns], weights[columns] = 0.0, 0.0, 0.0
    return max(grown, 0.0)
