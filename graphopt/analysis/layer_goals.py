"""Which values of the model as it was read the results of layers should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.asker import Asker
from graphopt.analysis.constants import constant_values
from graphopt.analysis.float_layers import FloatLayer
from graphopt.analysis.layer_fit import Distance, LayerFit
from graphopt.analysis.layer_levels import layer_depths
from graphopt.analysis.matching import only_reader
from graphopt.analysis.nearest_original import nearest
from graphopt.analysis.residual_fit import JoinedFit, ResidualFit
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Node, Tensor, Variable

Array = np.ndarray[Any, Any]

_MOST_NAMES = 12  # of those that a value may stand for, the nearest by provenance come first


@dataclass(frozen=True)
class Goal:
    """A value of the model as it was read that a result should be.

    Where `adder` is not None, it is what that node should make of the result and of `beside`. `more` are values that
    lie behind the first one, along the last axis, where layers were merged. `apart` is how far it is now, as a
    share of the variance of the original.
    """

    original: Original
    apart: float
    beside: Tensor | None = None
    adder: Node | None = None
    more: tuple[Original, ...] = ()


def goals_of(layers: Iterable[FloatLayer], ask: Asker) -> dict[Node, Goal]:
    """The goals of those layers that have any, as they are to be fitted in the order of the graph."""
    found = goals({layer.node: layer.result for layer in layers}, ask)
    return {node: goal for node, goal in found.items() if isinstance(goal, Goal)}


def goals(
    results: Mapping[Node, Tensor], ask: Asker, absorb: bool = True, waits: bool = False
) -> dict[Node, Goal | str]:
    """The goal of each node of the main graph with a result, or a clause on why there is none.

    Of several values of the original that provenance gives, the nearest on the calibration feeds, which are run
    once. With `absorb`, where a result is added to a value that is there by then, and the original of the sum is
    known, the sum is the goal: a layer can make good for some of what is wrong with the other value. With `waits`
    the layer is fitted when the other value is there, and of two results that make one sum the last one answers;
    results that are several values of the original side by side have goals, too.
    """
    if not results:
        return {}
    adders = _adders(results, ask.shapes, waits) if absorb else {}
    pieces = {node: _pieces(result, ask.shapes) if waits else [] for node, result in results.items()}
    sums = [adder.outputs[0] for adder in adders.values()]
    asked = dict[Tensor, dict[str, Observation]]()
    for tensor in dict.fromkeys([*results.values(), *sums, *(one for each in pieces.values() for one in each)]):
        kept = tensor.kept if isinstance(tensor, Variable) else {}
        # What a pass made anew under the name of what it took away stands for that, too.
        names = [one for one in dict.fromkeys((tensor.name, *ask.originals(tensor)[:_MOST_NAMES])) if one]
        asked[tensor] = {name: Observation((tensor, Original(name)), Distance(kept)) for name in names}
    refused = ask.calibration.observe([one for each in asked.values() for one in each.values()]).refused
    known = {tensor: nearest(each, refused) for tensor, each in asked.items()}
    found = dict[Node, Goal | str]()
    for node, result in results.items():
        own = known[result]
        joined = _joined([known[piece] for piece in pieces[node]]) if isinstance(own, str) else None
        found[node] = joined or (own if isinstance(own, str) else Goal(Original(own[0]), own[1]))
        adder = adders.get(node)
        whole = None if adder is None else known[adder.outputs[0]]
        if adder is not None and whole is not None and not isinstance(whole, str):
            other = adder.inputs[1 if adder.inputs[0] is result else 0]
            found[node] = Goal(Original(whole[0]), whole[1], other, adder)
    return found


def question(layer: FloatLayer, goal: Goal, rows: int, shapes: Shapes) -> Observation | str:
    """What to observe to fit a layer to its goal: its accumulator is a `LayerFit`. A clause where it cannot be."""
    kept = kept_channels(goal, layer.result, layer.axis, shapes)
    if isinstance(kept, str):
        return kept
    if goal.more:
        return Observation((layer.data, goal.original, *goal.more), JoinedFit(layer.rows, rows, kept))
    if goal.beside is None:
        return Observation((layer.data, goal.original), LayerFit(layer.rows, rows, kept))
    return Observation((layer.data, goal.original, goal.beside), ResidualFit(layer.rows, rows, kept))


def kept_channels(goal: Goal | None, result: Tensor, axis: int, shapes: Shapes) -> Array | str | None:
    """Which channels of the original's value the result still has, None for all; a clause where it lost others."""
    made = result if goal is None or goal.adder is None else goal.adder.outputs[0]
    kept = made.kept if isinstance(made, Variable) else {}
    if not kept:
        return None
    if axis < 0:
        rank = shapes.rank(made)
        if rank is None:
            return "the rank of its result is not known"
        axis += rank
    if set(kept) != {axis}:
        return "its result is narrower than the original's along another axis than its channels"
    return kept[axis]


