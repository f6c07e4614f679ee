"""Weights and a bias that bring a layer nearest to results that are given, with a pull towards those there are.

With sums over rows x of data and y of results (see `layer_fit`), W and b that minimise the sum of |W x + b - y|^2
solve the normal equations. Taken alone they follow few calibration samples too closely, so a share of the mean
energy of the inputs is added to the diagonal, pulling towards the weights as they are (ridge regression, Hoerl and
Kennard 1970, centred at the present weights); of several shares the one is best with which weights fitted to one half
of the samples miss least of the other half. Arrays are float64 with axes [groups, inputs, outputs].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.layer_fit import LayerFit, Sums
from graphopt.analysis.masked_least_squares import held

Array = np.ndarray[Any, Any]

TRIED: Final = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
"""Shares that are tried where none is given."""

TRIED_MASKED: Final = (0.001, 0.01, 0.1, 1.0, 10.0)
"""The same where weights are held at zero, which takes longer."""

NO_BETTER: Final = "its error on the calibration feeds would not get smaller"

_COLUMNS: Final = 64  # outputs of each group by which a damping is chosen where weights are held at zero

LEAST: Final = 1e-9
"""Damping without which a matrix may not be invertible in float64."""


@dataclass(frozen=True)
class Fit:
    """Weights [groups, inputs, outputs] and biases [groups, outputs]; errors are shares of the variance of y,
    on all rows that were seen, with the old weights and with these."""

    weights: Array
    bias: Array
    before: float
    after: float
    damping: float

    @property
    def text(self) -> str:
        """How good it is, for a remark."""
        return (
            f"error {decibels(self.before)} dB below its result before, {decibels(self.after)} dB after, "
            f"damping {self.damping:g}"
        )


def damped(gram: Array, linear: Array, weights: Array, share: float) -> tuple[Array, Array]:
    """Both sides of the normal equations with `share` of the mean diagonal pulling towards `weights`.

    Inputs that were never seen are pulled by the mean of the others.
    """
    diagonal = np.einsum("gkk->gk", gram)
    ridge = share * diagonal.mean(1, keepdims=True)
    ridge = np.where(ridge > 0, ridge, 1.0)
    seen = np.maximum(diagonal.mean(1, keepdims=True), ridge)
    more = np.where(diagonal > 0, ridge, seen)
    made = gram.copy()
    np.einsum("gkk->gk", made)[...] += more
    return made, linear + more[:, :, None] * weights


def centred(sums: Sums, has_bias: bool) -> tuple[Array, Array]:
    """Both sides of the normal equations per row; with a bias, the means are taken out."""
    gram, linear = sums.gram[:, :-1, :-1] / sums.count, sums.cross[:, :-1] / sums.count
    if has_bias:
        mean, result = sums.gram[:, :-1, -1] / sums.count, sums.cross[:, -1] / sums.count
        gram = gram - mean[:, :, None] * mean[:, None, :]
        linear = linear - mean[:, :, None] * result[:, None, :]
    return gram, linear


def matching_bias(sums: Sums, weights: Array) -> Array:
    """The bias that makes the mean of every output right [groups, outputs]."""
    return np.asarray((sums.cross[:, -1] - np.einsum("gk,gko->go", sums.gram[:, :-1, -1], weights)) / sums.count)


def best_damping(
    seen: LayerFit,
    weights: Array,
    bias: Array,
    has_bias: bool,
    tried: Sequence[float] = TRIED,
    free: Array | None = None,
) -> float:
    """Of `tried`, the share with which what is fitted to one half of the samples misses least of the other.

    With weights held at zero some outputs stand for all, and fewer shares are tried. Raises numpy.linalg.LinAlgError
    where a matrix is no use.
    """
    first, second = seen.halves
    if free is not None:
        tried = TRIED_MASKED
    if first is None or second is None:
        return tried[-1]
    if free is not None:
        some = np.arange(0, weights.shape[2], max(weights.shape[2] // _COLUMNS, 1))
        first, second = first.of_outputs(some), second.of_outputs(some)
        weights, bias, free = weights[:, :, some], bias[:, some], free[:, :, some]
    missed = dict.fromkeys(tried, 0.0)
    for one, other in ((first, second), (second, first)):
        gram, linear = centred(one, has_bias)
        for share in tried:
            values = _solved(*damped(gram, linear, weights, share), weights, free)
            made = matching_bias(one, values) if has_bias else bias
            missed[share] += other.missed(np.concatenate([values, made[:, None, :]], axis=1))
    return min(tried, key=lambda share: missed[share])


def fitted(
    seen: LayerFit,
    weights: Array,
    bias: Array,
    has_bias: bool,
    damping: float = 0.0,
    free: Array | None = None,
    scale: Array | None = None,
) -> Fit | str:
    """The weights and bias nearest to the results seen, or a clause that says why there are none better.

    `weights` [groups, inputs, outputs] and `bias` [groups, outputs] are those there are; without `has_bias` the bias
    stays as it is. A `damping` of 0 finds the best. Where `free` (bool, of the shape of the weights) is False they
    stay as they are. The error of each output counts times the square of `scale` [groups, outputs], by which a
    damping is chosen and the whole is judged. No squared error on the rows seen ever grows.
    """
    if seen.trouble is not None:
        return seen.trouble
    if scale is not None and all(one is None or one.energy.shape == scale.shape for one in seen.halves):
        seen, weights, bias = seen.scaled(scale), weights * scale[:, None], bias * scale
    else:
        scale = None
    sums = seen.whole
    if sums is None or sums.cross.shape[1:] != (weights.shape[1] + 1, weights.shape[2]):
        return "no data of the size of its weight were seen"
    if not sums.finite:
        return "its data or results have NaN or infinities"
    if free is not None and not free.any():
        return "all its weights are zero"
    before = sums.error(np.concatenate([weights, bias[:, None, :]], axis=1))
    try:
        share = damping or best_damping(seen, weights, bias, has_bias, free=free)
        values = _solved(*damped(*centred(sums, has_bias), weights, max(share, LEAST)), weights, free)
    except np.linalg.LinAlgError:
        return "the Gram matrix of its data cannot be inverted: a larger damping may help"
    made = matching_bias(sums, values) if has_bias else bias
    after = sums.error(np.concatenate([values, made[:, None, :]], axis=1))
    if not after < before:
        return NO_BETTER
    if scale is not None:
        values, made = values / scale[:, None], made / scale
    return Fit(values, made, before, after, share)


def _solved(gram: Array, linear: Array, weights: Array, free: Array | None) -> Array:
    return np.linalg.solve(gram, linear) if free is None else held(gram, linear, weights, free)


def decibels(share: float) -> str:
    """A share of the variance as decibels below it."""
    return f"{-10 * np.log10(share):.1f}" if share > 0 else "infinitely many"
