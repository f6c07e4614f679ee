"""What may stay of the kernel of a convolution: how far rows can go at its sides, and what their loss does.

A convolution whose kernel loses its first row along an axis gives the same places as before, and reads the same data
under the rows that stay, when one step of the kernel (its dilation) is taken from the padding in front; that there
must be. The last row is the same behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphopt.analysis.changes import Change
from graphopt.analysis.float_layers import FloatLayer
from graphopt.analysis.layer_fit import LayerFit
from graphopt.analysis.layer_inputs import Patches
from graphopt.analysis.layer_repair import best
from graphopt.analysis.least_squares import LEAST, best_damping, centred, damped, matching_bias
from graphopt.analysis.shapes import Shapes
from graphopt.ir.dtypes import np_dtype
from graphopt.pipeline.protocol import Context

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Core:
    """What stays of a kernel: along each axis the positions from `first` up to `last`, without the latter."""

    first: tuple[int, ...]
    last: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The kernel that it is."""
        return tuple(last - first for first, last in zip(self.first, self.last, strict=True))

    @property
    def weights(self) -> int:
        """How many positions it has."""
        return math.prod(self.sizes)

    def inputs(self, channels: int, kernel: Sequence[int]) -> Array:
        """Which inputs of a layer with that many channels and that kernel it keeps."""
        places = np.arange(channels * math.prod(kernel)).reshape(channels, *kernel)
        kept = tuple(slice(first, last) for first, last in zip(self.first, self.last, strict=True))
        return places[(slice(None), *kept)].reshape(-1)


