"""The integers of weights and biases of operators that compute in integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.quantized import quantized_weight
from graphopt.analysis.weight_axes import axes_of
from passes.quantize.fitting import fitted
from passes.quantize.grid import Array, Grid, codes, spread, symmetric, why_no_grid
from passes.quantize.static.grids import limits
from passes.quantize.static.schemes import Scheme
from passes.quantize.static.units import Unit

_SINGLE = np.dtype(np.float32)
_NARROW = 64  # the largest code for which two products of 8 bits fit 16: 2 * 255 * 64 < 2^15
_MOST = 2**31 - 1
_ROOM = 2**30  # a bias is kept below, so that the sum of products fits with it
_CHANNELS = 13  # the opset from which on there may be one scale a channel


@dataclass(frozen=True, eq=False)
class Codes:
    """The integers of a weight: `scale` and `zero` are () or (C,) along `axis`; `kept` those that were there."""

    values: Array
    scale: Array
    zero: Array | None
    axis: int | None
    kept: bool


@dataclass(frozen=True, eq=False)
class Weighted:
    """The weight of a unit and its bias as integers with the scale of the products; no bias is None."""

    weight: Codes
    bias: Array | None
    bias_scale: Array | None


@dataclass(frozen=True)
class Wishes:
    """What the user asked of weights."""

    channels: bool
    reduce_range: bool
    fit: bool


def integers_of(unit: Unit, scheme: Scheme, wishes: Wishes, codes_: Codes, data: Grid) -> Weighted | str:
    """The integers for a unit that reads activations on the grid `data`, or a clause that says why there are none."""
    bias = constant_values(unit.node.inputs[unit.bias]) if unit.bias is not None and scheme.bias else None
    if bias is None:
        return _overflows(unit, codes_, data, None) or Weighted(codes_, None, None)
    straight = _straight(unit, bias, codes_)
    if isinstance(straight, str):
        return straight
    product = data.scale.astype(np.float64) * codes_.scale.astype(np.float64)
    needed = np.abs(straight) / _ROOM
    if (needed > product).any():
        if codes_.kept and codes_.axis is None:
            return "its bias does not fit 32 bits with the scale that its weight has"
        codes_ = _coarser(unit, codes_, needed / float(data.scale), wishes)
        product = data.scale.astype(np.float64) * codes_.scale.astype(np.float64)
    scale = np.maximum(np.asarray(product, np.float32), np.finfo(np.float32).tiny)
    integers = np.clip(np.rint(straight / scale.astype(np.float64)), -_MOST, _MOST).astype(np.int32)
    return _overflows(unit, codes_, data, integers) or Weighted(codes_, integers, scale)


def codes_of(unit: Unit, scheme: Scheme, wishes: Wishes) -> Codes | str:
    """The integers of a unit's weight, kept or the nearest, or a clause that says why there are none."""
    assert unit.weight is not None
    tensor = unit.node.inputs[unit.weight]
    stored = quantized_weight(tensor)
    if stored is not None:
        if stored.block:
            return "its weight has one scale for each block"
        if stored.values.dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
            return f"its weight is {stored.values.dtype}, and kernels multiply by 8 bits"
        if stored.axis is not None and stored.axis != _channel(unit, stored.values.shape):
            return "the scales of its weight are not along its output channels"
        if wishes.reduce_range and not _is_narrow(stored.values, stored.zero):
            return "its weight has codes of 8 bits, and reduce-range asks for 7"
        return Codes(stored.values, stored.scale, stored.zero, stored.axis, True)
    values = constant_values(tensor)
    if values is None or values.dtype != _SINGLE:
        return "its weight is not float32"
    if values.size == 0:
        return "its weight is empty"
    axis = _channel(unit, values.shape) if wishes.channels and unit.op in scheme.channels else None
    opset = 0 if unit.node.graph is None else unit.node.graph.opset_of()
    if axis is not None and opset < _CHANNELS:
        return (
            f"one scale a channel needs opset {_CHANNELS} and the model has {opset}: "
            f"raise it with opset{{to={_CHANNELS}}} first or ask for granularity=tensor"
        )
    found = spread(values, axis)
    why = why_no_grid(found, _SINGLE)
    if why is not None:
        return f"its weight cannot be quantized: {why}"
    grid = symmetric(found, axis, _SINGLE)
    if wishes.reduce_range:
        scale = np.asarray(grid.scale * np.float32(127 / _NARROW) * np.float32(1 + 2**-23), np.float32)
        grid = Grid(scale, None, axis, -_NARROW, _NARROW, grid.code)
    if wishes.fit:
        grid = fitted(values, grid)
    return Codes(codes(values, grid), grid.scale, None, axis, False)


