"""Finds the steps with the least squared error.

Steps over the whole range keep every value near, steps over less of it keep most values nearer and
clip a few. A search over parts of the range finds where the sum of squares is least, and then the
step that fits the codes found there best, which is a division (least squares in one unknown).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from passes.quantize.grid import Array, Grid, near_step
from passes.quantize.pieces import Piece, pieces

_LEAST_PART = {2: 0.15, 4: 0.4, 8: 0.6, 16: 0.9}
"""The smallest part of the range that is tried for each number of bits: past it errors only grow."""

_TRIES = 24


def fitted(values: Array, grid: Grid, importance: Array | None = None) -> Grid:
    """`grid` with each step times a factor of at most about 1, where the squared error is least.

    `importance` (of the shape of the values, not negative) is what the squared error of each value
    counts. The zeros and the ends of the codes stay. Costs about 27 roundings of the values.
    """
    width = int(grid.high - grid.low + 1).bit_length() - 1
    parts = np.linspace(1.0, _LEAST_PART.get(width, 0.9), _TRIES).astype(np.float32)
    values = np.asarray(values, order="C")
    search = _Search(values, grid, importance)
    factor = parts[search.errors(parts).argmin(0)]
    fits, squares = search.moments(factor)
    refined = np.where((squares > 0) & (fits > 0), fits / np.where(squares > 0, squares, 1), factor)
    exact = grid.scale.astype(np.float64)
    scale = near_step(exact * refined, grid.scale.dtype)
    gained = search.errors_at(scale.astype(np.float64) / exact) < search.errors_at(np.ones(scale.shape))
    return dataclasses.replace(grid, scale=np.asarray(np.where(gained, scale, grid.scale)))


class _Search:
    """The values in units of the steps that a grid has, rounded on grids of other steps."""

    def __init__(self, values: Array, grid: Grid, importance: Array | None) -> None:
        self.values, self.grid = values, grid
        self.importance = None if importance is None else np.asarray(importance, np.float32, order="C")
        self.step = grid.scale.astype(np.float32)
        zero = np.zeros(grid.scale.shape) if grid.zero is None else grid.zero.astype(np.float64)
        self.low, self.high = (np.asarray(end - zero, np.float32) for end in (grid.low, grid.high))

    def errors(self, parts: Array) -> Array:
        """The sum of squared errors in steps of `grid`, for steps times each of `parts`: [parts, *steps]."""
        found = np.zeros((len(parts), *self.step.shape), np.float64)
        for piece, steps in pieces(self.values.shape, self.grid.axis, self.grid.block):
            ratio = piece.of(self.values).astype(np.float32) / steps.of(self.step)
            low, high = steps.of(self.low), steps.of(self.high)
            code = np.empty_like(ratio)
            for part, total in zip(parts, found, strict=True):
                np.divide(ratio, part, out=code)
                np.rint(code, out=code)
                np.clip(code, low, high, out=code)
                code *= part
                code -= ratio
                code *= code
                self._weigh(code, piece)
                _add(steps.of(total), code)
        return found

    def errors_at(self, factor: Array) -> Array:
        """The sum of squared errors for each step times its own factor."""
        found = np.zeros(self.step.shape, np.float64)
        factor = np.asarray(factor, np.float32)
        for piece, steps in pieces(self.values.shape, self.grid.axis, self.grid.block):
            ratio = piece.of(self.values).astype(np.float32) / steps.of(self.step)
            code = np.rint(ratio / steps.of(factor))
            np.clip(code, steps.of(self.low), steps.of(self.high), out=code)
            code *= steps.of(factor)
            code -= ratio
            code *= code
            self._weigh(code, piece)
            _add(steps.of(found), code)
        return found

    def moments(self, factor: Array) -> tuple[Array, Array]:
        """The sums of value * code and of code * code for the codes of steps times `factor`."""
        fits, squares = np.zeros(self.step.shape, np.float64), np.zeros(self.step.shape, np.float64)
        factor = np.asarray(factor, np.float32)
        for piece, steps in pieces(self.values.shape, self.grid.axis, self.grid.block):
            ratio = piece.of(self.values).astype(np.float32) / steps.of(self.step)
            code = np.rint(ratio / steps.of(factor))
            np.clip(code, steps.of(self.low), steps.of(self.high), out=code)
            ratio *= code
            self._weigh(ratio, piece)
            _add(steps.of(fits), ratio)
            code *= code
            self._weigh(code, piece)
            _add(steps.of(squares), code)
        return fits, squares

    def _weigh(self, terms: Array, piece: Piece) -> None:
        if self.importance is not None:
            terms *= piece.of(self.importance)


def _add(total: Array, part: Array) -> None:
    """Add the sums of `part` over the elements that share a step."""
    shared = tuple(i for i in range(4) if total.shape[i] == 1)
    if shared and part.shape[2] > 1 and part.shape[3] == 1 and total.shape[0] == part.shape[0]:
        run = part.shape[2]  # many short runs: a product with ones sums them faster than a reduction
        total += (part.reshape(-1, run) @ np.ones(run, np.float32)).reshape(total.shape)
    else:
        total += part.sum(shared, keepdims=True)
