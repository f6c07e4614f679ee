"""One layer fitted to what it made in the original model, on the data that it reads now: what is best, and its words.

A layer never gets a larger error on the calibration feeds, and weights that are zero stay zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from graphopt.analysis.activations import Moments, Observation
from graphopt.analysis.asker import Asker
from graphopt.analysis.float_layers import FloatLayer
from graphopt.analysis.layer_fit import LayerFit
from graphopt.analysis.layer_goals import Goal
from graphopt.analysis.least_squares import NO_BETTER, Fit, fitted

Array = np.ndarray[Any, Any]

FAITHFUL: Final = 1e-6
"""A layer whose result is no further from the original's than this share of its variance needs no repair: sums of
float32 products cannot tell smaller errors."""

SAME: Final = "it gives what it gave in the original"

_FLAT: Final = 0.01  # of the median variance below which channels are taken for alike


def best(
    layer: FloatLayer, seen: LayerFit, damping: float, scale: Array | None = None, inputs: Array | None = None
) -> Fit | str:
    """Weights and bias of the layer as they will be stored, or a clause on why those that there are stay.

    With `inputs`, those of a layer that reads only these, as `seen` did. `scale` is that of `least_squares.fitted`.
    """
    weights, bias = layer.weights() if inputs is None else layer.weights()[:, inputs], layer.bias()
    zeros = weights == 0
    found = fitted(seen, weights, bias, layer.has_bias, damping, ~zeros if zeros.any() else None, scale)
    if isinstance(found, str):
        return found
    if found.before <= FAITHFUL:
        return SAME
    return as_stored(layer, seen, found, scale)


def as_stored(layer: FloatLayer, seen: LayerFit, found: Fit, scale: Array | None = None) -> Fit | str:
    """A fit as a file keeps it, if it is still better."""
    whole = seen.whole if scale is None else seen.scaled(scale).whole
    assert whole is not None, "something was fitted"
    values, made = layer.stored(found.weights, found.bias)
    factors = 1.0 if scale is None else scale[:, None]
    after = whole.error(np.concatenate([values, made[:, None, :]], axis=1) * factors)
    if not after < found.before:
        return NO_BETTER
    return Fit(values, made, found.before, after, found.damping)


def scales(moments: Moments, outputs: int, which: Array | None = None) -> Array:
    """One over the spread of each channel of a value and the number of channels; those that hardly move count as
    others do. Errors that are weighed so count by the spread that their channel has: a few channels may be a thousand
    times as large as the others, and what normalizes them makes them all alike."""
    spread = moments.mean_square - np.square(moments.mean)
    if which is not None and spread.ndim and (not which.size or which.max() < len(spread)):
        spread = spread[which]
    if spread.shape != (outputs,) or not np.isfinite(spread).all() or not (spread > 0).any():
        return np.ones(outputs)
    least = _FLAT * float(np.median(spread[spread > 0]))
    return np.asarray(1.0 / np.sqrt(np.maximum(spread, least) * outputs))


def announced(layer: FloatLayer, fit: Fit | str, ask: Asker, rule: str) -> None:
    """Write what was fitted, where the gate lets it through."""
    if isinstance(fit, str):
        ask.missed(rule, layer.node, fit)
    elif ask.rewrite(rule, layer.node, fit.text):
        written(layer, fit)


def written(layer: FloatLayer, fit: Fit) -> None:
    """Write what was fitted: of a fit without weights the bias."""
    if fit.weights.size:
        layer.write(fit.weights, fit.bias)
    else:
        layer.write_bias(fit.bias)


def means(layer: FloatLayer, goal: Goal) -> list[Observation]:
    """What to observe for the bias of a layer that is too wide for a Gram matrix."""
    now = [layer.result] if goal.beside is None else [layer.result, goal.beside]
    return [Observation((one,), Moments(layer.axis)) for one in (goal.original, *now)]


def shifted(layer: FloatLayer, asked: Sequence[Observation], kept: Array | None) -> Fit | str:
    """The bias that makes the mean of every output what it was, from the `means`; weights are empty."""
    if not layer.has_bias:
        return f"it has {layer.inputs} inputs, too many for a Gram matrix, and no bias"
    then, *now = [one.accumulator for one in asked if isinstance(one.accumulator, Moments)]
    which: Any = slice(None) if kept is None else kept
    if then.mean.ndim != 1 or any(one.mean.shape != then.mean[which].shape for one in now):
        return "its result has another shape than in the original"
    missing = then.mean[which] - sum(one.mean for one in now)
    variance = float((then.mean_square[which] - np.square(then.mean[which])).sum())
    share = float(np.square(missing).sum()) / variance if variance > 0 else np.inf
    if not np.isfinite(share):
        return "its data or results have NaN or infinities"
    if share <= FAITHFUL:
        return "the means of its results are those of the original"
    bias = layer.bias() + missing.reshape(layer.groups, -1)
    return Fit(np.zeros((0, 0, 0)), layer.stored(np.zeros(0), bias)[1], share, 0.0, 0.0)
