"""LSTM, GRU and RNN: the hidden size, of which all gates and states of all directions have the same units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.channels.attributes import has, integer
from graphopt.analysis.channels.flow import Axes, Flow, Labels, named
from graphopt.ir import Node
from graphopt.ir.values import Array

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _recurrent(node: Node, flow: Flow) -> str | None:
    data, weight, again = (flow.axes(node.inputs[slot]) for slot in range(3))
    layout = integer(node, "layout", 0)
    if data is None or weight is None or again is None or {len(data), len(weight), len(again)} != {3}:
        return "has weights or data of unknown rank"
    if layout not in (0, 1):
        return "has a layout that is not known"
    hidden = again[2]
    if not isinstance(hidden, np.ndarray):
        return "has weights that are computed"
    flow.join(data[2], weight[2])
    flow.reader(node, 1, 2)
    gates = _GATES[node.op]
    for slot, axis, times in ((1, 1, gates), (2, 1, gates), (3, 1, 2 * gates), (7, 1, 3), (5, 2, 1), (6, 2, 1)):
        if has(node, slot):
            axes = flow.axes(node.inputs[slot])
            if axes is None or len(axes) <= axis:
                return "has an input of unknown rank"
            _repeated(flow, hidden, axes[axis], times)
    batch, time = (0, 1) if layout else (1, 0)
    flow.bar(data[time], f"{named(node)} goes along it")
    for slot, axis in ((4, 0), (5, batch), (6, batch)):
        if has(node, slot):
            axes = flow.axes(node.inputs[slot])
            flow.join(data[batch], axes[axis] if axes and len(axes) > axis else "its states are of unknown rank")
    for slot in (1, 2):
        flow.maker(node, slot, 1)
    flow.reader(node, 2, 2)
    flow.bar(weight[0], f"it is the direction of {named(node)}")
    if "hidden_size" in node.attrs:
        flow.need("attribute", node, node.inputs[2], 2, name="hidden_size")
    for output, axes in zip(node.outputs, _results(node, data, hidden, layout), strict=False):
        if output.name:
            flow.give(output, axes)
    return None


def _repeated(flow: Flow, hidden: Array, labels: Labels, times: int) -> None:
    """An axis that has the hidden units several times, one time for each gate."""
    if isinstance(labels, str) or len(labels) != times * len(hidden):
        flow.join(hidden, labels if isinstance(labels, str) else "its weights do not fit together")
        flow.bar(labels, "its weights do not fit together")
        return
    for one in labels.reshape(times, -1):
        if one is not hidden:
            flow.join(hidden, one)


def _results(node: Node, data: Axes, hidden: Labels, layout: int) -> Sequence[Axes]:
    direction = f"it is the direction of {named(node)}"
    if layout:
        return [(data[0], data[1], direction, hidden), *[(data[0], direction, hidden)] * 2]
    return [(data[0], direction, data[1], hidden), *[(direction, data[1], hidden)] * 2]


RULES = dict.fromkeys(_GATES, _recurrent)