@dataclass(frozen=True)
class Room:
    """Of a convolution: its padding in front of and behind each axis, and how much of that a step of its kernel is."""

    kernel: tuple[int, ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def whole(self) -> Core:
        """The kernel as it is."""
        return Core((0,) * len(self.kernel), self.kernel)

    def smaller(self, core: Core) -> Iterator[Core]:
        """All that a core may become when one row goes."""
        for axis, size in enumerate(core.sizes):
            if size < 2:
                continue
            if self.steps[axis] * (core.first[axis] + 1) <= self.before[axis]:
                yield replace(core, first=_moved(core.first, axis, 1))
            if self.steps[axis] * (self.kernel[axis] - core.last[axis] + 1) <= self.behind[axis]:
                yield replace(core, last=_moved(core.last, axis, -1))

    def pads(self, core: Core) -> list[int]:
        """The padding of a convolution with that core."""
        gone = [size - last for size, last in zip(self.kernel, core.last, strict=True)]
        before = [pad - step * one for pad, step, one in zip(self.before, self.steps, core.first, strict=True)]
        behind = [pad - step * one for pad, step, one in zip(self.behind, self.steps, gone, strict=True)]
        return [*before, *behind]


def room_of(layer: FloatLayer, shapes: Shapes) -> Room | str:
    """How much of a kernel can go, or a clause on why nothing can."""
    rows = layer.rows
    if layer.node.op != "Conv" or not isinstance(rows, Patches):
        return "it has no kernel"
    if math.prod(rows.kernel) == 1:
        return "its kernel is of one position"
    rank = len(rows.kernel)
    dims = shapes.shape(layer.data)
    sizes = list(dims[2:]) if dims is not None and len(dims) == rank + 2 else [None] * rank
    if isinstance(rows.pads, str) and rows.pads != "VALID":
        for size, stride in zip(sizes, rows.strides, strict=True):
            if stride > 1 and not isinstance(size, int):
                return f"its padding ({rows.pads}) follows from a size that is not known"
    # With a stride of 1 the padding is the same for all sizes, so any will do for one that is not known.
    pads = rows.padding([size if isinstance(size, int) else 1 for size in sizes])
    found = Room(rows.kernel, pads[:rank], pads[rank:], rows.dilations)
    if not any(True for _ in found.smaller(found.whole)):
        return "its kernel reads no padding, which the rows at its sides have to take up"
    return found


@dataclass(frozen=True, eq=False)
class Told:
    """What is known of a layer: its sums, the damping that serves it, and the variance for each place that errors are
    shares of, where that is of more than its own results."""

    layer: FloatLayer
    room: Room
    fit: LayerFit | str
    damping: float
    spread: float = 0.0

    def path(self) -> tuple[list[Core], Array] | str:
        """Cores one row smaller each, the one next that adds least error for what it saves, and the errors with them
        beyond that with the whole kernel, as shares of the variance of the results; the whole kernel is the first.

        A clause where what was seen tells nothing.
        """
        why = self._why_unseen()
        if why is not None:
            return why
        try:
            return self._path()
        except np.linalg.LinAlgError:
            return "the Gram matrix of its data cannot be inverted: a larger damping may help"

    def _path(self) -> tuple[list[Core], Array]:
        layer = self.layer
        damping = self.damping or best_damping(self._seen, layer.weights(), layer.bias(), layer.has_bias)
        found, errors = [self.room.whole], [self._error(self.room.whole, damping)]
        while True:
            tried = [(self._error(one, damping), one) for one in self.room.smaller(found[-1])]
            if not tried:
                return found, np.maximum.accumulate(np.array(errors) - errors[0])
            now, weights = errors[-1], found[-1].weights
            error, core = min(tried, key=lambda pair: max(pair[0] - now, 0.0) / (weights - pair[1].weights))
            found.append(core)
            errors.append(error)

    @property
    def _seen(self) -> LayerFit:
        assert isinstance(self.fit, LayerFit), "else there is no path"
        return self.fit

    def inputs(self, core: Core) -> Array:
        """The inputs that a core keeps."""
        return core.inputs(self.layer.shape[1], self.room.kernel)

    def kept(self, core: Core, refit: bool) -> tuple[Array, Array]:
        """The weights of a core [groups, inputs of the core, outputs] and the bias: with `refit` those that come
        nearest to the results, where others than those there are do."""
        which = self.inputs(core)
        fit = best(self.layer, self._seen.of_inputs(which), self.damping, inputs=which) if refit else ""
        return (self.layer.weights()[:, which], self.layer.bias()) if isinstance(fit, str) else (fit.weights, fit.bias)

    def trial(self, core: Core, refit: bool) -> tuple[Change, float]:
        """The layer with zeros around a core as a change to be tried, and its error on the samples seen beyond that
        of the whole kernel."""
        weights, bias = self.kept(core, refit)
        whole = np.zeros_like(self.layer.weights())
        whole[:, self.inputs(core)] = weights
        now = self._missed(self.layer.weights(), self.layer.bias())
        return Change(self.layer.replaced(whole, bias)), self._missed(whole, bias) - now

    def _missed(self, weights: Array, bias: Array) -> float:
        """The error of weights of the whole kernel on the samples seen."""
        sums = self._seen.whole
        assert sums is not None, "else there is no path"
        missed = sums.missed(np.concatenate([weights, bias[:, None, :]], axis=1))
        return missed / max(sums.variance, self.spread * sums.count)

    def _error(self, core: Core, damping: float) -> float:
        """The error on each half of the samples of what is fitted to the other."""
        which = self.inputs(core)
        weights, bias = self.layer.weights()[:, which], self.layer.bias()
        halves = [one.of_inputs(which) for one in self._seen.halves if one is not None]
        missed, variance = 0.0, 0.0
        for one, other in zip(halves, reversed(halves), strict=True):
            values = np.linalg.solve(*damped(*centred(one, self.layer.has_bias), weights, max(damping, LEAST)))
            made = matching_bias(one, values) if self.layer.has_bias else bias
            missed += other.missed(np.concatenate([values, made[:, None, :]], axis=1))
            variance += max(other.variance, self.spread * other.count)
        return missed / variance if variance > 0 else np.inf

    def _why_unseen(self) -> str | None:
        """Why what was seen of the layer tells nothing, in a clause."""
        if isinstance(self.fit, str):
            return self.fit
        layer, sums = self.layer, self.fit.whole
        if self.fit.trouble is not None or sums is None:
            return self.fit.trouble or "no data were seen"
        if sums.cross.shape != (layer.groups, layer.inputs + 1, layer.outputs):
            return "no data of the size of its weight were seen"
        if not sums.finite:
            return "its data or results have NaN or infinities"
        return None if sums.variance > 0 else "its results do not vary"


def by_outputs(told: Told, cores: Sequence[Core], errors: Array, refit: bool, ctx: Context, samples: int) -> Array:
    """What the outputs lose with each core, as a share of their energy; `errors` are those of the layer's results.

    Measured where the layer alone has the core. Weights that were fitted to the samples that are measured look better
    than they are: what counts is what the outputs lose for each error of the layer on these samples, times `errors`,
    which are on others. Where nothing can be measured, an infinite error.
    """
    trials = [told.trial(core, refit) for core in cores]
    measured = ctx.measure.changes([change for change, _ in trials], samples).present
    lost = np.array([measured[change].error if change in measured else np.inf for change, _ in trials])
    gains = lost / np.maximum([seen for _, seen in trials], LEAST)
    return np.maximum.accumulate(np.where(errors > 0, errors * gains, lost))


def cut(layer: FloatLayer, room: Room, core: Core, weights: Array, bias: Array) -> None:
    """Write a smaller kernel: `weights` [groups, inputs of the core, outputs] and `bias` [groups, outputs]."""
    node, graph = layer.node, layer.node.graph
    assert graph is not None, "it was found in a graph"
    shape, kind = layer.shape, np_dtype(layer.held.onnx_dtype)
    made = np.ascontiguousarray(weights.transpose(0, 2, 1)).reshape(shape[0], shape[1], *core.sizes)
    node.attrs.pop("auto_pad", None)
    node.attrs["kernel_shape"] = list(core.sizes)
    node.attrs["pads"] = room.pads(core)
    graph.set_values(node.inputs[1], made.astype(kind))
    if layer.has_bias:
        layer.write_bias(bias)


def _moved(places: tuple[int, ...], axis: int, by: int) -> tuple[int, ...]:
    return tuple(place + by if at == axis else place for at, place in enumerate(places))
