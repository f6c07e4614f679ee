"""What compressing a weight would change in it: plain rounding and zeros, without looking for anything better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from graphopt.tolerance.layers import Layer

Array = np.ndarray[Any, Any]
Kind = Literal["rounding", "zeros", "channels"]

_BLOCK: Final = 32


@dataclass(frozen=True)
class Compression:
    """One way to compress a layer. `make` gives what the weights would be, None where the layer has no such way."""

    name: str
    kind: Kind
    make: Callable[[Layer, Array], Array | None]
    about: str


def rounded(values: Array, bits: int, axis: int | None = None, block: int = 0) -> Array:
    """Weights rounded to symmetric codes of so many bits: one step for all of them, for each index of `axis`, or
    with a `block` for each run of so many elements along it."""
    wide = np.asarray(values, np.float64 if values.dtype == np.float64 else np.float32)
    most = float((1 << bits - 1) - 1)
    if axis is None:
        peak: Array = np.abs(wide).max(keepdims=True)
    elif not block:
        peak = np.abs(wide).max(axis=tuple(one for one in range(wide.ndim) if one != axis), keepdims=True)
    else:
        starts = np.arange(0, wide.shape[axis], block)
        runs = np.maximum.reduceat(np.abs(wide), starts, axis=axis)
        peak = np.repeat(runs, np.diff([*starts, wide.shape[axis]]), axis=axis)
    step = np.where(peak > 0.0, peak / wide.dtype.type(most), wide.dtype.type(1))
    found: Array = wide / step
    np.rint(found, out=found)
    np.clip(found, -most, most, out=found)
    found *= step
    return found.astype(values.dtype, copy=False)


def smallest(values: Array, share: float) -> Array:
    """Weights with a share of them, the smallest in magnitude, zero."""
    count = int(share * values.size + 0.5)
    flat = np.array(values).reshape(-1)
    if count:
        sizes = np.abs(flat if flat.dtype == np.float64 else flat.astype(np.float32))
        last = np.partition(sizes, count - 1)[count - 1]
        gone = sizes < last
        gone[np.flatnonzero(sizes == last)[: count - int(np.count_nonzero(gone))]] = True
        flat[gone] = 0
    return flat.reshape(values.shape)


def weak(values: Array, axis: int, share: float) -> Array:
    """The channels along `axis` that go, by index: a share of them, those of smallest norm."""
    others = tuple(one for one in range(values.ndim) if one != axis)
    norms = np.square(values, dtype=np.float64).sum(axis=others)
    return np.sort(np.argsort(norms, kind="stable")[: int(share * len(norms) + 0.5)])


def without(values: Array, axis: int, gone: Array) -> Array:
    """Values with some indices of an axis zero."""
    made = np.array(values)
    made[(slice(None),) * axis + (gone,)] = 0
    return made


def scale_axis(layer: Layer) -> int | None:
    """The axis along which each index gets a step of its own; None where all weights get one."""
    axes = {site.channel for site in layer.sites}
    axis = axes.pop() if len(axes) == 1 else None
    return axis if axis is not None and layer.shape[axis] > 1 else None


def block_axis(layer: Layer) -> int | None:
    """The axis along which weights are in blocks; None where an operator has no such axis."""
    found = set()
    for site in layer.sites:
        convolves = site.node.op in ("Conv", "ConvTranspose")
        pointwise = site.node.op == "Conv" and int(np.prod(layer.shape[2:])) == 1
        found.add(site.channel if site.is_table else site.inputs if pointwise or not convolves else None)
    return found.pop() if len(found) == 1 else None


def _channel(bits: int) -> Callable[[Layer, Array], Array | None]:
    return lambda layer, values: rounded(values, bits, scale_axis(layer))


def _tensor(bits: int) -> Callable[[Layer, Array], Array | None]:
    return lambda layer, values: rounded(values, bits)


def _blocks(layer: Layer, values: Array) -> Array | None:
    axis = block_axis(layer)
    return rounded(values, 4, scale_axis(layer)) if axis is None else rounded(values, 4, axis, _BLOCK)


def _sparse(share: float) -> Callable[[Layer, Array], Array | None]:
    return lambda layer, values: smallest(values, share)


def _fewer(share: float) -> Callable[[Layer, Array], Array | None]:
    def make(layer: Layer, values: Array) -> Array | None:
        if layer.channel is None:
            return None
        gone = weak(values, layer.channel, share)
        return without(values, layer.channel, gone) if 0 < len(gone) < values.shape[layer.channel] else None

    return make


SHARES: Final = {"channels-25": 0.25, "channels-50": 0.5}
"""The share of channels that goes in each compression of that kind."""

_ALL: Final = (
    Compression("int8-tensor", "rounding", _tensor(8), "8 bits, one scale for each tensor"),
    *(
        Compression(f"int{bits}-channel", "rounding", _channel(bits), f"{bits} bits, a scale for each channel")
        for bits in range(8, 1, -1)
    ),
    Compression("int4-block", "rounding", _blocks, f"4 bits, a scale for each {_BLOCK} inputs"),
    Compression("sparse-25", "zeros", _sparse(0.25), "the smallest 25 % of the weights are zero"),
    Compression("sparse-50", "zeros", _sparse(0.5), "the smallest 50 % of the weights are zero"),
    *(
        Compression(name, "channels", _fewer(share), f"{share:.0%} of the channels, the smallest, are gone")
        for name, share in SHARES.items()
    ),
)

COMPRESSIONS: Final[Mapping[str, Compression]] = {one.name: one for one in _ALL}
"""By name, in the order in which they are shown."""
