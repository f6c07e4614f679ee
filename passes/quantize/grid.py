"""Grids: evenly spaced values, of which quantization picks the nearest for each weight.

A grid is a step (the scale), and for an asymmetric one the code that stands for zero. Every grid
made here of a whole range keeps the theorem |w - (q - z) * s| <= s / 2 for each finite weight w in
it, over the reals: the step is rounded up, never down, so no weight lies beyond the last code by more
than half a step. What DequantizeLinear adds is one rounding of the product in the scale's own type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.ir.shelf import scratch
from passes.quantize.pieces import is_short, pieces, steps_shape, upright

Array = np.ndarray[Any, Any]

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
    """Steps and zeros of a quantized tensor: for all of it (`axis` None), for each index of `axis`, or,
    with a `block`, for each run of that many elements along it (the last one may be shorter).

    `scale` has the weight's own dtype, and shape (), (C,) or, in blocks, that of the tensor with
    `axis` counted in blocks. `zero` has dtype `code` and the same shape; None for a grid around
    zero. Codes lie in `low` to `high` and have dtype `code`, one of ONNX's of 2, 4, 8 or 16 bits.
    """

    scale: Array
    zero: Array | None
    axis: int | None
    low: int
    high: int
    code: np.dtype[Any]
    block: int = 0


@dataclass(frozen=True)
class Spread:
    """The smallest and largest value that one scale is for: float64, in the shape of the scales."""

    low: Array
    high: Array

    @property
    def peak(self) -> Array:
        """The largest magnitude."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


def code_dtype(bits: int, signed: bool = True) -> np.dtype[Any]:
    """The dtype of codes of 2, 4, 8 or 16 bits; those below a byte are ONNX's, one a byte in memory."""
    name = f"{'int' if signed else 'uint'}{bits}"
    return np.dtype(getattr(ml_dtypes, name) if bits < 8 else name)


def spread(values: Array, axis: int | None, block: int = 0) -> Spread:
    """The range of `values` (any float type, not empty) that each scale is for; NaN where one is."""
    shape = steps_shape(values.shape, axis, block)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    values = np.asarray(values, order="C")
    for part, steps in pieces(values.shape, axis, block):
        found = part.of(values)
        found = found if found.dtype == _SINGLE else found.astype(np.float64)
        bottom, top = steps.of(low), steps.of(high)
        if is_short(found, bottom):
            found = upright(found)
            bottom[...] = found.min(2).reshape(bottom.shape)
            top[...] = found.max(2).reshape(top.shape)
            continue
        others = tuple(i for i in range(4) if bottom.shape[i] == 1)
        np.minimum(bottom, found.min(others, keepdims=True), out=bottom)
        np.maximum(top, found.max(others, keepdims=True), out=top)
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


def symmetric(
    found: Spread, axis: int | None, dtype: np.dtype[Any], bits: int = 8, *, block: int = 0, signed: bool = True
) -> Grid:
    """As many codes on each side of zero, -127 to 127 for 8 bits, the step the largest magnitude / 127
    (Jacob et al. 2018, section 2.1).

    Codes without a sign have the middle one, 128, for zero.
    """
    most = (1 << bits - 1) - 1
    scale = step(found.peak / most, dtype)
    return around_zero(scale, -most, most, axis, bits, block=block, signed=signed)


def around_zero(
    scale: Array, low: int, high: int, axis: int | None, bits: int, *, block: int = 0, signed: bool = True
) -> Grid:
    """A grid of steps `scale` with the codes `low` to `high`, where 0 stands for zero; codes without a
    sign are that plus the middle one, which is their zero point."""
    code = code_dtype(bits, signed)
    if signed:
        return Grid(scale, None, axis, low, high, code, block)
    middle = 1 << bits - 1
    return Grid(scale, np.full(scale.shape, middle, code), axis, low + middle, high + middle, code, block)


def asymmetric(
    found: Spread, axis: int | None, dtype: np.dtype[Any], bits: int = 8, *, block: int = 0, signed: bool = True
) -> Grid:
    """All codes, -128 to 127 for 8 bits, over the range of the values, widened to hold zero, which gets a
    code of its own."""
    low, high = np.minimum(found.low, 0.0), np.maximum(found.high, 0.0)
    least = -(1 << bits - 1) if signed else 0
    most = least + (1 << bits) - 1
    scale = step((high - low) / (most - least), dtype)
    zero = np.clip(least - np.rint(low / scale.astype(np.float64)), least, most)
    code = code_dtype(bits, signed)
    return Grid(scale, _as_codes(zero, code), axis, least, most, code, block)


def fixed_point(found: Spread, bits: int, dtype: np.dtype[Any], p: int | None = None, axis: int | None = None) -> Grid:
    """Codes of `bits` bits in two's complement, the step 2^-p: exact in every float type.

    Without `p`, the largest one for each range for which no code saturates and the step is a normal
    number of `dtype`; 0 for zeros. Raises ValueError for a `p` whose step is none.
    """
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    least, most = point_limits(dtype)
    if p is not None and not least <= p <= most:
        raise ValueError(f"the step 2^{-p} is not a normal number of {dtype}")
    points = np.where(found.peak > 0, most, 0) if p is None else np.full(found.low.shape, p)
    while p is None and (coarser := _saturating(found, points, low, high) & (points > least)).any():
        points = points - coarser
    scale = np.asarray(np.ldexp(1.0, -points)).astype(dtype)
    return Grid(scale, None, axis, low, high, np.dtype(f"int{bits}"))


