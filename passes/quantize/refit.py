"""Fit quantized weights and biases to what the layers made in the original model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.layer_fit import Distance, LayerFit
from graphopt.analysis.nearest_original import nearest
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.names import matching
from passes.quantize.refit_layers import Fitted, fitted_layer, write
from passes.quantize.refit_solving import solved

RULE = "refit"


@dataclass(frozen=True)
class Refit(Pass):
    """Fit integer weights and biases so that layers on quantized data give what they gave in the original.

    What it does
        Quantized activations make every layer read something else than it was trained on, and errors of
        one sign add up from layer to layer. For each Conv, MatMul and Gemm whose weight is stored as
        integers, in the order of the graph, this observes the data x that the layer reads now, all
        layers before it quantized and fitted already, and the result y that it had in the model as it
        was read. Weights and bias that bring W x + b nearest to y are a linear least squares problem, solved from
        sums over all calibration feeds: E[x x'], E[x y'] and the means. damping pulls the solution
        towards the weights there are, so that it does not follow the few calibration feeds too closely;
        unless given it is, of nine from 0.0003 to 10, the one with which weights fitted to one half of the
        samples are best on the other half.

        The solution is rounded on new scales, each input's rounding error passed on to the inputs after it
        (GPTQ), and the bias then makes the mean of every output right. A layer whose error on the
        calibration feeds would not get smaller stays as it is.

        Which value of the original a result stands for is known from the rewrites before; of several, the
        nearest is taken, and none that still differs by more than half of its variance when its turn comes.

    Example
        before: y = Conv(DequantizeLinear(q, s, z), DequantizeLinear(w_int8, ws), DequantizeLinear(b_int32, bs))
        after:  the same, with other w_int8, ws, b_int32 and bs

    When not
        Behind static-int8 (and passes that change its grids); where only weights are quantized,
        gptq is what fits. Left, with the reason: weights that several nodes read, with scales
        in blocks or with zero points; nodes in bodies and functions, where activations cannot be observed.
        Calibrate on feeds like the real ones, and on many samples: a hundred are better than
        thirty here.

        Cost: one run of both models up to a layer for each layer (stages bounds how many), and for a layer with n
        inputs two matrices of n^2 numbers and 20 times n^3 operations.

    Contract
        LOSSY: needs a budget. No layer's squared error on the calibration feeds grows.

    Source
        Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019
        (means). Hubara et al., "Improving Post Training Neural Quantization: Layer-wise Calibration and Integer
        Programming", 2020 (layer by layer on quantized data). Frantar et al., "GPTQ", 2022 (rounding).
    """

    name = "refit"
    contract = Contract.LOSSY
    calibrates = True

    damping: float = option(
        0.0, "share of the mean energy of the inputs that pulls towards the weights there are; 0 finds the best"
    )
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    stages: int = option(0, "at most so many runs over the feeds; 0 for one for each layer")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and values to fit; all when empty")

    def __post_init__(self) -> None:
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")
        if self.rows < 0 or self.stages < 0:
            raise ValueError("rows and stages must not be negative")

    def run(self, graph: Graph, ctx: Context) -> None:
        layers = list[Fitted]()
        for scope in graph.scopes():
            for node in scope.nodes:
                found = fitted_layer(node)
                if isinstance(found, Fitted):
                    found = self._unwanted(found, scope is graph.root) or found
                if isinstance(found, Fitted):
                    layers.append(found)
                elif found is not None:
                    ctx.missed(RULE, node, found)
        if not layers:
            return
        targets = _targets(layers, ctx)
        layers = [one for one in layers if one in targets]
        count = min(self.stages or len(layers), len(layers))
        for stage in range(count):
            self._fit(layers[stage * len(layers) // count : (stage + 1) * len(layers) // count], targets, ctx)

    def _unwanted(self, layer: Fitted, is_main: bool) -> str | None:
        pattern = matching((layer.node,), self.skip)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if self.only and matching((layer.node,), self.only) is None:
            return "only has no pattern for it"
        return None if is_main else "activations inside bodies and functions cannot be observed"

    def _fit(self, layers: Sequence[Fitted], targets: dict[Fitted, str], ctx: Context) -> None:
        asked = {one: Observation((one.data, Original(targets[one])), LayerFit(one.rows, self.rows)) for one in layers}
        refused = ctx.calibration.observe(list(asked.values())).refused
        for layer, question in asked.items():
            sums = question.accumulator
            assert isinstance(sums, LayerFit)
            found = refused.get(question) or solved(layer, sums, self.damping)
            if isinstance(found, str):
                ctx.missed(RULE, layer.node, found)
            elif ctx.rewrite(RULE, layer.node, found.text):
                write(layer, found.codes, found.scale, found.bias)


def _targets(layers: Sequence[Fitted], ctx: Context) -> dict[Fitted, str]:
    """For each layer the value of the original that its result stands for; others are missed."""
    asked: dict[Fitted, dict[str, Observation]] = {
        one: {name: Observation((one.result, Original(name)), Distance()) for name in ctx.originals(one.result)}
        for one in layers
    }
    refused = ctx.calibration.observe([one for each in asked.values() for one in each.values()]).refused
    found: dict[Fitted, str] = {}
    for layer, each in asked.items():
        best = nearest(each, refused)
        if isinstance(best, str):
            ctx.missed(RULE, layer.node, best)
        else:
            found[layer] = best[0]
    return found
