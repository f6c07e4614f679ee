"""Weights and biases of operators that compute in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_node, constant_of, constant_values
from graphopt.analysis.quantized import quantized_weight
from graphopt.analysis.weight_axes import axes_of
from graphopt.ir import Constant, Graph, Node, Tensor
from passes.quantize.fitting import fitted
from passes.quantize.grid import Array, Grid, codes, spread, symmetric, why_no_grid
from passes.quantize.static.grids import limits
from passes.quantize.static.schemes import Scheme
from passes.quantize.static.units import Unit

_SINGLE = np.dtype(np.float32)
_NARROW = 64  # the largest code for which two products of 8 bits fit 16: 2 * 255 * 64 < 2^15
_MOST = 2**31 - 1
_ROOM = 2**30  # a bias is kept below, so that the sum of products fits with it
_ASK_FOR_ZERO = frozenset({"Gemm"})  # onnxruntime has no kernel for it where the weight's zero point is left out
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
        if codes_.kept:
            return "its bias does not fit 32 bits with the scales that its weight has"
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
    """The weight again with scales that are not below `least`, so that the bias fits."""
    assert unit.weight is not None
    values = constant_values(unit.node.inputs[unit.weight])
    assert values is not None
    floor = least if found.axis is not None else least.max()
    scale = np.asarray(np.maximum(found.scale, floor * (1 + 2.0**-20)), np.float32).reshape(found.scale.shape)
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
    codes_ = found.values.astype(np.int64) - (0 if found.zero is None else _lined_up(found))
    channel = _reduced_axes(unit, found.values.shape)
    sums = np.abs(codes_).sum(axis=channel) * reach
    top = int(sums.max(initial=0)) + (0 if bias is None else int(np.abs(bias.astype(np.int64)).max(initial=0)))
    return f"a sum of its products can reach {top}, beyond 32 bits" if top > _MOST else None


def _lined_up(found: Codes) -> Array:
    assert found.zero is not None
    zero = found.zero.astype(np.int64)
    if found.axis is None:
        return zero
    shape = [1] * found.values.ndim
    shape[found.axis] = -1
    return zero.reshape(shape)


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


class WeightWriter:
    """Puts integers in the place of weights and biases; a weight that several read alike is stored once."""

    def __init__(self) -> None:
        self._made: dict[tuple[Tensor, int | None, bytes, bool], Tensor] = {}

    def write(self, unit: Unit, found: Weighted) -> None:
        """Let the node of `unit` read its weight and bias from DequantizeLinear."""
        node = unit.node
        graph = _graph(node)
        assert unit.weight is not None
        old = node.inputs[unit.weight]
        if found.weight.kept:
            self._keep(unit, old, graph)
        else:
            key = (old, found.weight.axis, found.weight.scale.tobytes(), unit.op in _ASK_FOR_ZERO)
            new = self._made.get(key)
            if new is None:
                stem = old.name or f"{node.label}_weight"
                new = self._made[key] = dequantized(graph, node, stem, found.weight.values, _grid(found.weight, unit))
            graph.rewire(node, unit.weight, new)
            drop_unread(old, graph)
        if found.bias is not None:
            assert unit.bias is not None and found.bias_scale is not None
            bias = node.inputs[unit.bias]
            stem = bias.name or f"{node.label}_bias"
            axis = 0 if found.bias_scale.ndim else None
            grid = Grid(found.bias_scale, None, axis, -_MOST, _MOST, np.dtype(np.int32))
            graph.rewire(node, unit.bias, dequantized(graph, node, stem, found.bias, grid))
            drop_unread(bias, graph)
            if unit.op == "Gemm" and node.attrs.get("beta", 1.0) != 1.0:
                node.attrs["beta"] = 1.0

    def _keep(self, unit: Unit, old: Tensor, graph: Graph) -> None:
        """Give the DequantizeLinear of a weight its zero point, where the operator's kernel asks for one."""
        before = old.inputs[0]
        if unit.op not in _ASK_FOR_ZERO or (len(before.inputs) > 2 and before.inputs[2].name):
            return
        assert unit.weight is not None
        codes_, scale = before.inputs[0], before.inputs[1]
        numbers, steps = constant_values(codes_), constant_values(scale)
        assert numbers is not None and steps is not None
        zero = graph.constant(np.zeros(steps.shape, numbers.dtype), f"{codes_.name}_zero_point")
        made = graph.variable(f"{codes_.name}_dequantized")
        name = graph.fresh_name(f"{codes_.name}_DequantizeLinear")
        new = Node("DequantizeLinear", name, dict(before.attrs), [codes_, scale, zero], [made])
        graph.insert(new, before=unit.node)
        graph.rewire(unit.node, unit.weight, made)
        if not old.is_read and before.graph is not None:
            before.graph.remove(before)


def _grid(found: Codes, unit: Unit) -> Grid:
    zero = found.zero
    if zero is None and unit.op in _ASK_FOR_ZERO:
        zero = np.zeros(found.scale.shape, found.values.dtype)
    return Grid(found.scale, zero, found.axis, 0, 0, found.values.dtype)


def dequantized(graph: Graph, before: Node, stem: str, values: Array, grid: Grid) -> Tensor:
    """A new value that DequantizeLinear makes of constant codes, before a node."""
    inputs = [graph.constant(values, f"{stem}_{values.dtype}"), graph.constant(grid.scale, f"{stem}_scale")]
    if grid.zero is not None:
        inputs.append(graph.constant(grid.zero, f"{stem}_zero_point"))
    out = graph.variable(f"{stem}_dequantized")
    attrs = {} if grid.axis is None else {"axis": grid.axis}
    graph.insert(
        Node("DequantizeLinear", graph.fresh_name(f"{stem}_DequantizeLinear"), attrs, inputs, [out]), before=before
    )
    return out


def drop_unread(tensor: Tensor, graph: Graph) -> None:
    """Take out the stored value of a constant that nobody reads any more."""
    if tensor.is_read:
        return
    holder = constant_node(tensor)
    if holder is not None and holder.graph is not None:
        holder.graph.remove(holder)
        return
    held: Any = constant_of(tensor)
    if isinstance(held, Constant) and held in graph.initializers:
        graph.remove_initializer(held)


def _graph(node: Node) -> Graph:
    assert node.graph is not None
    return node.graph
