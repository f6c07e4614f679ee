"""Two layers of few ranks in place of one, chosen by what the results vary in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from graphopt.analysis.activations import Observation
from graphopt.analysis.batches import batches
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.analysis.layer_fit import LayerFit, Sums
from graphopt.analysis.layer_parts import Layer
from graphopt.analysis.least_squares import decibels
from graphopt.analysis.reconstruction import Reconstruction, Terms
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.prune.channel_readers import TOGETHER, WIDEST
from passes.prune.factoring import factor, why_not
from passes.prune.principal_results import Array, factors, foreseen
from passes.prune.rank_allocation import Ladder, shared

RULE = "low-rank"


@dataclass(frozen=True, eq=False)
class _Known:
    """A layer and what was seen of it: `errors` are those that ranks from 0 to all will make."""

    layer: FloatLayer
    sums: Sums
    damping: float
    errors: Array
    ladder: Ladder
    places: int


@dataclass(frozen=True)
class LowRank(Pass):
    """Put two layers of few ranks in place of one, where the results of a layer vary in few directions.

    What it does
        The results y = W x of a layer over the calibration feeds lie near a plane of few dimensions. With the
        directions V of most variance (the eigenvectors of W' H W, H the second moments of the data), W is replaced by
        (W V)(V'): of all matrices of that rank the one that misses y least in the mean square. A MatMul becomes two, a
        Gemm a MatMul and a Gemm, a Conv the same kernel to fewer channels and a Conv of 1x1 behind it. The
        bias makes the means right. As few samples do not show all directions, `damping` of the mean energy of the
        inputs is added to H; unless given, the one of four with which bases of one half of the samples serve the other
        best.

        share is the share of the multiply-accumulates (or bytes) of these layers that is to go. Ranks are
        shared out so that the sum of errors, as shares of the results and seen on samples that bases were not
        made of, is least. With energy instead, each layer gets the smallest rank that keeps this share of the variance
        of its results. Ranks are multiples of `multiple`, and below inputs * outputs / (inputs + outputs), or
        nothing would be saved; a layer that cannot gain is left, with the figures.

        With repair, the second factors are then fitted by least squares to what the layers made in the model as it
        was read, in the order of the graph, each on the data that it reads by then (see `repair`).

    Example
        before: y = MatMul(x, w)                                  w: float[384,1536]
        after:  w_ranks = MatMul(x, w_first)                      w_first: float[384,128]
                y = MatMul(w_ranks, w)                            w: float[128,1536]

    When not
        Where a layer is small, one more node takes what the smaller product saves: measure. Left, with the reason:
        groups (depthwise), weights that something else reads, or callers may override; data that
        cannot be seen; layers with a Gram matrix of over a quarter of a gigabyte.

        Cost: one run over the feeds, and for each layer some 9 times the cube of the smaller of inputs and outputs,
        and the cost of `repair`.

    Contract
        LOSSY: needs a budget.

    Source
        Eckart, Young, "The Approximation of One Matrix by Another of Lower Rank", 1936. Zhang, Zou, He, Sun,
        "Accelerating Very Deep Convolutional Networks for Classification and Detection", TPAMI 2016 (directions of the
        results, convolutions). Yuan et al., "ASVD", 2023; Wang et al., "SVD-LLM", ICLR 2025 (whitening).
    """

    name = "low-rank"
    contract = Contract.LOSSY
    strength = "share"
    calibrates = True

    share: float = option(0.25, "share of the multiply-accumulates (or bytes) of the layers that is to go, 0 to 1")
    by: Literal["macs", "bytes"] = option("macs", "what share counts")
    energy: float = option(0.0, "instead of share: the share of the variance of the results that each layer keeps")
    multiple: int = option(8, "ranks are multiples of this")
    repair: bool = option(True, "fit the second factors to what the layers made in the original")
    damping: float = option(0.0, "share of the mean energy of the inputs that stands for data not seen; 0 finds it")
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    min_elements: int = option(4096, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and weights to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and weights to take; all when empty")

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, and {self.share:g} is not")
        if not 0 <= self.energy < 1:
            raise ValueError(f"energy must be from 0 to below 1, and {self.energy:g} is not")
        if self.multiple < 1:
            raise ValueError(f"multiple must be at least 1, and {self.multiple} is not")
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")
        if self.rows < 0 or self.min_elements < 0:
            raise ValueError("rows and min-elements must not be negative")

    def run(self, graph: Graph, ctx: Context) -> None:
        known = self._known(self._layers(graph, ctx), ctx)
        done = list[Node]()
        for one, rank in zip(known, self._ranks(known, ctx), strict=True):
            if rank and self._factor(one, rank, ctx):
                done.append(one.layer.node)
        if self.repair and done:
            layers = [found for node in done if isinstance(found := float_layer(node), FloatLayer)]
            Reconstruction(ctx, Terms(rows=self.rows, samples=0), "repair").run([Layer(one) for one in layers], graph)

    def _layers(self, graph: Graph, ctx: Context) -> list[FloatLayer]:
        found = list[FloatLayer]()
        for scope in graph.scopes():
            for node in scope.nodes:
                layer = float_layer(node)
                if layer is None or node.op == "BatchNormalization":
                    continue
                why = layer if isinstance(layer, str) else self._why_not(layer)
                if why is not None:
                    ctx.missed(RULE, node, why)
                elif isinstance(layer, FloatLayer):
                    found.append(layer)
        return found

    def _why_not(self, layer: FloatLayer) -> str | None:
        names = [layer.node.label, *(one.name for one in layer.node.inputs[1:2])]
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if self.only and not any(fnmatchcase(name, one) for name in names for one in self.only):
            return "only has no pattern for it"
        elements = math.prod(layer.shape)
        if elements < self.min_elements:
            return f"it has {elements} elements, fewer than min-elements={self.min_elements}"
        if not np.isfinite(layer.held.values.astype(np.float64)).all():
            return "its weight has NaN or infinities"
        if layer.sums > WIDEST:
            return f"it has {layer.inputs} inputs, too many for a Gram matrix"
        why = why_not(layer)
        if why is None and not self._ranks_of(layer).size:
            most = layer.inputs * layer.outputs / (layer.inputs + layer.outputs)
            why = f"only a rank below {most:.4g} saves anything, and no multiple of {self.multiple} is"
        return why

    def _ranks_of(self, layer: FloatLayer) -> Array:
        """The ranks with which something is saved."""
        most = math.ceil(layer.inputs * layer.outputs / (layer.inputs + layer.outputs)) - 1
        return np.arange(self.multiple, most + 1, self.multiple)

    def _known(self, layers: Sequence[FloatLayer], ctx: Context) -> list[_Known]:
        found = list[_Known]()
        for batch in batches(layers, lambda one: one.sums, TOGETHER):
            asked = {one: Observation((one.data, one.result), LayerFit(one.rows, self.rows)) for one in batch}
            refused = ctx.calibration.observe(list(asked.values())).refused
            for layer, question in asked.items():
                assert isinstance(question.accumulator, LayerFit)
                made = refused.get(question) or self._seen(layer, question.accumulator, ctx)
                if isinstance(made, str):
                    ctx.missed(RULE, layer.node, made)
                else:
                    found.append(made)
        return found

    def _seen(self, layer: FloatLayer, fit: LayerFit, ctx: Context) -> _Known | str:
        sums = fit.whole
        if fit.trouble is not None or sums is None:
            return fit.trouble or "no data were seen"
        if sums.cross.shape != (1, layer.inputs + 1, layer.outputs):
            return "its data or results are not as wide as its weight"
        if not sums.finite:
            return "its data or results have NaN or infinities"
        try:
            damping, errors = foreseen(fit.halves, layer.weights()[0], layer.has_bias, self.damping)
        except np.linalg.LinAlgError:
            return "the second moments of its data are no use"
        ranks, places = self._ranks_of(layer), self._places(layer, ctx)
        costs = ranks * (layer.inputs + layer.outputs) * float(places)
        ladder = Ladder(ranks, errors[ranks], costs, float(layer.inputs * layer.outputs * places))
        return _Known(layer, sums, damping, errors, ladder, places)

    def _places(self, layer: FloatLayer, ctx: Context) -> int:
        """How often the weight is used in a run, for one of each symbolic size; 1 where bytes count."""
        shape = ctx.shapes.shape(layer.result)
        if self.by == "bytes" or shape is None:
            return 1
        sizes = [size for axis, size in enumerate(shape) if axis != layer.axis % len(shape)]
        return math.prod(size for size in sizes if isinstance(size, int) and size > 0)

    def _ranks(self, known: Sequence[_Known], ctx: Context) -> list[int]:
        """The rank of each layer, 0 where it stays."""
        if not self.energy:
            ladders = [one.ladder for one in known]
            places = shared(ladders, self.share * sum(one.whole for one in ladders))
            found = [int(one.ranks[place]) if place >= 0 else 0 for one, place in zip(ladders, places, strict=True)]
            for one, rank in zip(known, found, strict=True):
                if not rank:
                    text = f"at half of its cost its error is {_half(one)} dB below its results: others save at less"
                    ctx.missed(RULE, one.layer.node, text)
            return found
        found = []
        for one in known:
            enough = np.flatnonzero(one.errors <= 1 - self.energy)
            least = int(enough[0]) if enough.size else len(one.errors) - 1
            rank = max(-(-least // self.multiple), 1) * self.multiple
            if rank > one.ladder.ranks[-1]:
                most = int(one.ladder.ranks[-1])
                text = f"rank {least} keeps {self.energy:g} of its results, and only ranks up to {most} save anything"
                ctx.missed(RULE, one.layer.node, text)
                rank = 0
            found.append(rank)
        return found

    def _factor(self, one: _Known, rank: int, ctx: Context) -> bool:
        layer = one.layer
        try:
            weights, bias = layer.weights()[0], layer.bias()[0]
            first, second, moved = factors(one.sums, weights, bias, layer.has_bias, one.damping, rank)
        except np.linalg.LinAlgError:
            ctx.missed(RULE, layer.node, "the second moments of its data are no use")
            return False
        error = one.sums.error(np.concatenate([first @ second, moved[None]])[None])
        part = rank * (layer.inputs + layer.outputs) / (layer.inputs * layer.outputs)
        text = (
            f"rank {rank} of {min(layer.inputs, layer.outputs)}, {part:.3g} of its {self.by}, error "
            f"{decibels(error)} dB below its results, {decibels(float(one.errors[rank]))} dB foreseen"
        )
        if not ctx.rewrite(RULE, layer.node, text):
            return False
        factor(layer, first, second, moved)
        return True


def _half(one: _Known) -> str:
    place = int(np.argmin(np.abs(one.ladder.costs - one.ladder.whole / 2)))
    return decibels(float(one.ladder.errors[place]))
