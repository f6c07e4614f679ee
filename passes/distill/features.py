"""Inner values that are to come near those of the original."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.layer_fit import Distance
from graphopt.analysis.lesson import Feature, Trainable
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.pipeline.protocol import Context

_MOST: Final = 12
_FAR: Final = 0.5  # of the variance of the original's value: what differs by more is another value


def features(graph: Graph, weights: Sequence[Trainable], ctx: Context) -> tuple[Feature, ...]:
    """Values behind weights that several nodes read, as those between blocks are, evenly spaced over the graph;
    each with the one value of the original that it stands for."""
    behind = _behind(graph, [one.read for one in weights])
    several = [value for value in behind if len(value.readers) > 1]
    found = list[Feature]()
    unsure: dict[Tensor, list[str]] = {}
    for value in _some(several or behind):
        names = ctx.originals(value)
        kept = tuple((axis, np.asarray(left)) for axis, left in sorted(getattr(value, "kept", {}).items()))
        if len(names) == 1:
            found.append(Feature(value, names[0], kept))
        elif names and not kept:
            unsure[value] = list(names)
    return (*found, *_nearest(unsure, ctx)) if unsure else tuple(found)


def _behind(graph: Graph, weights: Iterable[Tensor]) -> list[Tensor]:
    """The floats of the main graph that are computed with a weight and some input, in order, outputs aside."""
    reached: set[Tensor] = set(graph.inputs)
    learnt = set(weights)
    trained: set[Tensor] = set()
    found = list[Tensor]()
    for node in graph.nodes:
        fed = any(one in reached for one in node.inputs)
        if not fed:
            learnt.update(out for out in node.outputs if any(one in learnt for one in node.inputs))
            continue
        reached.update(node.outputs)
        if any(one in learnt or one in trained for one in node.inputs):
            trained.update(node.outputs)
            found += [out for out in node.outputs if _counts(node, out)]
    return found


def _counts(node: Node, value: Tensor) -> bool:
    if isinstance(value, Constant) or not value.name or value.graph_outputs or not value.is_read:
        return False
    return not node.is_op("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Shape", "QuantizeLinear", "Cast")


def _some(values: Sequence[Tensor]) -> list[Tensor]:
    """The values, or as many as are looked at of them."""
    count = min(len(values), _MOST)
    return [values[(2 * at + 1) * len(values) // (2 * count)] for at in range(count)]


def _nearest(unsure: dict[Tensor, list[str]], ctx: Context) -> list[Feature]:
    """Of several values of the original the nearest, if it is near at all."""
    asked = {
        (value, name): Observation((value, Original(name)), Distance())
        for value, names in unsure.items()
        for name in names
    }
    refused = ctx.calibration.observe(list(asked.values())).refused
    best: dict[Tensor, tuple[float, str]] = {}
    for (value, name), question in asked.items():
        measured = question.accumulator
        if question not in refused and isinstance(measured, Distance) and measured.share < _FAR:
            best[value] = min(best.get(value, (np.inf, "")), (measured.share, name))
    return [Feature(value, name) for value, (_, name) in best.items()]
