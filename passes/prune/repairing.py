"""Repair in closed form: layers fitted to what they made in the original model, on the data that they read now.

For a pass that changed a model and wants what comes behind the change to make good for it:

    done = repair(nodes, ctx, Terms(damping=0.0, rows=4096, stages=0))

`nodes` are linear layers (Conv, Gemm, MatMul, BatchNormalization) in any order; others are ignored. They are fitted
in the order of the graph, each on the activations of the graph as it is when its turn comes, so that errors do not
pile up. Each is one rewrite of the rule `repair`, or a missed remark. A layer never gets a larger error on the
calibration feeds. The result says what was done to each node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.activations import Moments, Observation
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.analysis.layer_fit import LayerFit
from graphopt.analysis.layer_levels import layer_levels
from graphopt.analysis.least_squares import Fit, decibels, fitted
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context
from passes.prune.repair_targets import Target, kept_channels, question, targets

Array = np.ndarray[Any, Any]

RULE: Final = "repair"
FAITHFUL: Final = 1e-6
"""A layer whose result is no further from the original's than this share of its variance needs no repair: sums of
float32 products cannot tell smaller errors."""

WIDEST = 1 << 28  # bytes of the sums of one layer; beyond, only its bias is repaired
TOGETHER = 1 << 29  # bytes of the sums of layers that are observed in one run


@dataclass(frozen=True)
class Terms:
    """How layers are repaired: see the options of the same names of the pass `repair`."""

    damping: float = 0.0
    rows: int = 4096
    stages: int = 0


def repair(nodes: Iterable[Node], ctx: Context, terms: Terms = Terms()) -> Mapping[Node, Fit | str]:
    """Fit the layers among `nodes`, and say for each what came of it: a fit, or a clause on why there is none."""
    done: dict[Node, Fit | str] = {}
    layers = list[FloatLayer]()
    for node in dict.fromkeys(nodes):
        found = float_layer(node)
        if isinstance(found, FloatLayer) and node.graph is not None and node.graph is not node.graph.root:
            found = "values inside bodies and functions cannot be compared with those of the original"
        if isinstance(found, FloatLayer):
            layers.append(found)
        elif found is not None:
            done[node] = found
    known = targets(layers, ctx) if layers else {}
    done |= {node: found for node, found in known.items() if isinstance(found, str)}
    goals = {node: found for node, found in known.items() if isinstance(found, Target)}
    for node, why in done.items():
        ctx.missed(RULE, node, str(why))
    for stage in staged([layer for layer in layers if layer.node in goals], terms.stages):
        for layer, fit in fits(stage, goals, ctx, terms).items():
            done[layer.node] = announced(layer, fit, ctx)
    return done


def announced(layer: FloatLayer, fit: Fit | str, ctx: Context) -> Fit | str:
    """Write what was fitted, where the gate lets it through; what came of it."""
    if isinstance(fit, str):
        ctx.missed(RULE, layer.node, fit)
        return fit
    if not ctx.rewrite(RULE, layer.node, fit.text):
        return "the rewrite was disabled"
    if fit.weights.size:
        layer.write(fit.weights, fit.bias)
    else:
        layer.write_bias(fit.bias)
    return fit


def staged(layers: Sequence[FloatLayer], most: int) -> Iterator[list[FloatLayer]]:
    """Layers that are fitted in one run over the feeds, shallow ones first: those of one level, or in at most `most`
    parts (0: as many as there are), and no more than fit in memory."""
    if not layers:
        return
    graph = layers[0].node.graph
    assert graph is not None, "it was found in a graph"
    level = layer_levels(graph, [one.node for one in layers])
    distinct = sorted(set(level.values()))
    count = min(most or len(distinct), len(distinct))
    part = {one: index * count // len(distinct) for index, one in enumerate(distinct)}
    for stage in range(count):
        yield from together([one for one in layers if part[level[one.node]] == stage])


def together(layers: Sequence[FloatLayer]) -> Iterator[list[FloatLayer]]:
    """Layers whose sums fit in memory together."""
    chosen, size = list[FloatLayer](), 0
    for layer in layers:
        if chosen and size + layer.sums > TOGETHER:
            yield chosen
            chosen, size = [], 0
        chosen.append(layer)
        size += min(layer.sums, WIDEST)
    if chosen:
        yield chosen


def fits(
    layers: Sequence[FloatLayer], goals: Mapping[Node, Target], ctx: Context, terms: Terms
) -> dict[FloatLayer, Fit | str]:
    """What is best for each layer on the data it reads now, from one run over the feeds. Nothing is written.

    A layer too wide for a Gram matrix gets a bias only: the weights of its fit are empty.
    """
    found: dict[FloatLayer, Fit | str] = {}
    asked = dict[FloatLayer, Observation]()
    means = dict[FloatLayer, list[Observation]]()
    for layer in layers:
        kept = kept_channels(layer, ctx)
        if isinstance(kept, str):
            found[layer] = kept
        elif layer.sums <= WIDEST:
            asked[layer] = question(layer, goals[layer.node], terms.rows, kept)
        elif layer.has_bias:
            goal = goals[layer.node]
            now = [layer.result] if goal.beside is None else [layer.result, goal.beside]
            means[layer] = [Observation((one,), Moments(layer.axis)) for one in (goal.original, *now)]
        else:
            found[layer] = f"it has {layer.inputs} inputs, too many for a Gram matrix, and no bias"
    questions = [*asked.values(), *(one for each in means.values() for one in each)]
    refused = ctx.calibration.observe(questions).refused
    for layer, one in asked.items():
        sums = one.accumulator
        assert isinstance(sums, LayerFit)
        found[layer] = refused.get(one) or best(layer, sums, terms.damping)
    for layer, each in means.items():
        why = next((refused[one] for one in each if one in refused), None)
        found[layer] = why or _shifted(layer, each, kept_channels(layer, ctx))
    return found


def best(layer: FloatLayer, sums: LayerFit, damping: float) -> Fit | str:
    """Weights and bias of the layer as they will be stored, or a clause on why those that there are stay."""
    weights, bias = layer.weights(), layer.bias()
    found = fitted(sums, weights, bias, layer.has_bias, damping)
    if isinstance(found, str):
        return found
    if found.before <= FAITHFUL:
        return "it gives what it gave in the original"
    whole = sums.whole
    assert whole is not None, "something was fitted"
    values, made = layer.stored(found.weights, found.bias)
    after = whole.error(np.concatenate([values, made[:, None, :]], axis=1))
    if not after < found.before:
        return "its error on the calibration feeds would not get smaller"
    return Fit(values, made, found.before, after, found.damping)


def _shifted(layer: FloatLayer, asked: Sequence[Observation], kept: Array | str | None) -> Fit | str:
    """The bias that makes the mean of every output what it was."""
    then, *now = [one.accumulator for one in asked if isinstance(one.accumulator, Moments)]
    which: Any = slice(None) if kept is None or isinstance(kept, str) else kept
    if then.mean.ndim != 1 or any(one.mean.shape != then.mean[which].shape for one in now):
        return "its result has another shape than in the original"
    missing = then.mean[which] - sum(one.mean for one in now)
    variance = float((then.mean_square[which] - np.square(then.mean[which])).sum())
    share = float(np.square(missing).sum()) / variance if variance > 0 else np.inf
    if not np.isfinite(share):
        return "its data or results have NaN or infinities"
    if share <= FAITHFUL:
        return "the means of its results are those of the original"
    bias = layer.bias() + missing.reshape(layer.groups, -1)
    return Fit(np.zeros((0, 0, 0)), layer.stored(np.zeros(0), bias)[1], share, 0.0, 0.0)


def summary(done: Mapping[Node, Fit | str]) -> str:
    """In a clause, for a remark: how many layers were repaired, and how far the worst is now."""
    repaired = [one for one in done.values() if isinstance(one, Fit)]
    if not repaired:
        return "no layer could be repaired"
    return (
        f"{len(repaired)} layers repaired, the worst {decibels(max(one.after for one in repaired))} dB below its result"
    )


def layers_of(graph: Graph) -> list[Node]:
    """Every node that may be a layer, of the main graph, bodies and functions."""
    return [node for scope in graph.scopes() for node in scope.nodes if isinstance(float_layer(node), FloatLayer | str)]
