"""Quantizing and dequantizing: element by element, with one scale, or one for each index of an axis."""

from __future__ import annotations

from graphopt.analysis.channels.attributes import axis_of, integer
from graphopt.analysis.channels.flow import Flow, named
from graphopt.ir import Node


def _scaled(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    if data is None:
        return "has data of unknown rank"
    block = integer(node, "block_size", 0)
    for tensor in node.inputs[1:3]:
        axes = flow.axes(tensor) if tensor.name else ()
        if axes is None:
            return "has scales of unknown rank"
        if not axes or (len(axes) == 1 and flow.dim(tensor, 0) == 1 and not block):
            continue
        axis = axis_of(node, len(data), 1)
        if axis is None:
            return "has an axis that is not known"
        if len(axes) == 1 and not block:
            flow.join(data[axis], axes[0])
        elif len(axes) == len(data):
            for at, labels in enumerate(axes):
                if at != axis:
                    flow.join(data[at], labels)
                    continue
                why = f"{named(node)} has a scale for each block of it"
                flow.bar(labels, why)
                flow.bar(data[at], why)
        else:
            return "has scales of another rank than its data"
    flow.give(node.outputs[0], data)
    return None


def _dynamic(node: Node, flow: Flow) -> str | None:
    """DynamicQuantizeLinear takes its scale from the least and the greatest of all elements."""
    data = flow.axes(node.inputs[0])
    if data is None:
        return "has data of unknown rank"
    flow.bar_all(node.inputs[0], f"{named(node)} takes its range from all of it")
    for output, axes in zip(node.outputs, (data, (), ()), strict=False):
        if output.name:
            flow.give(output, axes)
    return None


RULES = {"DequantizeLinear": _scaled, "DynamicQuantizeLinear": _dynamic, "QuantizeLinear": _scaled}
