"""Rounds the weights of one layer: the grid, codes that make up for one another, and scales that fit them.

Whatever the steps, no output of the layer ends with a larger error on the calibration data than
round-to-nearest on the same first grid would give it (outputs that share a scale: together).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.weight_matrices import Layout
from passes.quantize import descent, feedback, scale_fit
from passes.quantize.grid import Grid, near_step, over
from passes.quantize.quadratic import Array, Lattice, Layer, better


@dataclass(frozen=True)
class Method:
    """How codes are found: `feedback` (GPTQ) or nearest first, then `sweeps` rounds of coordinate
    descent, and `fits` times least squares for the scales with further rounds in between."""

    feedback: bool
    ordered: bool
    sweeps: int
    neighbours: bool
    fits: int
    damping: float


@dataclass(frozen=True)
class Rounded:
    """Codes of the shape of the stored tensor, the grid that they are on, and how much of the error of
    round-to-nearest is left (1: all of it)."""

    grid: Grid
    codes: Array
    left: float


def rounded(layer: Layer, layout: Layout, choose: Callable[[Array], Grid], method: Method) -> Rounded:
    """Round `layer` on the grid that `choose` gives for the weights (in stored order) that would be best
    without rounding.

    Raises numpy.linalg.LinAlgError where the Gram matrix is no use.
    """
    damped = layer.damped(method.damping)
    damped = dataclasses.replace(damped, weights=damped.target)
    grid = choose(layout.stored(damped.weights))
    which = _which(grid, layout)
    lattice = first = _lattice(grid, layout)
    codes = plain = lattice.nearest(damped.weights)
    if method.feedback:
        codes = better(layer, lattice, feedback.rounded(damped, lattice, method.ordered), plain)
    codes = descent.descended(damped, lattice, codes, method.sweeps, method.neighbours)
    for _ in range(method.fits):
        lattice = _refitted(damped, lattice, codes, which, grid)
        codes = descent.descended(damped, lattice, codes, method.sweeps, method.neighbours)
    worse = ~(_shared(layer.loss(lattice.values(codes)), which) < _shared(layer.loss(first.values(plain)), which))
    codes = np.where(worse[:, None], plain, codes)
    scale = np.where(worse[:, None], first.scale, lattice.scale)
    flat = np.empty(grid.scale.size)
    flat[which.ravel()] = np.broadcast_to(scale, which.shape).ravel()
    final = dataclasses.replace(grid, scale=flat.reshape(grid.scale.shape).astype(grid.scale.dtype))
    left = _left(layer, damped.weights, (codes - lattice.zero) * scale, first.values(plain))
    return Rounded(final, layout.stored(codes).astype(np.int16).astype(grid.code), left)


def _which(grid: Grid, layout: Layout) -> Array:
    """The number of the scale of each weight [groups, inputs, outputs]."""
    numbers = np.arange(grid.scale.size).reshape(grid.scale.shape)
    return layout.matrices(over(numbers, grid, layout.shape))


def _lattice(grid: Grid, layout: Layout) -> Lattice:
    def spread_out(one: Array) -> Array:
        return layout.matrices(over(one.astype(np.float64), grid, layout.shape))

    zero = np.zeros((1, 1, 1)) if grid.zero is None else spread_out(grid.zero)
    return Lattice(spread_out(grid.scale), zero, grid.low, grid.high)


def _refitted(layer: Layer, lattice: Lattice, codes: Array, which: Array, grid: Grid) -> Lattice:
    """The lattice with scales fitted to `codes`, for those outputs whose error gets smaller by it."""
    now = lattice.scale
    found = scale_fit.fitted(layer, lattice, codes, which)[which]
    tried = np.where(np.isfinite(found), near_step(np.where(np.isfinite(found), found, now), grid.scale.dtype), now)
    fit = dataclasses.replace(lattice, scale=tried.astype(np.float64))
    gain = _shared(layer.loss(fit.values(codes)), which) < _shared(layer.loss(lattice.values(codes)), which)
    return dataclasses.replace(lattice, scale=np.where(gain[:, None], fit.scale, now))


def _shared(loss: Array, which: Array) -> Array:
    """The loss of each output [groups, outputs] with that of all others that its first scale is for."""
    owner = which[:, 0]
    return np.bincount(owner.ravel(), loss.ravel())[owner]


def _left(layer: Layer, target: Array, values: Array, plain: Array) -> float:
    """The error of `values` as a share of that of `plain`, both from what `target` would do."""
    best = layer.loss(target).sum()
    error, others = float(layer.loss(values).sum() - best), float(layer.loss(plain).sum() - best)
    return max(error / others, 0.0) if others > 0 else 1.0
