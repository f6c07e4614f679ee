"""The layers that read the channels of a group, and what each channel is to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from graphopt.analysis.activations import Moments, Observation
from graphopt.analysis.channels import Group, Site
from graphopt.analysis.constants import constant_values
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.analysis.layer_fit import LayerFit, Sums
from graphopt.analysis.layer_goals import Goal, question, sum_behind
from graphopt.analysis.least_squares import LEAST, best_damping, matching_bias
from graphopt.analysis.unit_removal import Reading, Removal, reading, second_order, why_no_reading
from graphopt.ir import Node
from graphopt.pipeline.protocol import Context
from passes.prune.narrowing import Narrowing
from passes.prune.output_importance import Told

Array = np.ndarray[Any, Any]

WIDEST: Final = 1 << 28
"""Bytes of the sums of one layer; beyond, only its bias is repaired."""

TOGETHER: Final = 1 << 29
"""Bytes of the sums of layers that are observed in one run."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads a group at a site."""

    layer: FloatLayer
    site: Site

    def columns(self, narrowing: Narrowing) -> Array:
        """Which of the layer's inputs belong to each unit: [units, k]. Other groups on the same axis that were
        narrowed before have moved them."""
        left = narrowing.left(self.site.tensor, self.site.axis)
        positions = self.site.positions if left is None else (np.cumsum(left) - 1)[self.site.positions]
        kernel = self.layer.inputs // self.layer.shape[1] if self.layer.node.op == "Conv" else 1
        spread: Array = positions[:, :, None] * kernel + np.arange(kernel)
        return spread.reshape(len(positions), -1)


def readers_of(group: Group, goals: Mapping[Node, Goal]) -> list[Reader] | str:
    """The layers that read a group and whose results in the original are known; a clause where there are none."""
    found, why = list[Reader](), "no layer reads it"
    for site in group.readers:
        layer = float_layer(site.node)
        if not isinstance(layer, FloatLayer) or site.slot != 1 or layer.groups != 1:
            why = (
                layer
                if isinstance(layer, str)
                else f"{site.node.op} {site.node.label!r} is no layer that can be fitted"
            )
        elif site.axis != (1 if layer.flipped else 0):
            why = f"the inputs of {site.node.op} {site.node.label!r} are another axis of its weight"
        elif layer.sums > WIDEST:
            why = f"{site.node.op} {site.node.label!r} has {layer.inputs} inputs, too many for a Gram matrix"
        elif site.node not in goals:
            why = f"what {site.node.op} {site.node.label!r} made in the original is not known"
        else:
            found.append(Reader(layer, site))
    return found or why


@dataclass
class Seen:
    """What one run over the feeds told about layers; `spread` is the variance, for each place, of the sum that the
    result of a layer goes into, where it is one branch beside others."""

    fits: dict[Node, LayerFit | str] = field(default_factory=dict)
    spread: dict[Node, float] = field(default_factory=dict)


def look(layers: Sequence[FloatLayer], goals: Mapping[Node, Goal], ctx: Context, rows: int) -> Seen:
    """One run over the feeds for the normal equations of all layers."""
    seen = Seen()
    asked = dict[Node, Observation]()
    beside = dict[Node, Observation]()
    for layer in layers:
        asking = question(layer, goals[layer.node], rows, ctx.shapes)
        if isinstance(asking, str):
            seen.fits[layer.node] = asking
            continue
        asked[layer.node] = asking
        joined = sum_behind(layer.result)
        if joined is not None:
            beside[layer.node] = Observation((joined[0],), Moments(layer.axis))
    refused = ctx.calibration.observe([*asked.values(), *beside.values()]).refused
    for node, one in asked.items():
        assert isinstance(one.accumulator, LayerFit)
        seen.fits[node] = refused.get(one) or one.accumulator
    for node, one in beside.items():
        found = one.accumulator
        assert isinstance(found, Moments)
        variance = float((found.mean_square - np.square(found.mean)).sum())
        if one not in refused and np.isfinite(variance) and variance > 0:
            seen.spread[node] = variance
    return seen


def by_activation(readings: Sequence[Reading], weights: Sequence[Array]) -> Removal:
    """Units by the energy that each brings to the layers that read it, nothing made good for it."""
    losses = np.zeros(len(readings[0].columns))
    for one, values in zip(readings, weights, strict=True):
        energy = np.diag(one.gram) * np.square(values).sum(1)
        losses += energy[one.columns].sum(1) / one.variance
    return ordered(losses)


def ordered(losses: Array) -> Removal:
    """Units in the order of what each adds to the error."""
    order = np.argsort(losses, kind="stable")
    return Removal(order[:-1], np.concatenate([[0.0], np.cumsum(losses[order[:-1]])]))


