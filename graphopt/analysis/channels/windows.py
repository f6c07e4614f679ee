"""Operators that look at windows of the spatial axes and leave batch and channels apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.channels.attributes import has, text
from graphopt.analysis.channels.flow import Axes, Flow, Labels, Size, Stated, named
from graphopt.analysis.channels.sizes import sizes_of
from graphopt.analysis.constants import constant_values
from graphopt.ir import Node
from graphopt.ir.values import Array


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


def _resize(node: Node, flow: Flow) -> str | None:
    """Axes that keep their size keep their labels; stated sizes follow."""
    data, dims = flow.axes(node.inputs[0]), flow.shapes.dims(node.outputs[0])
    if data is None or dims is None or len(dims) != len(data):
        return "has data of unknown rank"
    if text(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return "takes a part of its data"
    slot = 3 if has(node, 3) else 2 if len(node.inputs) > 2 else 1
    own = node.attrs.get("axes")
    axes = [one % len(data) for one in own] if isinstance(own, list) else list(range(len(data)))
    stated = sizes_of(node, 3, flow) if slot == 3 else None
    scales = constant_values(node.inputs[slot]) if slot < 3 and has(node, slot) else node.attrs.get("scales")
    made = list(data)
    for index, axis in enumerate(axes):
        labels = data[axis]
        size = stated[index] if stated is not None and index < len(stated) else None
        if isinstance(size, np.ndarray):
            flow.join(labels, size)
        elif isinstance(labels, np.ndarray) and (dims[axis] != len(labels) or not _keeps(size, labels, scales, index)):
            flow.bar(labels, f"{named(node)} changes its size")
            made[axis] = f"{named(node)} makes it"
    flow.give(node.outputs[0], made)
    for index, axis in enumerate(axes):
        size = stated[index] if stated is not None and index < len(stated) else None
        if isinstance(size, Stated):
            flow.follow(size, axis, 3)
    return None


def _keeps(size: Size, labels: Array, scales: Array | list[float] | None, index: int) -> bool:
    if isinstance(size, Stated):
        return size.value == len(labels)
    return scales is not None and index < len(scales) and float(scales[index]) == 1.0


RULES = {
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"), _pool),
    "Resize": _resize,
    "Upsample": _resize,
}
