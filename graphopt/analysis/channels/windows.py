"""Operators that look at windows of the spatial axes and leave batch and channels apart."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.analysis.channels.flow import Axes, Flow, Labels, named
from graphopt.ir import Node


def spatial(node: Node, flow: Flow, data: Axes) -> Sequence[Labels]:
    """The spatial axes of what slides over the spatial axes of `data`: none of them can get shorter."""
    for labels in data[2:]:
        flow.bar(labels, f"{named(node)} slides over it")
    return [f"{named(node)} makes it of windows"] * (len(data) - 2)


def _pool(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    if data is None or len(data) < 3:
        return "has data of unknown rank"
    if len(node.outputs) > 1 and node.outputs[1].name:
        return "gives indices that count all channels"
    flow.give(node.outputs[0], (*data[:2], *spatial(node, flow, data)))
    return None


RULES = dict.fromkeys(
    ("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"),
    _pool,
)