@dataclass(frozen=True)
class _Told:
    """What one layer says of the channels of a group."""

    fit: LayerFit
    whole: Sums
    weights: Array
    bias: Array
    has_bias: bool
    columns: Array
    damping: float
    spread: float

    def reading(self, sums: Sums) -> Reading:
        found = reading(sums, self.weights, self.has_bias, self.columns, self.damping)
        return Reading(found.columns, found.gram, found.linear, max(self.spread, found.variance))

    def missed(self, seen: Sums, other: Sums, weights: Array) -> float:
        """The error on other samples of weights that were fitted to those seen."""
        values = weights[None]
        bias = matching_bias(seen, values) if self.has_bias else np.zeros((1, weights.shape[1]))
        missed = other.missed(np.concatenate([values, bias[:, None, :]], axis=1))
        return missed / other.count / max(self.spread, other.variance / other.count)


def removal(
    readers: Sequence[Reader], seen: Seen, narrowing: Narrowing, importance: str, damping: float, curve: bool = False
) -> Removal | str:
    """In which order the units of a group go, and the error then, as the layers that read them see it.

    With `curve` the errors of importance=second-order are those on the half of the samples that chose neither units
    nor weights: channels that matter only for what few samples show look cheap on these samples alone.
    """
    told, why = list[_Told](), "nothing was seen of it"
    for one in readers:
        found = _told(one, seen, narrowing, damping)
        if isinstance(found, str):
            why = found
        else:
            told.append(found)
    if not told:
        return why
    plain = by_activation([one.reading(one.whole) for one in told], [one.weights[0] for one in told])
    if importance == "activation":
        return plain
    try:
        if damping == 0:
            told = [_damped(one, plain.order[: -(-len(plain.order) // 4)]) for one in told]
        made = second_order([one.reading(one.whole) for one in told])
        if isinstance(made, str) or not curve:
            return made
        errors = [_tried(told, which) for which in (0, 1)]
    except np.linalg.LinAlgError:
        return "the Gram matrix of its data cannot be inverted: a larger damping may help"
    known = [one.errors for one in errors if isinstance(one, Removal)]
    return Removal(made.order, np.mean(known, axis=0)) if known else made


def told_of(readers: Sequence[Reader], seen: Seen, order: Removal, damping: float) -> list[Told]:
    """The layers that read a group, as they are before any group of the analysis is narrowed."""
    found = []
    for one in readers:
        told = _told(one, seen, Narrowing(), damping)
        if not isinstance(told, str):
            told = told if damping else _damped(told, order.order[: -(-len(order.order) // 4)])
            found.append(Told(one.layer, told.whole, told.reading(told.whole)))
    return found


def _damped(one: _Told, gone: Array) -> _Told:
    """With the damping that is best on other samples when some units are gone; with all there, any is right."""
    left = np.delete(np.arange(one.weights.shape[1]), one.columns[gone].ravel())
    if not left.size:
        return one
    fewer = one.fit.of_inputs(left)
    return replace(one, damping=best_damping(fewer, one.weights[:, left], one.bias, one.has_bias))


def _told(one: Reader, seen: Seen, narrowing: Narrowing, damping: float) -> _Told | str:
    fit = seen.fits[one.layer.node]
    if isinstance(fit, str):
        return fit
    weights = one.layer.weights()
    why = why_no_reading(fit, weights)
    whole = fit.whole
    if why is not None or whole is None:
        return why or "nothing was seen of it"
    spread = seen.spread.get(one.layer.node, 0.0)
    columns = one.columns(narrowing)
    return _Told(fit, whole, weights, one.layer.bias(), one.layer.has_bias, columns, damping or LEAST, spread)


def _tried(told: Sequence[_Told], which: int) -> Removal | str:
    """Units chosen and weights fitted on one half of the samples, and the errors on the other."""
    pairs = [(one, one.fit.halves[which], one.fit.halves[1 - which]) for one in told]
    halves = [(one, seen, other) for one, seen, other in pairs if seen is not None and other is not None]
    if len(halves) < len(told) or any(sums.variance <= 0 for _, *both in halves for sums in both):
        return "there are not two samples"

    def judge(weights: Sequence[Array]) -> float:
        return sum(one.missed(seen, other, each) for (one, seen, other), each in zip(halves, weights, strict=True))

    return second_order([one.reading(seen) for one, seen, _ in halves], judge)


def by_magnitude(group: Group) -> Removal:
    """Units by the share of the squared weights that make them."""
    losses = np.zeros(group.size)
    for site in group.makers:
        values = constant_values(site.tensor)
        if values is not None and values.ndim > site.axis:
            rows = np.moveaxis(values, site.axis, 0).reshape(values.shape[site.axis], -1)
            energy = np.square(rows.astype(np.float64)).sum(1)
            losses += energy[site.positions].sum(1) / max(float(energy.sum()), np.finfo(float).tiny)
    return ordered(np.nan_to_num(losses))
