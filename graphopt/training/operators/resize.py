"""Resizing of any axes: nearest, linear and cubic, as sums of a few moved copies for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphopt.training.call import Call, Operators, Run

Array = np.ndarray[Any, Any]


def _sources(how: str, size: int, out: int, scale: float, region: tuple[float, float]) -> Array:
    """Where, in the input's coordinates, each element of the output lies."""
    f = np.float32
    x, s = np.arange(out, dtype=f), f(scale)
    if how == "asymmetric":
        return x / s
    if how == "align_corners":
        return x * f(size - 1) / f(out - 1) if out > 1 else np.zeros(1, f)
    if how == "pytorch_half_pixel" and out == 1:
        return np.zeros(1, f)
    if how == "tf_half_pixel_for_nn":
        return (x + f(0.5)) / s
    if how == "half_pixel_symmetric":
        adjusted = f(out) / (s * f(size))
        return f(size) / 2 * (1 - adjusted) + (x + f(0.5)) / s - f(0.5)
    if how == "tf_crop_and_resize":
        start, end = region
        if out == 1:
            return np.full(1, 0.5 * (start + end) * (size - 1), f)
        return (start * (size - 1) + x * f((end - start) * (size - 1)) / f(out - 1)).astype(f)
    return (x + f(0.5)) / s - f(0.5)


def _nearest(call: Call, places: Array, size: int) -> tuple[Array, Array]:
    how = call.text("nearest_mode", "round_prefer_floor") if call.version >= 11 else "floor"
    if how == "floor":
        chosen = np.floor(places)
    elif how == "ceil":
        chosen = np.ceil(places)
    elif how == "round_prefer_ceil":
        chosen = np.floor(places + np.float32(0.5))
    else:
        chosen = np.ceil(places - np.float32(0.5))
    return np.clip(chosen, 0, size - 1).astype(np.int64)[:, None], np.ones((len(places), 1), np.float32)


def _kernel(call: Call, mode: str) -> tuple[Any, int]:
    if mode == "linear":
        return (lambda d: np.clip(1 - np.abs(d), 0, None)), 1
    a = call.number("cubic_coeff_a", -0.75)

    def cubic(distance: Array) -> Array:
        d = np.abs(distance)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return cubic, 2


def _weighted(call: Call, mode: str, places: Array, size: int, scale: float) -> tuple[Array, Array]:
    """For each output element the inputs it is summed up of, and their weights."""
    kernel, reach = _kernel(call, mode)
    smooth = bool(call.integer("antialias")) and scale < 1
    wide = reach / scale if smooth else float(reach)
    places = places.astype(np.float64)
    first = np.floor(places).astype(np.int64) - int(np.ceil(wide)) + 1
    index = first[:, None] + np.arange(2 * int(np.ceil(wide)))
    weights = kernel((index - places[:, None]) * (scale if smooth else 1.0))
    outside = (index < 0) | (index >= size)
    if call.integer("exclude_outside") and (smooth or mode == "cubic"):
        weights = np.where(outside, 0.0, weights)
    weights = weights / weights.sum(1, keepdims=True)
    return np.clip(index, 0, size - 1), weights


def _along(x: Tensor, axis: int, index: Array, weights: Array) -> Tensor:
    shape = [-1 if k == axis else 1 for k in range(x.dim())]
    if weights.shape[1] == 1:
        return x.index_select(axis, torch.from_numpy(index[:, 0]))
    total: Tensor | None = None
    for k in range(weights.shape[1]):
        if not weights[:, k].any():
            continue
        factor = torch.from_numpy(weights[:, k]).to(x.dtype).reshape(shape)
        part = x.index_select(axis, torch.from_numpy(np.ascontiguousarray(index[:, k]))) * factor
        total = part if total is None else total + part
    return x if total is None else total


def _resized(
    call: Call, x: Tensor, axes: Sequence[int], outs: Sequence[int], scales: Sequence[float], roi: Sequence[float]
) -> Tensor:
    mode = call.text("mode", "nearest")
    how = call.text("coordinate_transformation_mode", "half_pixel") if call.version >= 11 else "asymmetric"
    kind, shape = x.dtype, x.shape
    y = x if x.is_floating_point() or mode == "nearest" else x.float()
    outer: list[tuple[int, Array]] = []
    for k, (axis, out, scale) in enumerate(zip(axes, outs, scales, strict=True)):
        size = shape[axis]
        if out == size and scale == 1 and how != "tf_crop_and_resize":
            continue
        region = (roi[k], roi[k + len(axes)]) if how == "tf_crop_and_resize" else (0.0, 1.0)
        places = _sources(how, size, out, scale, region)
        if how == "tf_crop_and_resize":
            outer.append((axis, (places < 0) | (places > size - 1)))
        if mode == "nearest":
            index, weights = _nearest(call, places, size)
        else:
            index, weights = _weighted(call, mode, places, size, scale)
        y = _along(y, axis, index, weights)
    for axis, outside in outer:
        mask = torch.from_numpy(outside).reshape([-1 if k == axis else 1 for k in range(x.dim())])
        y = torch.where(mask, torch.tensor(call.number("extrapolation_value"), dtype=y.dtype), y)
    return y if kind == y.dtype else torch.round(y).to(kind)


def _by_scale(call: Call) -> Run:
    fixed = call.numbers("scales")

    def run(x: Tensor, scales: Tensor | None = None) -> Tensor:
        factors = list(fixed or ()) if scales is None else scales.tolist()
        outs = [int(np.floor(size * factor)) for size, factor in zip(x.shape, factors, strict=True)]
        return _resized(call, x, range(x.dim()), outs, factors, ())

    return run


def _resize(call: Call) -> Run:
    chosen, policy = call.integers("axes"), call.text("keep_aspect_ratio_policy", "stretch")

    def run(x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        axes = list(range(x.dim())) if chosen is None else [axis % x.dim() for axis in chosen]
        have = [x.shape[axis] for axis in axes]
        if sizes is not None and sizes.numel():
            outs = sizes.tolist()
            factors = [out / size for out, size in zip(outs, have, strict=True)]
            if policy != "stretch":
                one = min(factors) if policy == "not_larger" else max(factors)
                factors = [one] * len(axes)
                outs = [int(np.floor(one * size + 0.5)) for size in have]
        elif scales is not None:
            factors = scales.tolist()
            outs = [
                int(np.floor(np.float32(factor) * np.float32(size))) for factor, size in zip(factors, have, strict=True)
            ]
        else:
            raise call.refuse("neither scales nor sizes are given")
        return _resized(call, x, axes, outs, factors, () if roi is None else roi.tolist())

    return run


OPERATORS: Operators = {
    "Upsample": [(7, _by_scale)],
    "Resize": [(10, _by_scale), (11, _resize)],
}
