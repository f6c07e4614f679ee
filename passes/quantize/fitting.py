"""Finds the steps with the least squared error.

Steps over the whole range keep every value near, steps over less of it keep most values nearer and
clip a few. A search over parts of the range finds where the sum of squares is least, and then the
step that fits the codes found there best, which is a division (least squares in one unknown).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from passes.quantize.grid import Array, Grid, near_step
from passes.quantize.pieces import Piece, is_short, pieces, upright

_LEAST_PART = {2: 0.15, 4: 0.4, 8: 0.6, 16: 0.9}
"""The smallest part of the range that is tried for each number of bits: past it errors only grow."""

_TRIES = 16


def fitted(values: Array, grid: Grid, importance: Array | None = None) -> Grid:
    """`grid` with each step times a factor of at most about 1, where the squared error is least.

    `importance` (of the shape of the values, not negative) is what the squared error of each value
    counts. The zeros and the ends of the codes stay. Costs about 19 roundings of the values.
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
        for ratio, at in self.ratios():
            low, high, code = at(self.low), at(self.high), np.empty_like(ratio)
            for part, total in zip(parts, found, strict=True):
                _add(at.steps.of(total), at.weighed(_squares(ratio, part, low, high, code)))
        return found

    def errors_at(self, factor: Array) -> Array:
        """The sum of squared errors for each step times its own factor."""
        found = np.zeros(self.step.shape, np.float64)
        factor = np.asarray(factor, np.float32)
        for ratio, at in self.ratios():
            errors = _squares(ratio, at(factor), at(self.low), at(self.high), np.empty_like(ratio))
            _add(at.steps.of(found), at.weighed(errors))
        return found

    def moments(self, factor: Array) -> tuple[Array, Array]:
        """The sums of value * code and of code * code for the codes of steps times `factor`."""
        fits, squares = np.zeros(self.step.shape, np.float64), np.zeros(self.step.shape, np.float64)
        factor = np.asarray(factor, np.float32)
        for ratio, at in self.ratios():
            code = np.rint(ratio / at(factor))
            np.clip(code, at(self.low), at(self.high), out=code)
            ratio *= code
            _add(at.steps.of(fits), at.weighed(ratio))
            code *= code
            _add(at.steps.of(squares), at.weighed(code))
        return fits, squares

    def ratios(self) -> Iterator[tuple[Array, _Beside]]:
        """Values over steps, part by part, and how to lay out beside a part what there is for each step."""
        for piece, steps in pieces(self.values.shape, self.grid.axis, self.grid.block):
            found, step = piece.of(self.values).astype(np.float32, copy=False), steps.of(self.step)
            short = is_short(found, step)
            counts = None if self.importance is None else piece.of(self.importance)
            at = _Beside(steps, short, upright(counts) if short and counts is not None else counts)
            yield (upright(found) if at.short else found) / at(self.step), at


@dataclasses.dataclass(frozen=True)
class _Beside:
    """Lays the part of an array of steps out beside values, which stand upright where runs are short."""

    steps: Piece
    short: bool
    importance: Array | None

    def weighed(self, terms: Array) -> Array:
        """`terms` of the values, in place, each times what it counts."""
        if self.importance is not None:
            terms *= self.importance
        return terms

    def __call__(self, array: Array) -> Array:
        part = self.steps.of(array)
        return part.reshape(1, 1, 1, -1) if self.short else part


def _squares(ratio: Array, part: Array, low: Array, high: Array, code: Array) -> Array:
    """Squared errors of ratios on a grid of step `part`, in `code`."""
    np.divide(ratio, part, out=code)
    np.rint(code, out=code)
    np.clip(code, low, high, out=code)
    code *= part
    code -= ratio
    code *= code
    return code


def _add(total: Array, part: Array) -> None:
    """Add the sums of `part` over the elements that share a step."""
    if part.shape[:2] == (1, 1) and part.shape[3] == total.size:  # it may stand upright
        total += part.sum(2).reshape(total.shape)
    else:
        total += part.sum(tuple(i for i in range(4) if total.shape[i] == 1), keepdims=True)
