"""Which values of the original model the results of layers stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.constants import constant_values
from graphopt.analysis.float_layers import FloatLayer
from graphopt.analysis.layer_fit import Distance, LayerFit
from graphopt.analysis.layer_levels import layer_depths
from graphopt.analysis.matching import only_reader
from graphopt.analysis.nearest_original import nearest
from graphopt.ir import Node, Tensor, Variable
from graphopt.pipeline.protocol import Context

Array = np.ndarray[Any, Any]

_MOST_NAMES = 12  # of those that a value may stand for, the nearest by provenance come first


@dataclass(frozen=True)
class Target:
    """A value of the model as it was read that a result stands for.

    Where `beside` is not None, it is what the result and that value of the graph make together.
    """

    original: Original
    beside: Tensor | None = None


class BesideFit(LayerFit):
    """A `LayerFit` of a layer whose result is added to another value, which is given third: the results are what the
    sum should be, less that value."""

    @property
    def key(self) -> str:
        return f"{super().key} beside another"

    def update(self, *values: Array) -> None:
        data, whole, other = values
        axis = self.channel_axis
        wide = whole if self.kept is None or whole.ndim < 2 else self._narrowed(whole, axis)
        if wide is None or wide.shape != other.shape:
            self.trouble = self.trouble or f"what it is added to has shape {other.shape}, and their sum {whole.shape}"
            return
        kept, self.kept = self.kept, None
        try:
            super().update(data, wide - other)
        finally:
            self.kept = kept

    def _narrowed(self, whole: Array, axis: int) -> Array | None:
        assert self.kept is not None, "asked where it is known"
        return None if self.kept.size and whole.shape[axis] <= self.kept.max() else np.take(whole, self.kept, axis)


def question(layer: FloatLayer, target: Target, rows: int, kept: Array | None) -> Observation:
    """What to observe to fit a layer to its target: its accumulator is a `LayerFit`."""
    if target.beside is None:
        return Observation((layer.data, target.original), LayerFit(layer.rows, rows, kept))
    return Observation((layer.data, target.original, target.beside), BesideFit(layer.rows, rows, kept))


def targets(layers: Sequence[FloatLayer], ctx: Context) -> dict[Node, Target | str]:
    """For the node of each layer the value of the original that its result stands for, or why it is not known.

    Of several that provenance gives, the nearest on the calibration feeds, which are run once. Channels that the
    result has no more (`Variable.kept`) do not count. Where the result is added to a value that is there by
    then, and the original of the sum is known, the sum is the target: a layer can make good for some of what is
    wrong with the other value.
    """
    sums = _sums(layers, ctx)
    values = dict.fromkeys([*(layer.result for layer in layers), *(one[0] for one in sums.values())])
    asked: dict[Tensor, dict[str, Observation]] = {}
    for value in values:
        kept = value.kept if isinstance(value, Variable) else {}
        names = ctx.originals(value)[:_MOST_NAMES]
        asked[value] = {name: Observation((value, Original(name)), Distance(kept)) for name in names}
    refused = ctx.calibration.observe([one for each in asked.values() for one in each.values()]).refused
    found: dict[Node, Target | str] = {}
    for layer in layers:
        target = _nearest(asked[layer.result], refused)
        if layer.node in sums:
            whole, other = sums[layer.node]
            known = _nearest(asked[whole], refused)
            target = target if isinstance(known, str) else Target(known.original, other)
        found[layer.node] = target
    return found


def _nearest(asked: dict[str, Observation], refused: dict[Observation, str]) -> Target | str:
    found = nearest(asked, refused)
    return found if isinstance(found, str) else Target(Original(found[0]))


def _sums(layers: Sequence[FloatLayer], ctx: Context) -> dict[Node, tuple[Tensor, Tensor]]:
    """For layers whose result goes into nothing but a sum with a value of the same shape that does not come after it:
    the sum and that value."""
    graph = layers[0].node.graph
    assert graph is not None, "it was found in a graph"
    depth = layer_depths(graph, [layer.node for layer in layers])
    found: dict[Node, tuple[Tensor, Tensor]] = {}
    for layer in layers:
        pair = sum_behind(layer.result)
        if pair is None or depth.get(pair[1], 0) >= depth[layer.result]:
            continue
        shape = ctx.shapes.dims(layer.result)
        if shape is not None and shape == ctx.shapes.dims(pair[1]):
            found[layer.node] = pair
    return found


def sum_behind(result: Tensor) -> tuple[Tensor, Tensor] | None:
    """The sum of a result and another computed value, and that value, where nothing else reads the result."""
    adder = only_reader(result)
    if adder is None or not adder.is_op("Add") or not result.inputs or adder.graph is not result.inputs[0].graph:
        return None
    other = adder.inputs[1 if adder.inputs[0] is result else 0]
    return (adder.outputs[0], other) if constant_values(other) is None and other.inputs else None


def kept_channels(layer: FloatLayer, ctx: Context) -> Array | str | None:
    """Which channels of the original's result the layer still has, None for all; a clause where it lost others."""
    kept = layer.result.kept if isinstance(layer.result, Variable) else {}
    if not kept:
        return None
    axis = layer.axis
    if axis < 0:
        rank = ctx.shapes.rank(layer.result)
        if rank is None:
            return "the rank of its result is not known"
        axis += rank
    if set(kept) != {axis}:
        return "its result is narrower than the original's along another axis than its channels"
    return kept[axis]
