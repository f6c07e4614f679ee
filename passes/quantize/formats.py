"""Formats of codes: how many bits, with a sign or without, around zero or not, and over which range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from passes.quantize.candidates import Plan
from passes.quantize.fitting import fitted
from passes.quantize.grid import Array, Grid, Spread, around_zero, asymmetric, symmetric


@dataclass(frozen=True)
class Format:
    """What a grid is like. `range` is "max", all values from end to end, or "mse": the part of that
    range, shared by both ends, that makes the squared error of all values least."""

    bits: int
    symmetric: bool = True
    signed: bool = True
    range: Literal["max", "mse", "activations"] = "max"

    def grid(self, plan: Plan, found: Spread, values: Array, importance: Array | None = None) -> Grid:
        """The grid for a planned weight: what `quantize` calls a choice. `importance` is what the squared
        error of each value counts."""
        make = symmetric if self.symmetric else asymmetric
        grid = make(found, plan.axis, plan.dtype, self.bits, block=plan.block, signed=self.signed)
        if self.range == "max":
            return grid
        if self.symmetric and self.bits <= 4:
            # Once values may be clipped, the lowest code is worth having, too, of so few. Not of 256: kernels
            # that multiply bytes in pairs are safe with -127 to 127 only.
            low, high = -(1 << self.bits - 1), (1 << self.bits - 1) - 1
            grid = around_zero(grid.scale, low, high, plan.axis, self.bits, block=plan.block, signed=self.signed)
        return fitted(values, grid, importance)
