"""Fit quantized weights and biases to what the layers made in the original model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.layer_fit import Distance, LayerFit
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize import feedback
from passes.quantize.names import matching
from passes.quantize.quadratic import Array, Lattice, Layer, better
from passes.quantize.refit_layers import ROOM, Fitted, fitted_layer, integer_step, write

RULE = "refit"

_FAR = 0.5  # share of the variance by which a result may differ from the original's and still be the same value
_ROWS = 4  # for each input of a layer, with fewer of which the weights there are count for more


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
        towards the weights there are, so that it does not follow the few calibration feeds too closely.

        The solution is rounded on new scales, each input's rounding error passed on to the inputs after it
        (GPTQ), and the bias then makes the mean of every output right. A layer whose error on the
        calibration feeds would not get smaller stays as it is.

        Which value of the original a result stands for is known from the rewrites before; of several, the
        nearest is taken, and none that still differs by more than half of its variance when its turn comes.
        Where fewer rows of data are seen than four for each input, damping grows with the square of what is
        missing: with one for every ten inputs, the weights hardly move and the bias is what is fitted.

    Example
        before: y = Conv(DequantizeLinear(q, s, z), DequantizeLinear(w_int8, ws), DequantizeLinear(b_int32, bs))
        after:  the same, with other w_int8, ws, b_int32 and bs

    When not
        Behind static-int8 (and passes that change its grids); where only weights are quantized,
        gptq is what fits. Left, with the reason: weights that several nodes read, with scales
        in blocks or with zero points; nodes in bodies and functions, where activations cannot be observed.
        Calibrate on feeds like the real ones: with fewer rows than a few times its inputs a layer is
        mostly damping.

        Cost: one run of both models up to a layer for each layer (stages bounds how many), and for a layer with n
        inputs a matrix of n^2 numbers and n^3 operations.

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

    damping: float = option(0.001, "share of the mean energy of the inputs that pulls towards the weights there are")
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    stages: int = option(0, "at most so many runs over the feeds; 0 for one for each layer")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and values to fit; all when empty")

    def __post_init__(self) -> None:
        if not 0 < self.damping <= 1:
            raise ValueError(f"damping must be over 0 and at most 1, and {self.damping:g} is not")
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
            found = refused.get(question) or _solved(layer, sums, self.damping)
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
        shares = {
            name: one.accumulator.share
            for name, one in each.items()
            if one not in refused and isinstance(one.accumulator, Distance)
        }
        best = min(shares, key=lambda name: shares[name], default=None)
        if best is None:
            why = next((refused[one] for one in each.values() if one in refused), "it stands for no value of it")
            ctx.missed(RULE, layer.node, f"its result in the original is not known: {why}")
        elif not np.isfinite(shares[best]):
            ctx.missed(RULE, layer.node, f"its result has not the shape of {best!r} of the original, or is no number")
        else:
            found[layer] = best
    return found


@dataclass(frozen=True)
class _Solution:
    """Codes [groups, inputs, outputs], scales and biases [groups, outputs]."""

    codes: Array
    scale: Array
    bias: Array
    text: str


def _solved(layer: Fitted, sums: LayerFit, damping: float) -> _Solution | str:
    """The best integers for a layer, or a clause that says why there are none better."""
    if sums.trouble is not None:
        return sums.trouble
    weights = layer.matrices(layer.weight.values.astype(np.float64)) * layer.scales(
        layer.weight.scale.astype(np.float64)
    )
    if sums.count == 0 or sums.gram.shape[1] != weights.shape[1] + 1 or sums.cross.shape[2] != weights.shape[2]:
        return "no data of the size of its weight were seen"
    if not (np.isfinite(sums.gram).all() and np.isfinite(sums.cross).all()):
        return "its data or results have NaN or infinities"
    before = sums.error(np.concatenate([weights, layer.bias_values()[:, None, :]], axis=1))
    if before > _FAR:
        return "its result is too far from that of the original: it must be another value"
    damping *= max(1.0, _ROWS * weights.shape[1] / sums.count) ** 2
    mean, result = sums.gram[:, :-1, -1] / sums.count, sums.cross[:, -1] / sums.count
    gram, linear = sums.gram[:, :-1, :-1] / sums.count, sums.cross[:, :-1] / sums.count
    if layer.bias != "none":
        gram = gram - mean[:, :, None] * mean[:, None, :]
        linear = linear - mean[:, :, None] * result[:, None, :]
    plain = Layer(weights, gram, linear)
    damped = plain.damped(damping)
    try:
        target = np.linalg.solve(damped.gram, damped.linear)
        lattice = _lattice(layer, target, np.abs(result).max(initial=0.0))
        codes = better(damped, lattice, feedback.rounded(damped, lattice, True), lattice.nearest(target))
    except np.linalg.LinAlgError:
        return "the Gram matrix of its data cannot be inverted: a larger damping may help"
    values = lattice.values(codes)
    bias = layer.bias_values()
    if layer.bias != "none":
        bias = result - np.einsum("gk,gko->go", mean, values)
    if layer.bias == "integer":
        step = integer_step(layer, lattice.scale[:, 0]).astype(np.float64)
        whole = np.rint(bias / step)
        if np.abs(whole).max(initial=0) > ROOM:
            return "its bias would not fit 32 bits"
        bias = whole * step
    after = sums.error(np.concatenate([values, bias[:, None, :]], axis=1))
    if not after < before:
        return "its error on the calibration feeds would not get smaller"
    text = f"error {_decibels(before)} dB below its result before, {_decibels(after)} dB after"
    return _Solution(codes, lattice.scale[:, 0], bias, text)


def _lattice(layer: Fitted, target: Array, largest: float) -> Lattice:
    """Codes -127 to 127, one step for each output (or one in all), wide enough for the bias to fit."""
    peak = np.abs(target).max(axis=1, keepdims=True)
    if not layer.weight.scale.ndim:
        peak = np.full_like(peak, peak.max())
    least = 4 * largest / ROOM / layer.step if layer.bias == "integer" else 0.0
    scale = np.maximum(np.maximum(peak / 127, least), float(np.finfo(np.float32).tiny))
    scale = scale.astype(np.float32).astype(np.float64)
    low = 0 if layer.weight.values.dtype == np.uint8 else -127
    return Lattice(scale, np.zeros((1, 1, 1)), low, 127)


def _decibels(share: float) -> str:
    return f"{-10 * np.log10(share):.1f}" if share > 0 else "infinitely many"
