"""Grids found without data that favour many small errors over a few large ones: HQQ.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023: the p-norm of the
errors, p at most 1, is made smaller by splitting off the errors that are to stay (a shrinkage
in closed form) and fitting the grid to the rest (least squares in closed form), in turn. They fit
the zero, a real number; zeros of ONNX are codes, so here steps are fitted with them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from passes.quantize.grid import Array, Grid, near_step
from passes.quantize.pieces import pieces

_WEIGHT, _GROWTH = 10.0, 1.01  # of the quadratic penalty that holds the split together, and its growth a round


def fitted(values: Array, grid: Grid, rounds: int, power: float) -> Grid:
    """`grid` (with zeros) with steps and zeros for which the sum of |error|^power is least among those tried.

    Costs about 2 * `rounds` roundings of the values.
    """
    assert grid.zero is not None
    values = np.asarray(values, order="C")
    scale = grid.scale.astype(np.float64)
    zero = grid.zero.astype(np.float64)
    for piece, steps in pieces(values.shape, grid.axis, grid.block):
        found = _fit(piece.of(values).astype(np.float64), steps.of(scale), steps.of(zero), grid, rounds, power)
        steps.of(scale)[...], steps.of(zero)[...] = found
    whole = zero.astype(np.int16).astype(grid.code)
    return dataclasses.replace(grid, scale=scale.astype(grid.scale.dtype), zero=whole)


def _fit(values: Array, scale: Array, zero: Array, grid: Grid, rounds: int, power: float) -> tuple[Array, Array]:
    """The best steps and zeros of one piece; `values` has four axes, the scales the same or 1."""
    shared = tuple(axis for axis in range(4) if scale.shape[axis] == 1)
    best_scale, best_zero = scale, zero
    least = _norm(values, scale, zero, grid, shared, power)
    weight = _WEIGHT
    for _ in range(rounds):
        codes = np.clip(np.rint(values / scale + zero), grid.low, grid.high)
        # In steps, so that the same weight is right for large and small numbers.
        error = values / scale - (codes - zero)
        kept = np.sign(error) * np.maximum(np.abs(error) - np.power(np.abs(error) + 1e-9, power - 1) / weight, 0)
        wanted = values - kept * scale
        mean_code, mean = codes.mean(shared, keepdims=True), wanted.mean(shared, keepdims=True)
        spread = np.square(codes - mean_code).sum(shared, keepdims=True)
        slope = ((codes - mean_code) * wanted).sum(shared, keepdims=True) / np.where(spread > 0, spread, 1)
        slope = np.where((spread > 0) & (slope > 0), slope, scale)
        zero = np.clip(np.rint(mean_code - mean / slope), grid.low, grid.high)
        whole = codes - zero
        energy = np.square(whole).sum(shared, keepdims=True)
        fit = (whole * wanted).sum(shared, keepdims=True) / np.where(energy > 0, energy, 1)
        scale = near_step(np.where((energy > 0) & (fit > 0), fit, slope), grid.scale.dtype).astype(np.float64)
        norm = _norm(values, scale, zero, grid, shared, power)
        gain = norm < least
        best_scale, best_zero = np.where(gain, scale, best_scale), np.where(gain, zero, best_zero)
        least = np.where(gain, norm, least)
        weight *= _GROWTH
    return best_scale, best_zero


def _norm(values: Array, scale: Array, zero: Array, grid: Grid, shared: tuple[int, ...], power: float) -> Array:
    codes = np.clip(np.rint(values / scale + zero), grid.low, grid.high)
    return np.asarray(np.power(np.abs(values - (codes - zero) * scale), power).sum(shared, keepdims=True))
