"""Take rows off the sides of the kernels of convolutions, and repair what is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from graphopt.analysis.activations import Observation
from graphopt.analysis.batches import batches
from graphopt.analysis.cost import node_macs
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.analysis.layer_fit import LayerFit
from graphopt.analysis.layer_goals import Goal, goals_of
from graphopt.analysis.least_squares import decibels
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.prune.channel_cutting import Sweep, Terms
from passes.prune.channel_readers import TOGETHER, WIDEST, look
from passes.prune.kernel_cores import Core, Room, Told, by_outputs, cut, room_of
from passes.prune.overridable import advised
from passes.prune.rank_allocation import Ladder, shared

RULE = "kernels"


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of a layer: cores that its kernel may become, from the largest on, and what each costs and adds."""

    told: Told
    cores: Sequence[Core]
    ladder: Ladder


@dataclass(frozen=True)
class Kernels(Pass):
    """Take rows off the sides of the kernels of convolutions, and repair what is left.

    What it does
        Of a kernel of 5x5 positions the outer rows and columns often matter least. Where a convolution pads its data,
        a row at a side of its kernel can go together with the padding that it takes: the results keep their
        places and sizes. All channels stay, so any convolution can be made cheaper by itself, also where channels come
        in blocks of 8 or 16 that a kernel of the runtime computes together, and where they are tied to others.

        Rows go one at a time, along whichever axis and at whichever side they add least error to the results of the
        layer for what they save, with the weights of the rows that stay fitted anew by least squares, as seen on the
        half of the samples that weights were not fitted to. `share` is what is to go of the multiply-accumulates of
        the convolutions that can lose rows; which lose how many follows from where the sum of errors is least.
        importance=output counts what the outputs of the model lose where that layer alone has so many rows less,
        measured on `samples`; result counts the error of the layer, as a share of the variance of its result, or of
        the residual sum that it goes into. With block=16, results are counted in whole blocks of so many channels, as
        runtimes compute them that take 16 at a time: of a convolution to four channels a row is then worth as much as
        of one to sixteen.

        With repair, every layer is then fitted to what it made in the model as it was read, in the order of the
        graph, each on the data that it reads by then (see `channels`).

    Example
        kernels{share=0.3}
        before: y = Conv<kernel_shape=[5,5], pads=[2,2,2,2]>(x, w)    w: float[16,8,5,5]
        after:  y = Conv<kernel_shape=[4,4], pads=[2,1,1,2]>(x, w)    w: float[16,8,4,4], fitted anew

    When not
        Left, with the reason: kernels that read no padding; padding (SAME_UPPER, SAME_LOWER) that follows from a size
        that is not known where there is a stride; weights that something else reads, or callers may override;
        layers in bodies and functions, or whose data cannot be seen; those with a Gram matrix of over a quarter of a
        gigabyte. Behind quantization (prune first). Runtimes have kernels of their own for 3x3: measure (`--to
        latency=`).

        Cost: a run over the feeds; for each row that a kernel can lose, one of what lies behind on `samples`; for a
        layer with n inputs some 10 to 30 times n^3 operations, and the cost of the repair, which is that of `channels`.

    Contract
        LOSSY: needs a budget. No repair makes the error of its layer on the calibration feeds larger.

    Source
        Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NIPS 2016 (the shapes of filters). Lebedev,
        Lempitsky, "Fast ConvNets Using Group-Wise Brain Damage", CVPR 2016 (positions of kernels). Hassibi, Stork,
        "Second order derivatives for network pruning: Optimal Brain Surgeon", NIPS 1992.
    """

    name = "kernels"
    contract = Contract.LOSSY
    strength = "share"
    calibrates = True

    share: float = option(
        0.2, "share of the multiply-accumulates of convolutions with such kernels that is to go, 0 to 1"
    )
    importance: Literal["output", "result"] = option(
        "output", "what counts: the error of the outputs of the model, or that of the layer's own result"
    )
    block: int = option(1, "count results in whole blocks of so many channels")
    repair: bool = option(True, "fit what is left, and the layers behind, to what they made in the original")
    damping: float = option(
        0.0, "share of the mean energy of the inputs that pulls towards the weights there are; 0 finds the best"
    )
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    samples: int = option(64, "samples of the calibration feeds that importance=output runs on; 0 for all")
    skip: tuple[str, ...] = option((), "patterns such as /stem/* of nodes and weights to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and weights to take; all when empty")

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, and {self.share:g} is not")
        if self.block < 1:
            raise ValueError(f"block must be at least 1, and {self.block} is not")
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")
        if min(self.rows, self.samples) < 0:
            raise ValueError("rows and samples must not be negative")

    def run(self, graph: Graph, ctx: Context) -> None:
        rooms = dict(self._rooms(graph, ctx))
        if not rooms:
            return
        if self.share == 0:
            ctx.missed(RULE, next(iter(rooms)).node, "share is 0: nothing is to go")
            return
        layers = [found for node in graph.root.nodes if isinstance(found := float_layer(node), FloatLayer)]
        goals = goals_of(layers if self.repair else rooms, ctx)
        known = list(self._known(rooms, goals, ctx))
        changed = False
        for one, place in zip(known, self._places(known, ctx), strict=True):
            if place >= 0:
                changed = self._cut(one, place, ctx) or changed
        if changed:
            Sweep(graph.root, ctx, goals, "second-order", self.repair, Terms(self.damping, self.rows)).run([])

    def _rooms(self, graph: Graph, ctx: Context) -> Iterator[tuple[FloatLayer, Room]]:
        """The layers whose kernels can get smaller; of the other convolutions with kernels the reason why not."""
        for scope in graph.scopes():
            for node in scope.nodes:
                layer = float_layer(node) if node.is_op("Conv") else None
                if layer is None:
                    continue
                why = layer if isinstance(layer, str) else self._why_not(layer)
                room = why or (room_of(layer, ctx.shapes) if isinstance(layer, FloatLayer) else "")
                if isinstance(room, str):
                    ctx.missed(RULE, node, advised(room))
                elif isinstance(layer, FloatLayer):
                    yield layer, room

    def _why_not(self, layer: FloatLayer) -> str | None:
        names = [layer.node.label, *(one.name for one in layer.node.inputs[1:2])]
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if self.only and not any(fnmatchcase(name, one) for name in names for one in self.only):
            return "only has no pattern for it"
        if not np.isfinite(layer.held.values.astype(np.float64)).all():
            return "its weight has NaN or infinities"
        return f"it has {layer.inputs} inputs, too many for a Gram matrix" if layer.sums > WIDEST else None

    def _cost(self, node: Node, ctx: Context) -> float:
        """The multiply-accumulates of a convolution as `block` counts them."""
        count = float(node_macs(node, ctx.shapes).count)
        made = ctx.shapes.shape(node.outputs[0])
        channels = made[1] if made is not None and len(made) > 1 else None
        if not isinstance(channels, int) or channels < 1:
            return count
        return count / channels * (-(-channels // self.block) * self.block)

    def _known(self, rooms: Mapping[FloatLayer, Room], goals: Mapping[Node, Goal], ctx: Context) -> Iterator[_Known]:
        """What a run over the feeds tells of the layers."""
        for batch in batches(list(rooms), lambda one: one.sums, TOGETHER):
            seen = look([one for one in batch if one.node in goals], goals, ctx, self.rows)
            seen.fits.update(_alone([one for one in batch if one.node not in goals], ctx, self.rows))
            for layer in batch:
                told = Told(layer, rooms[layer], seen.fits[layer.node], self.damping, seen.spread.get(layer.node, 0.0))
                cost = self._cost(layer.node, ctx)
                path = told.path() if cost else "how often it is computed is not known"
                if isinstance(path, str):
                    ctx.missed(RULE, layer.node, path)
                    continue
                cores, errors = path[0], path[1][1:]
                if self.importance == "output":
                    errors = by_outputs(told, cores[1:], errors, self.repair, ctx, self.samples)
                    if not np.isfinite(errors[0]):
                        ctx.missed(RULE, layer.node, "what the outputs lose with its rows could not be measured")
                        continue
                costs = cost * np.array([core.weights for core in cores]) / cores[0].weights
                yield _Known(told, cores, Ladder(np.arange(1, len(cores)), errors, costs[1:], cost))

    def _places(self, known: Sequence[_Known], ctx: Context) -> list[int]:
        """The place of the core of each layer on its ladder, -1 where it stays."""
        ladders = [one.ladder for one in known]
        whole = sum(one.whole for one in ladders)
        wanted = self.share * whole
        found = shared(ladders, wanted)
        saved = 0.0
        for one, place in zip(known, found, strict=True):
            if place >= 0:
                saved += one.ladder.whole - float(one.ladder.costs[place])
            else:
                error = decibels(float(one.ladder.errors[0]))
                text = f"without a row the error is {error} dB {self._measure}: others save at less"
                ctx.missed(RULE, one.told.layer.node, text)
        if known and saved < wanted * 0.99:
            text = f"only {saved / whole:.1%} of what these layers compute can be saved in all, not {self.share:.1%}"
            ctx.missed(RULE, known[0].told.layer.node, text)
        return found

    @property
    def _measure(self) -> str:
        return "below the outputs" if self.importance == "output" else "below its results"

    def _cut(self, one: _Known, place: int, ctx: Context) -> bool:
        """Make a kernel smaller, where the gate lets it through."""
        core, told, layer = one.cores[place + 1], one.told, one.told.layer
        weights, bias = told.kept(core, self.repair)
        text = (
            f"kernel {_sized(core.sizes)} of {_sized(told.room.kernel)}, "
            f"error {decibels(float(one.ladder.errors[place]))} dB {self._measure} foreseen"
        )
        if not ctx.rewrite(RULE, layer.node, text):
            return False
        cut(layer, told.room, core, weights, bias)
        return True


def _alone(layers: Sequence[FloatLayer], ctx: Context, rows: int) -> dict[Node, LayerFit | str]:
    """What layers that stand for nothing of the original, as those in bodies do, make of what they read now."""
    asked = {one.node: Observation((one.data, one.result), LayerFit(one.rows, rows)) for one in layers}
    refused = ctx.calibration.observe(list(asked.values())).refused if asked else {}
    found = dict[Node, LayerFit | str]()
    for node, question in asked.items():
        assert isinstance(question.accumulator, LayerFit)
        found[node] = refused.get(question) or question.accumulator
    return found


def _sized(sizes: Sequence[int]) -> str:
    return "x".join(str(one) for one in sizes)
