"""What the layers of a student should make, in terms of the values of its teacher, the model as it was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.constants import constant_values
from graphopt.analysis.layer_fit import Distance
from graphopt.analysis.matching import only_reader
from graphopt.analysis.nearest_original import nearest
from graphopt.ir import Node, Tensor, Variable
from graphopt.pipeline.protocol import Context

Array = np.ndarray[Any, Any]

_MOST_NAMES = 12  # of those that a value may stand for, the nearest by provenance come first


@dataclass(frozen=True)
class Goal:
    """A value of the teacher that a result should be: the result plus `other`, where that is given, as `adder` says.

    `more` are values of the teacher that lie behind the first one, along the last axis, where layers were merged.
    Of the teacher's channels those with the indices `kept` count (None: all). `apart` is how far it is now, as a
    share of the variance of the teacher's value.
    """

    original: Original
    other: Tensor | None
    adder: Node | None
    kept: Array | None
    apart: float
    more: tuple[Original, ...] = ()


def goals(
    results: Mapping[Node, Tensor], axes: Mapping[Node, int], ctx: Context, absorb: bool
) -> dict[Node, Goal | str]:
    """The goal of each node with a result whose channels are along an axis, or a clause on why there is none.

    With `absorb`, that of a result which is added to another value is the sum, if the teacher has it. Of two
    results that make one sum, only the last one answers for it.
    """
    adders = dict[Node, Node]()
    if absorb:
        last = {adder: node for node, result in results.items() if (adder := _adder(result, ctx)) is not None}
        adders = {node: adder for adder, node in last.items()}
    asked = dict[Tensor, dict[str, Observation]]()
    parts = {node: _parts(result, ctx) for node, result in results.items()}
    every = [
        *results.values(),
        *(adder.outputs[0] for adder in adders.values()),
        *(t for p in parts.values() for t in p),
    ]
    for tensor in dict.fromkeys(every):
        kept = tensor.kept if isinstance(tensor, Variable) else {}
        names = ctx.originals(tensor)[:_MOST_NAMES]
        asked[tensor] = {name: Observation((tensor, Original(name)), Distance(kept)) for name in names}
    refused = ctx.calibration.observe([one for each in asked.values() for one in each.values()]).refused
    nearest = {tensor: _nearest(each, refused) for tensor, each in asked.items()}
    found = dict[Node, Goal | str]()
    for node, result in results.items():
        adder = adders.get(node)
        goal: Goal | str = "it stands for no value of the original"
        if adder is not None:
            other = adder.inputs[1] if adder.inputs[0] is result else adder.inputs[0]
            goal = _goal(nearest, adder.outputs[0], axes[node], ctx, other, adder)
        if not isinstance(goal, Goal):
            goal = _goal(nearest, result, axes[node], ctx)
        found[node] = goal if isinstance(goal, Goal) else _joined(nearest, parts[node]) or goal
    return found


def _parts(result: Tensor, ctx: Context) -> list[Tensor]:
    """The pieces along the last axis that a result is cut into, where that is all it is read for."""
    cut, rank = only_reader(result), ctx.shapes.rank(result)
    if cut is None or not cut.is_op("Split") or cut.inputs[0] is not result or not rank:
        return []
    if cut.attrs.get("axis", 0) not in (-1, rank - 1):
        return []
    pieces = [piece for piece in cut.outputs if piece.name]
    return [] if any(isinstance(one, Variable) and one.kept for one in pieces) else pieces


def _joined(nearest: Mapping[Tensor, tuple[Original, float] | str], parts: Sequence[Tensor]) -> Goal | None:
    """The goal of a result that is several values of the teacher side by side; None where one is not known."""
    found = [near for part in parts if not isinstance(near := nearest[part], str)]
    if not parts or len(found) < len(parts):
        return None
    names = tuple(original for original, _ in found)
    return Goal(names[0], None, None, None, max(apart for _, apart in found), names[1:])


def _goal(
    nearest: Mapping[Tensor, tuple[Original, float] | str],
    tensor: Tensor,
    axis: int,
    ctx: Context,
    other: Tensor | None = None,
    adder: Node | None = None,
) -> Goal | str:
    near, kept = nearest[tensor], _kept(tensor, axis, ctx)
    if isinstance(near, str):
        return near
    return kept if isinstance(kept, str) else Goal(near[0], other, adder, kept, near[1])


def _adder(result: Tensor, ctx: Context) -> Node | None:
    """The node that adds a result to another computed value of its shape."""
    adder = only_reader(result)
    if adder is None or not adder.is_op("Add") or result.graph_outputs:
        return None
    other: Tensor = adder.inputs[1] if adder.inputs[0] is result else adder.inputs[0]
    dims = ctx.shapes.dims(result)
    if constant_values(other) is not None or dims is None or ctx.shapes.dims(other) != dims:
        return None
    return adder


def _nearest(asked: Mapping[str, Observation], refused: Mapping[Observation, str]) -> tuple[Original, float] | str:
    found = nearest(asked, refused)
    return found if isinstance(found, str) else (Original(found[0]), found[1])


def _kept(tensor: Tensor, axis: int, ctx: Context) -> Array | str | None:
    """Which channels of the teacher's value are left, None for all; a clause where something else is missing."""
    kept = tensor.kept if isinstance(tensor, Variable) else {}
    if not kept:
        return None
    if axis < 0:
        rank = ctx.shapes.rank(tensor)
        if rank is None:
            return "the rank of its result is not known"
        axis += rank
    if set(kept) != {axis}:
        return "its result is narrower than the original's along another axis than its channels"
    return kept[axis]


def labels(nodes: Sequence[Node]) -> list[str]:
    """The names by which a user may mean nodes."""
    return [name for node in nodes for name in (node.label, *(t.name for t in (*node.outputs, *node.inputs) if t.name))]