def sum_behind(result: Tensor) -> tuple[Tensor, Tensor] | None:
    """The sum of a result and another computed value, and that value, where nothing else reads the result."""
    adder = only_reader(result)
    if adder is None or not adder.is_op("Add") or not result.inputs or adder.graph is not result.inputs[0].graph:
        return None
    other = adder.inputs[1 if adder.inputs[0] is result else 0]
    return (adder.outputs[0], other) if constant_values(other) is None and other.inputs else None


def summed(result: Tensor, shapes: Shapes) -> Tensor:
    """The sum of a result and another computed value of its shape, where that is all it is read for; else itself."""
    adder = only_reader(result)
    if adder is None or not adder.is_op("Add"):
        return result
    other = adder.inputs[1] if adder.inputs[0] is result else adder.inputs[0]
    dims = shapes.dims(result)
    alike = dims is not None and shapes.dims(other) == dims and constant_values(other) is None
    return adder.outputs[0] if alike else result


def _adders(results: Mapping[Node, Tensor], shapes: Shapes, waits: bool) -> dict[Node, Node]:
    """For nodes whose result goes into nothing but a sum with a value of its shape, and that answer for that sum, the
    node that adds: the one with more layers in front of it; with `waits` else the last one."""
    graph = next(iter(results)).graph
    assert graph is not None, "it was found in a graph"
    depth = layer_depths(graph, results)
    found, answering = dict[Node, Node](), dict[Node, Node]()
    for node, result in results.items():
        pair = sum_behind(result)
        dims = shapes.dims(result)
        if pair is None or dims is None or dims != shapes.dims(pair[1]):
            continue
        adder = pair[0].inputs[0]
        ahead = depth.get(pair[1], 0) < depth.get(result, 0)
        if ahead:
            found[node] = adder
        elif waits:
            answering[adder] = node
    taken = set(found.values())
    return {**found, **{node: adder for adder, node in answering.items() if adder not in taken}}


def _pieces(result: Tensor, shapes: Shapes) -> list[Tensor]:
    """The pieces along the last axis that a result is cut into, where that is all it is read for."""
    cut, rank = only_reader(result), shapes.rank(result)
    if cut is None or not cut.is_op("Split") or cut.inputs[0] is not result or not rank:
        return []
    if cut.attrs.get("axis", 0) not in (-1, rank - 1):
        return []
    pieces = [piece for piece in cut.outputs if piece.name]
    return [] if any(isinstance(one, Variable) and one.kept for one in pieces) else pieces


def _joined(found: Sequence[tuple[str, float] | str]) -> Goal | None:
    """The goal of a result that is several values of the original side by side; None where one is not known."""
    known = [one for one in found if not isinstance(one, str)]
    if not known or len(known) < len(found):
        return None
    first, *rest = (Original(name) for name, _ in known)
    return Goal(first, max(apart for _, apart in known), more=tuple(rest))
