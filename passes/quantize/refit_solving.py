"""Weights and bias of a layer, as integers, that bring it nearest to results that are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.layer_fit import LayerFit, Sums
from passes.quantize import feedback
from passes.quantize.quadratic import Array, Lattice, Layer, better
from passes.quantize.refit_layers import ROOM, Fitted, integer_step

_FAR = 0.5  # share of the variance by which a result may differ from the original's and still be the same value
_TRIED = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
_LEAST = 1e-9  # damping without which a matrix may not be invertible in float64


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
    before = sums.error(np.concatenate([weights, layer.bias_values()[:, None, :]], axis=1))
    if before > _FAR:
        return "its result is too far from that of the original: it must be another value"
    try:
        damping = damping or _best(layer, seen, weights)
        plain = _plain(layer, sums, weights)
        damped = plain.damped(max(damping, _LEAST))
        target = np.linalg.solve(damped.gram, damped.linear)
        largest = np.abs(sums.cross[:, -1]).max(initial=0.0) / sums.count
        lattice = _lattice(layer, target, float(largest))
        codes = better(damped, lattice, feedback.rounded(damped, lattice, True), lattice.nearest(target))
    except np.linalg.LinAlgError:
        return "the Gram matrix of its data cannot be inverted: a larger damping may help"
    values = lattice.values(codes)
    bias = _bias(layer, sums, values)
    if layer.bias == "integer":
        step = integer_step(layer, lattice.scale[:, 0]).astype(np.float64)
        whole = np.rint(bias / step)
        if np.abs(whole).max(initial=0) > ROOM:
            return "its bias would not fit 32 bits"
        bias = whole * step
    after = sums.error(np.concatenate([values, bias[:, None, :]], axis=1))
    if not after < before:
        return "its error on the calibration feeds would not get smaller"
    text = f"error {_decibels(before)} dB below its result before, {_decibels(after)} dB after, damping {damping:g}"
    return Solution(codes, lattice.scale[:, 0], bias, text)


def _plain(layer: Fitted, sums: Sums, weights: Array) -> Layer:
    """What is to be minimised, per row; where there is a bias, with the means taken out."""
    gram, linear = sums.gram[:, :-1, :-1] / sums.count, sums.cross[:, :-1] / sums.count
    if layer.bias != "none":
        mean, result = sums.gram[:, :-1, -1] / sums.count, sums.cross[:, -1] / sums.count
        gram = gram - mean[:, :, None] * mean[:, None, :]
        linear = linear - mean[:, :, None] * result[:, None, :]
    return Layer(weights, gram, linear)


def _bias(layer: Fitted, sums: Sums, values: Array) -> Array:
    """The bias that makes the means right, where there is one [groups, outputs]."""
    if layer.bias == "none":
        return layer.bias_values()
    return np.asarray((sums.cross[:, -1] - np.einsum("gk,gko->go", sums.gram[:, :-1, -1], values)) / sums.count)


def _best(layer: Fitted, seen: LayerFit, weights: Array) -> float:
    """The damping with which what is fitted to one half of the samples misses least of the other half."""
    first, second = seen.halves
    if first is None or second is None:
        return _TRIED[-1]
    missed = dict.fromkeys(_TRIED, 0.0)
    for one, other in ((first, second), (second, first)):
        plain = _plain(layer, one, weights)
        for damping in _TRIED:
            damped = plain.damped(damping)
            values = np.linalg.solve(damped.gram, damped.linear)
            bias = _bias(layer, one, values)
            missed[damping] += other.missed(np.concatenate([values, bias[:, None, :]], axis=1))
    return min(_TRIED, key=lambda damping: missed[damping])


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


def _decibels(share: float) -> str:
    return f"{-10 * np.log10(share):.1f}" if share > 0 else "infinitely many"