def _channel(unit: Unit, shape: tuple[int, ...]) -> int | None:
    """The axis of the output channels, where kernels take one scale for each."""
    assert unit.weight is not None
    if unit.op == "MatMul" and (len(shape) != 2 or unit.weight != 1):
        return None
    if unit.op == "ConvTranspose" and unit.node.attrs.get("group", 1) != 1:
        return None
    if unit.op in ("LayerNormalization", "InstanceNormalization"):
        return None
    axis = axes_of(unit.node, unit.weight, shape).channel
    return axis if axis is not None and shape[axis] > 1 else None


def _coarser(unit: Unit, found: Codes, least: Array, wishes: Wishes) -> Codes:
    """The weight again with scales that are not below `least`, so that the bias fits.

    Beside such a bias the products of these channels are next to nothing, and their error is less.
    Codes of a pass before are kept but for those channels.
    """
    assert unit.weight is not None
    floor = least if found.axis is not None else least.max()
    scale = np.asarray(np.maximum(found.scale, floor * (1 + 2.0**-20)), np.float32).reshape(found.scale.shape)
    if found.kept:
        whole = found.values.astype(np.int64) - _lined_up(found, found.zero)
        ratio = found.scale.astype(np.float64) / scale
        made = np.rint(whole * _lined_up(found, ratio)).astype(np.int64) + _lined_up(found, found.zero)
        return Codes(made.astype(found.values.dtype), scale, found.zero, found.axis, False)
    values = constant_values(unit.node.inputs[unit.weight])
    assert values is not None
    low = -_NARROW if wishes.reduce_range else -127
    grid = Grid(scale, None, found.axis, low, -low, found.values.dtype)
    return Codes(codes(values, grid), scale, None, found.axis, False)


def _straight(unit: Unit, bias: Array, found: Codes) -> Array | str:
    """The bias as float64, one for each output channel, the factor of a Gemm in it."""
    if bias.dtype != _SINGLE or not np.isfinite(bias).all():
        return "its bias is not finite float32"
    beta = unit.node.attrs.get("beta", 1.0) if unit.op == "Gemm" else 1.0
    channel = _channels(unit, found)
    if bias.size not in (1, channel) or (bias.ndim > 1 and bias.shape[-1] != bias.size):
        return "its bias is not one number for each output channel"
    return np.broadcast_to(bias.reshape(-1).astype(np.float64) * float(beta), (channel,)).copy()


def _channels(unit: Unit, found: Codes) -> int:
    assert unit.weight is not None
    shape = found.values.shape
    if unit.op == "ConvTranspose":
        return int(shape[1]) * int(unit.node.attrs.get("group", 1))
    axis = 0 if len(shape) == 1 else axes_of(unit.node, unit.weight, shape).channel
    return int(shape[axis]) if axis is not None else 1


def _overflows(unit: Unit, found: Codes, data: Grid, bias: Array | None) -> str | None:
    """Whether a sum of products could leave 32 bits; codes of 16 bits are summed in 64."""
    if data.code.itemsize > 1 or unit.op in ("LayerNormalization", "InstanceNormalization"):
        return None
    assert data.zero is not None and unit.weight is not None
    first, last = limits(data.code)
    reach = max(last - int(data.zero), int(data.zero) - first)
    codes_ = found.values.astype(np.int64) - _lined_up(found, found.zero)
    channel = _reduced_axes(unit, found.values.shape)
    sums = np.abs(codes_).sum(axis=channel) * reach
    top = int(sums.max(initial=0)) + (0 if bias is None else int(np.abs(bias.astype(np.int64)).max(initial=0)))
    return f"a sum of its products can reach {top}, beyond 32 bits" if top > _MOST else None


def _lined_up(found: Codes, numbers: Array | None) -> Array:
    """Numbers of scales, or zeros for None, in the shape that goes with the codes."""
    if numbers is None:
        return np.zeros((), np.int64)
    numbers = numbers.astype(np.int64) if numbers.dtype.kind in "iu" else numbers
    if found.axis is None:
        return numbers
    shape = [1] * found.values.ndim
    shape[found.axis] = -1
    return numbers.reshape(shape)


def _reduced_axes(unit: Unit, shape: tuple[int, ...]) -> tuple[int, ...]:
    assert unit.weight is not None
    if len(shape) < 2:
        return tuple(range(len(shape)))
    channel = axes_of(unit.node, unit.weight, shape).channel
    if unit.op == "MatMul":
        return (len(shape) - 2,) if unit.weight == 1 else (len(shape) - 1,)
    return tuple(axis for axis in range(len(shape)) if axis != channel)


def _is_narrow(values: Array, zero: Array | None) -> bool:
    offset = 0 if zero is None else int(zero.reshape(-1)[0])
    return bool((np.abs(values.astype(np.int32) - offset) <= _NARROW).all())