def point_limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and largest p for which 2^-p is a normal number of `dtype`."""
    return _POINTS[dtype]


def saturates(found: Spread, p: int, low: int, high: int) -> bool:
    """Whether rounding value * 2^p leaves the codes `low` to `high` for some value."""
    return bool(_saturating(found, np.full(found.low.shape, p), low, high).any())


def _saturating(found: Spread, points: Array, low: int, high: int) -> Array:
    """Where rounding value * 2^point leaves the codes."""
    bottom, top = np.rint(np.ldexp(found.low, points)), np.rint(np.ldexp(found.high, points))
    return np.asarray((bottom < low) | (top > high))


def codes(values: Array, grid: Grid) -> Array:
    """The nearest code of each value, ties to even, of `values`' shape; beyond the ends, the last one."""
    values = np.asarray(values, order="C")
    made = scratch(values.shape, grid.code)
    integers = made.view(_storage(grid.code))
    exact = grid.scale.astype(np.float64)
    work = _working_type(grid)
    step_of = exact.astype(work)
    zeros = None if grid.zero is None else grid.zero.astype(work)
    with np.errstate(over="ignore", invalid="ignore"):
        for part, steps in pieces(values.shape, grid.axis, grid.block):
            found = part.of(values).astype(work, copy=False)
            ratio = found / steps.of(step_of)
            nearest = np.rint(ratio)
            if work == _SINGLE:
                _settle_ties(nearest, ratio, found, steps.of(exact))
            if zeros is not None:
                nearest += steps.of(zeros)
            part.of(integers)[...] = np.clip(nearest, grid.low, grid.high, out=nearest)
    return made


def values_of(made: Array, grid: Grid) -> Array:
    """What DequantizeLinear makes of codes: (q - z) * s in the type of the scales, multiplied in float32."""
    made = np.asarray(made, order="C")
    result = np.empty(made.shape, grid.scale.dtype)
    scale = grid.scale.astype(np.float32)
    zeros = None if grid.zero is None else grid.zero.astype(np.float32)
    for part, steps in pieces(made.shape, grid.axis, grid.block):
        whole = part.of(made).astype(np.float32)
        if zeros is not None:
            whole -= steps.of(zeros)
        whole *= steps.of(scale)
        part.of(result)[...] = whole
    return result


def over(one: Array, grid: Grid, shape: tuple[int, ...]) -> Array:
    """`grid.scale` or `grid.zero` for each element of a tensor of `shape`: broadcast, repeated in blocks."""
    if grid.axis is None:
        return np.broadcast_to(one, shape)
    axis = grid.axis % len(shape)
    if not grid.block:
        lined_up = [1] * len(shape)
        lined_up[axis] = -1
        return np.broadcast_to(one.reshape(lined_up), shape)
    return np.repeat(one, grid.block, axis)[(slice(None),) * axis + (slice(shape[axis]),)]


def step(exact: Array, dtype: np.dtype[Any]) -> Array:
    """The smallest number of `dtype` that is not below `exact` nor below the least step; 1 for 0."""
    wanted = np.where(exact > 0, np.maximum(exact, _LEAST[dtype]), 1.0)
    rounded = wanted.astype(dtype)
    short = rounded.astype(np.float64) < wanted
    return np.asarray(np.where(short, np.nextafter(rounded, np.asarray(np.inf, dtype)), rounded))


def near_step(exact: Array, dtype: np.dtype[Any]) -> Array:
    """The number of `dtype` nearest to `exact`, not below the least step."""
    return np.asarray(np.maximum(exact, _LEAST[dtype]).astype(dtype))


def _settle_ties(nearest: Array, ratio: Array, values: Array, exact: Array) -> None:
    """Round again, in float64, what lies so near to the middle of two codes that float32 may err.

    A ratio of up to 2^8 is off by at most 2^-17; whatever is beyond saturates.
    """
    np.subtract(ratio, nearest, out=ratio)
    np.abs(ratio, out=ratio)
    if not float(ratio.max(initial=0.0)) > 0.5 - 2.0**-16:
        return
    near = ratio > 0.5 - 2.0**-16
    nearest[near] = np.rint(values[near].astype(np.float64) / np.broadcast_to(exact, values.shape)[near])


def _working_type(grid: Grid) -> np.dtype[Any]:
    """Codes of 16 bits are more than float32 divides well."""
    return np.dtype(np.float64) if grid.high - grid.low > 255 else _SINGLE


def _storage(code: np.dtype[Any]) -> np.dtype[Any]:
    """The integer type whose low bits codes are: codes below a byte are written as whole bytes."""
    if code.kind in "iu":
        return code
    return np.dtype(np.uint8 if code.name.startswith("u") else np.int8)


def _as_codes(whole: Array, code: np.dtype[Any]) -> Array:
    return np.asarray(whole).astype(_storage(code)).view(code)
