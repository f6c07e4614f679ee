"""Normalizations: some take figures of each channel by itself, others of all channels together."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.channels.attributes import axis_of, integer
from graphopt.analysis.channels.flow import Axes, Flow, named
from graphopt.ir import Node

_UNKNOWN_RANK = "has data of unknown rank"


def _per_channel(node: Node, flow: Flow) -> str | None:
    """BatchNormalization and InstanceNormalization: a number of each kind for each channel."""
    if integer(node, "spatial", 1) != 1:
        return "has numbers for each place"
    data = flow.axes(node.inputs[0])
    if data is None or len(data) < 2:
        return _UNKNOWN_RANK
    if integer(node, "training_mode", 0) != 0 or any(output.name for output in node.outputs[1:]):
        return "is in training mode"
    for tensor in node.inputs[1:]:
        axes = flow.axes(tensor)
        flow.join(data[1], axes[0] if axes else f"{tensor.name!r} is of unknown size")
    if node.op == "InstanceNormalization":
        _bar_places(node, flow, data)
    flow.give(node.outputs[0], data)
    return None


def _bar_places(node: Node, flow: Flow, data: Axes) -> None:
    for labels in data[2:]:
        flow.bar(labels, f"{named(node)} takes its mean and variance over it")


def _over_last(node: Node, flow: Flow) -> str | None:
    """LayerNormalization and RMSNormalization: figures of all axes from `axis` on."""
    data = flow.axes(node.inputs[0])
    axis = None if data is None else axis_of(node, len(data), -1)
    if data is None or axis is None:
        return _UNKNOWN_RANK
    figure = "mean square" if node.op == "RMSNormalization" else "mean and variance"
    for labels in data[axis:]:
        flow.bar_figures(labels, f"{named(node)} takes its {figure} over it")
    for tensor in node.inputs[1:]:
        axes = flow.axes(tensor) if tensor.name else ()
        if axes is None or len(axes) > len(data):
            return "has a scale of unknown size"
        for back in range(1, len(axes) + 1):
            if flow.dim(tensor, len(axes) - back) != 1:
                flow.join(data[-back], axes[-back])
    flow.give(node.outputs[0], data)
    for output in node.outputs[1:]:
        if output.name:
            flow.give(output, (*data[:axis], *["it is a single number"] * (len(data) - axis)))
    return None


def _in_groups(node: Node, flow: Flow) -> str | None:
    """GroupNormalization: whole groups of channels are the units, so that no group's figures change."""
    data = flow.axes(node.inputs[0])
    groups = integer(node, "num_groups", 0)
    if data is None or len(data) < 2:
        return _UNKNOWN_RANK
    channels = data[1]
    if not isinstance(channels, np.ndarray):
        for tensor in node.inputs[1:]:
            flow.bar_all(tensor, str(channels))
    elif not groups or len(channels) % groups or not len(channels):
        return "has a number of groups that does not divide its channels"
    else:
        units = flow.tie(channels.reshape(groups, -1))
        for tensor in node.inputs[1:]:
            axes = flow.axes(tensor)
            if not axes:
                return "has a scale of unknown size"
            flow.join(units if flow.dim(tensor, 0) == groups else channels, axes[0])
        flow.need("attribute", node, node.inputs[0], 1, name="num_groups", per=len(channels) // groups)
    _bar_places(node, flow, data)
    flow.give(node.outputs[0], data)
    return None


def _together(node: Node, flow: Flow) -> str | None:
    """Softmax and its like: what they do along `axis` needs all of it, and before opset 13 all axes after it."""
    data = flow.axes(node.inputs[0])
    old = flow.graph.opset < 13 and node.op != "LpNormalization"
    axis = None if data is None else axis_of(node, len(data), 1 if old else -1)
    if data is None or axis is None:
        return _UNKNOWN_RANK
    for labels in data[axis:] if old else data[axis : axis + 1]:
        flow.bar(labels, f"{named(node)} divides by a sum over it")
    flow.give(node.outputs[0], data)
    return None


def _mean_variance(node: Node, flow: Flow) -> str | None:
    data, over = flow.axes(node.inputs[0]), node.attrs.get("axes", [0, 2, 3])
    if data is None or not isinstance(over, list) or any(not -len(data) <= axis < len(data) for axis in over):
        return _UNKNOWN_RANK
    for axis in over:
        flow.bar_figures(data[axis], f"{named(node)} takes its mean and variance over it")
    flow.give(node.outputs[0], data)
    return None


RULES = {
    "BatchNormalization": _per_channel,
    "InstanceNormalization": _per_channel,
    "LayerNormalization": _over_last,
    "RMSNormalization": _over_last,
    "GroupNormalization": _in_groups,
    **dict.fromkeys(("Hardmax", "LogSoftmax", "LpNormalization", "Softmax"), _together),
    "MeanVarianceNormalization": _mean_variance,
}
