"""Grids: evenly spaced values, of which quantization picks the nearest for each weight.

A grid is a step (the scale), and for an asymmetric one the code that stands for zero. Every grid
made here keeps the theorem |w - (q - z) * s| <= s / 2 for each finite weight w in it, over the
reals: the step is rounded up, never down, so no weight lies beyond the last code by more than half
a step. What DequantizeLinear adds is one rounding of the product in the scale's own type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 20  # elements worked on together, so that a weight of any size needs little memory
_SINGLE, _HALF, _BRAIN = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)

_LARGEST = {_SINGLE: (2 - 2.0**-23) * 2.0**127, _BRAIN: (2 - 2.0**-7) * 2.0**127, _HALF: 65504.0}
"""The largest finite number of each type."""

_POINTS = {_SINGLE: (-127, 126), _BRAIN: (-127, 126), _HALF: (-15, 14)}
"""The least and largest p of each type for which 2^-p is a normal number."""

# Kernels multiply float16 in float32, where even a subnormal step is normal. From 2^-17 on a step in
# float16 is precise enough for what rounding it up costs.
_LEAST = {_SINGLE: 2.0**-126, _BRAIN: 2.0**-126, _HALF: 2.0**-17}
"""The smallest step of each type: a positive number that no hardware takes for zero."""


@dataclass(frozen=True)
class Grid:
    """Steps and zeros of a quantized tensor, for all of it (`axis` None) or for each index of `axis`.

    `scale` has the weight's own dtype and shape () or (C,); `zero` is int8 of the same shape, or
    None for a grid around zero. Codes lie in `low` to `high` and have dtype `code`.
    """

    scale: Array
    zero: Array | None
    axis: int | None
    low: int
    high: int
    code: np.dtype[Any]


@dataclass(frozen=True)
class Spread:
    """The smallest and largest value of a tensor, or of each index of an axis: float64 () or (C,)."""

    low: Array
    high: Array

    @property
    def peak(self) -> Array:
        """The largest magnitude."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


def spread(values: Array, axis: int | None) -> Spread:
    """The range of `values` (any float type, not empty) as a whole or along `axis`; NaN where one is."""
    shape = () if axis is None else (values.shape[axis],)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for _, block, part in _blocks(values, axis):
        others = tuple(i for i in range(block.ndim) if i != axis)
        low[part] = np.minimum(low[part], block.min(others))
        high[part] = np.maximum(high[part], block.max(others))
    return Spread(low, high)


def why_no_grid(found: Spread, dtype: np.dtype[Any]) -> str | None:
    """Why values of this range cannot be quantized, in a clause; None when they can."""
    if bool(np.isnan(found.low).any() or np.isnan(found.high).any()):
        return "it has a NaN"
    peak = float(found.peak.max())
    if np.isinf(peak):
        return "it has an infinity"
    if peak > _LARGEST[dtype] / 2:
        return f"it has a value of magnitude {peak:.3g}, and a step beyond it could leave {dtype}"
    return None


def symmetric(found: Spread, axis: int | None, dtype: np.dtype[Any]) -> Grid:
    """Codes -127 to 127 around zero, the step the largest magnitude / 127 (Jacob et al. 2018, section 2.1)."""
    return Grid(_step(found.peak / 127, dtype), None, axis, -127, 127, np.dtype(np.int8))


def asymmetric(found: Spread, axis: int | None, dtype: np.dtype[Any]) -> Grid:
    """Codes -128 to 127 over the range of the values, widened to hold zero, which gets a code of its own."""
    low, high = np.minimum(found.low, 0.0), np.maximum(found.high, 0.0)
    scale = _step((high - low) / 255, dtype)
    zero = np.clip(-128 - np.rint(low / scale.astype(np.float64)), -128, 127).astype(np.int8)
    return Grid(scale, zero, axis, -128, 127, np.dtype(np.int8))


def fixed_point(found: Spread, bits: int, dtype: np.dtype[Any], p: int | None = None) -> Grid:
    """Codes of `bits` bits in two's complement, the step 2^-p: exact in every float type.

    Without `p`, the largest one for which no code of these values saturates and the step is a
    normal number of `dtype`. Raises ValueError for a `p` whose step is none.
    """
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    least, most = point_limits(dtype)
    if p is None:
        p = most if float(found.peak.max()) else 0
        while p > least and saturates(found, p, low, high):
            p -= 1
    if not least <= p <= most:
        raise ValueError(f"the step 2^{-p} is not a normal number of {dtype}")
    return Grid(np.asarray(2.0**-p).astype(dtype), None, None, low, high, np.dtype(f"int{bits}"))


def point_limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and largest p for which 2^-p is a normal number of `dtype`."""
    return _POINTS[dtype]


def saturates(found: Spread, p: int, low: int, high: int) -> bool:
    """Whether rounding value * 2^p leaves the codes `low` to `high` for some value."""
    bottom, top = np.rint(np.ldexp(found.low, p)), np.rint(np.ldexp(found.high, p))
    return bool((bottom < low).any() or (top > high).any())


def codes(values: Array, grid: Grid) -> Array:
    """The nearest code of each value, ties to even, of `values`' shape; beyond the ends, the last one."""
    made = np.empty(values.shape, grid.code)
    step = grid.scale.astype(np.float64)
    zero = np.zeros(step.shape) if grid.zero is None else grid.zero.astype(np.float64)
    for place, block, part in _blocks(values, grid.axis):
        lined_up = [1] * block.ndim
        if grid.axis is not None:
            lined_up[grid.axis] = -1
        block /= step[part].reshape(lined_up)
        np.rint(block, out=block)
        block += zero[part].reshape(lined_up)
        made[place] = np.clip(block, grid.low, grid.high, out=block)
    return made


def _step(exact: Array, dtype: np.dtype[Any]) -> Array:
    """The smallest number of `dtype` that is not below `exact` nor below the least step; 1 for 0."""
    wanted = np.where(exact > 0, np.maximum(exact, _LEAST[dtype]), 1.0)
    rounded = wanted.astype(dtype)
    short = rounded.astype(np.float64) < wanted
    return np.asarray(np.where(short, np.nextafter(rounded, np.asarray(np.inf, dtype)), rounded))


def _blocks(values: Array, axis: int | None) -> Iterator[tuple[Any, Array, Any]]:
    """Slices along the longest axis as fresh float64 arrays: (index of the slice, slice, index into
    what is kept for each index of `axis`)."""
    if values.ndim == 0:
        yield (), values.astype(np.float64).reshape(()), ()
        return
    longest = int(np.argmax(values.shape))
    width = max(1, _BLOCK * values.shape[longest] // max(values.size, 1))
    for start in range(0, values.shape[longest], width):
        cut = slice(start, start + width)
        place = (slice(None),) * longest + (cut,)
        part: Any = () if axis is None else (cut if axis == longest else slice(None))
        yield place, values[place].astype(np.float64), part
