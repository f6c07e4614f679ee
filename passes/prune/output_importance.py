"""What the outputs of the model lose when units go, measured: the units are left out, and what lies behind is run.

Each trial takes units out of what layers read, whose other weights make good for it in closed form, as repair would.
Units go in the order of second-order; a few numbers of them are tried, between which the error is interpolated. So
second-order says which units of a group go, and the outputs say how many of each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.changes import Change
from graphopt.analysis.float_layers import FloatLayer
from graphopt.analysis.layer_fit import Sums
from graphopt.analysis.least_squares import matching_bias
from graphopt.analysis.unit_removal import Reading, Removal, losing
from graphopt.pipeline.protocol import Context

Array = np.ndarray[Any, Any]

_POINTS: Final = 8  # numbers of units that are tried


@dataclass(frozen=True)
class Told:
    """A layer that reads the units, with what was seen of it; `reading` is damped, in the layer's own measure."""

    layer: FloatLayer
    sums: Sums
    reading: Reading


def by_outputs(
    told: Sequence[Told],
    order: Array,
    refit: bool,
    ctx: Context,
    samples: int,
    unseen: Array | None = None,
) -> Removal | str:
    """The units in the order in which the outputs lose least, and the error of the worst output then, as a share of
    its energy; or a clause. `order` has all units, cheapest first by second-order; with `refit` layers make good.

    `unseen` is the error of the layers after each number of units in
    `order`, on samples that they were not fitted to.
    """
    points = np.unique(np.linspace(0, len(order), _POINTS + 1).astype(np.int64)[1:])
    packs = [order[:count] for count in points]
    made = [losing(one.reading, packs) if refit else _zeroed(one, packs) for one in told]
    trials = [Change(_replaced(told, [each[at] for each in made], refit)) for at in range(len(packs))]
    measured = ctx.measure.changes(trials, samples)
    if len(measured.refused) == len(trials):
        return f"what the outputs lose could not be measured: {next(iter(measured.refused.values()))}"
    errors = np.array([measured.present[one].error if one in measured.present else np.inf for one in trials])
    errors = np.minimum(errors, 1e30)
    if unseen is not None and refit:
        # Layers that make good on the samples that are measured look better than they are: what counts is what the
        # outputs lose for each error of the layers, times the error of these on samples that they were not fitted to.
        seen = np.array(
            [sum(_error(one, each[at]) for one, each in zip(told, made, strict=True)) for at in range(len(packs))]
        )
        none = sum(_error(one, losing(one.reading, [order[:0]])[0]) for one in told)
        gains = errors / np.maximum(seen - none, 1e-12)
        return Removal(order, np.maximum.accumulate(unseen * np.interp(np.arange(len(unseen)), points, gains)))
    curve = np.interp(np.arange(len(order) + 1), [0, *points], [0.0, *np.maximum.accumulate(errors)])
    return Removal(order, curve)


def _error(one: Told, weights: Array) -> float:
    """The error of a layer with other weights, as a share of the variance that counts, on the samples seen."""
    bias = matching_bias(one.sums, weights[None]) if one.layer.has_bias else one.layer.bias()
    missed = one.sums.missed(np.concatenate([weights[None], bias[:, None, :]], axis=1))
    return missed / one.sums.count / one.reading.variance


def _zeroed(one: Told, packs: Sequence[Array]) -> list[Array]:
    found = []
    for pack in packs:
        weights = one.layer.weights()[0]
        weights[one.reading.columns[pack].ravel()] = 0.0
        found.append(weights)
    return found


def _replaced(told: Sequence[Told], weights: Sequence[Array], refit: bool) -> tuple[Any, ...]:
    pairs: list[Any] = []
    for one, values in zip(told, weights, strict=True):
        layer = one.layer
        bias = matching_bias(one.sums, values[None]) if refit and layer.has_bias else layer.bias()
        pairs += layer.replaced(values[None], bias)
    return tuple(pairs)
