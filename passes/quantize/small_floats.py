"""Floating-point numbers of 4 and 8 bits: what each can hold, and rounding to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.ir.dtypes import bits, onnx_dtype
from graphopt.ir.shelf import scratch
from graphopt.ir.values import Array
from passes.quantize.grid import Grid
from passes.quantize.pieces import pieces


@dataclass(frozen=True)
class Small:
    """A small float type: its largest number is `largest`, in the binade of 2^`top`."""

    dtype: np.dtype[Any]
    largest: float
    top: int

    @property
    def bits(self) -> int:
        """Bits of a number in a file."""
        return bits(onnx_dtype(self.dtype))

    def decoded(self) -> Array:
        """The number of each pattern of bits as float32, 0 for those that are infinite or none."""
        values = np.arange(1 << self.bits, dtype=np.uint8).view(self.dtype).astype(np.float32)
        return np.where(np.isfinite(values), values, np.float32(0))


SMALL = {
    "float8e4m3fn": Small(np.dtype(ml_dtypes.float8_e4m3fn), 448.0, 8),
    "float8e5m2": Small(np.dtype(ml_dtypes.float8_e5m2), 57344.0, 15),
    "float4e2m1": Small(np.dtype(ml_dtypes.float4_e2m1fn), 6.0, 2),
}
"""By the name that ONNX has for them."""


def is_small(dtype: np.dtype[Any]) -> bool:
    """Whether codes of this type are floats."""
    return any(one.dtype == dtype for one in SMALL.values())


def rounded(values: Array, grid: Grid, small: Small) -> Array:
    """The nearest number of the small type to each value in units of its scale, ties to even; beyond the
    largest, that."""
    values = np.asarray(values, order="C")
    made = scratch(values.shape, small.dtype)
    scale = grid.scale.astype(np.float32)
    for part, steps in pieces(values.shape, grid.axis, grid.block):
        ratio = part.of(values).astype(np.float32) / steps.of(scale)
        part.of(made)[...] = np.clip(ratio, -small.largest, small.largest).astype(small.dtype)
    return made


def errors(values: Array, grid: Grid, small: Small) -> Array:
    """The squared error of `rounded` that each scale is for, in the shape of the scales."""
    values = np.asarray(values, order="C")
    found = np.zeros(grid.scale.shape)
    scale = grid.scale.astype(np.float32)
    for part, steps in pieces(values.shape, grid.axis, grid.block):
        exact = part.of(values).astype(np.float32)
        ratio = np.clip(exact / steps.of(scale), -small.largest, small.largest)
        exact -= ratio.astype(small.dtype).astype(np.float32) * steps.of(scale)
        total = steps.of(found)
        total += np.square(exact, dtype=np.float64).sum(
            tuple(i for i in range(4) if total.shape[i] == 1), keepdims=True
        )
    return found
