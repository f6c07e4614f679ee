"""Weights and bias of a layer, as integers, that bring it nearest to results that are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.layer_fit import LayerFit
from graphopt.analysis.least_squares import LEAST, best_damping, centred, decibels, matching_bias
from passes.quantize import feedback
from passes.quantize.quadratic import Array, Lattice, Layer, better
from passes.quantize.refit_layers import ROOM, Fitted, integer_step

_FAR = 0.5  # share of the variance by which a result may differ from the original's and still be the same value


@dataclass(frozen=True)
class Solution:
    """Codes [groups, inputs, outputs], scales and biases [groups, outputs]; `text` says how good they are."""

    codes: Array
    scale: Array
    bias: Array
    text: str


def solved(layer: Fitted, seen: LayerFit, damping: float) -> Solution | str:
    """The best integers for a layer, or a clause that says why there are none better.

    A `damping` of 0 takes the one with which weights fitted to one half of the samples are best on the other.
    """
    if seen.trouble is not None:
        return seen.trouble
    weights = layer.matrices(layer.weight.values.astype(np.float64)) * layer.scales(
        layer.weight.scale.astype(np.float64)
    )
    sums = seen.whole
    if sums is None or sums.cross.shape[1:] != (weights.shape[1] + 1, weights.shape[2]):
        return "no data of the size of its weight were seen"
    if not sums.finite:
        return "its data or results have NaN or infinities"
    has_bias = layer.bias != "none"
    before = sums.error(np.concatenate([weights, layer.bias_values()[:, None, :]], axis=1))
    if before > _FAR:
        return "its result is too far from that of the original: it must be another value"
    try:
        damping = damping or best_damping(seen, weights, layer.bias_values(), has_bias)
        damped = Layer(weights, *centred(sums, has_bias)).damped(max(damping, LEAST))
        target = np.linalg.solve(damped.gram, damped.linear)
        largest = np.abs(sums.cross[:, -1]).max(initial=0.0) / sums.count
        lattice = _lattice(layer, target, float(largest))
        codes = better(damped, lattice, feedback.rounded(damped, lattice, True), lattice.nearest(target))
    except np.linalg.LinAlgError:
        return "the Gram matrix of its data cannot be inverted: a larger damping may help"
    values = lattice.values(codes)
    bias = matching_bias(sums, values) if has_bias else layer.bias_values()
    if layer.bias == "integer":
        step = integer_step(layer, lattice.scale[:, 0]).astype(np.float64)
        whole = np.rint(bias / step)
        if np.abs(whole).max(initial=0) > ROOM:
            return "its bias would not fit 32 bits"
        bias = whole * step
    after = sums.error(np.concatenate([values, bias[:, None, :]], axis=1))
    if not after < before:
        return "its error on the calibration feeds would not get smaller"
    text = f"error {decibels(before)} dB below its result before, {decibels(after)} dB after, damping {damping:g}"
    return Solution(codes, lattice.scale[:, 0], bias, text)


def _lattice(layer: Fitted, target: Array, largest: float) -> Lattice:
    """Codes -127 to 127, one step for each output (or one in all), wide enough for the bias to fit."""
    peak = np.abs(target).max(axis=1, keepdims=True)
    if not layer.weight.scale.ndim:
        peak = np.full_like(peak, peak.max())
    least = 4 * largest / ROOM / layer.step if layer.bias == "integer" else 0.0
    scale = np.maximum(np.maximum(peak / 127, least), float(np.finfo(np.float32).tiny))
    scale = scale.astype(np.float32).astype(np.float64)
    low = 0 if layer.weight.values.dtype == np.uint8 else -127
    return Lattice(scale, np.zeros((1, 1, 1)), low, 127)
