"""Where the integers come from that say how long axes are: stated as constants, or read from shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.channels.attributes import axis_of, has, integer, integers
from graphopt.analysis.channels.flow import TARGETS, Flow, Labels, Size, Stated, named
from graphopt.analysis.constants import constant_values
from graphopt.ir import Node, Tensor

_MOST = 64
_MOVED = ("Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze")


def track(node: Node, flow: Flow) -> None:
    """Note which elements of the results are lengths of axes, and bar axes whose length somebody computes with."""
    if node.is_op("Shape"):
        found: list[Size] | None = _shape(node, flow)
    else:
        if not any(tensor in flow.sizes for tensor in node.inputs) and not _puts_together(node, flow):
            return
        found = _moved(node, flow) if node.is_op(*_MOVED) else None
        if found is None:
            taken = TARGETS.get(node.op) if node.is_standard else None
            for slot, tensor in enumerate(node.inputs):
                if slot != taken:
                    read(tensor, flow, f"{named(node)} computes with its size")
    if found is not None and any(one is not None for one in found):
        flow.sizes[node.outputs[0]] = found


def _puts_together(node: Node, flow: Flow) -> bool:
    """Whether the node makes a vector of integers of several, some of which may be stated."""
    return node.is_op("Concat") and flow.shapes.rank(node.outputs[0]) == 1


def read(tensor: Tensor, flow: Flow, why: str) -> None:
    """The lengths that a tensor of sizes has in it are used for something that is not understood."""
    for size in flow.sizes.get(tensor, ()):
        if isinstance(size, np.ndarray):
            flow.bar(size, why)
        elif size is not None:
            flow.use(size, why)


def sizes_of(node: Node, slot: int, flow: Flow) -> Sequence[Size] | None:
    """What is known of each integer in an input slot."""
    tensor = node.inputs[slot]
    if tensor in flow.sizes:
        return flow.sizes[tensor]
    held = constant_values(tensor)
    if held is None or held.size > _MOST or held.dtype.kind not in "iu":
        rank = flow.shapes.dims(tensor)
        known = rank is not None and len(rank) <= 1
        count = (rank[0] if rank else 1) if known and rank is not None else None
        return [None] * count if isinstance(count, int) and count <= _MOST else None
    return [Stated(node, slot, index, int(value)) for index, value in enumerate(held.ravel().tolist())]


def _shape(node: Node, flow: Flow) -> list[Size] | None:
    axes = flow.axes(node.inputs[0])
    if axes is None:
        return None
    start, end = integer(node, "start", 0), integer(node, "end", len(axes))
    if start is None or end is None:
        flow.bar_all(node.inputs[0], f"{named(node)} reads its size")
        return None
    return [_length(labels) for labels in axes[start:end]]


def _length(labels: Labels) -> Size:
    return labels if isinstance(labels, np.ndarray) else None


def _moved(node: Node, flow: Flow) -> list[Size] | None:
    """The elements of what only moves elements of sizes; None where it is not that simple."""
    if node.op == "Concat":
        parts = [sizes_of(node, slot, flow) for slot in range(len(node.inputs))]
        return None if any(part is None for part in parts) else [one for part in parts for one in part or ()]
    if node.inputs[0] not in flow.sizes:
        return None
    given = list(flow.sizes[node.inputs[0]])
    if node.op in ("Cast", "Identity", "Squeeze", "Unsqueeze"):
        return given
    if node.op == "Reshape":
        dims = flow.shapes.dims(node.outputs[0])
        return given if dims is not None and len(dims) <= 1 else None
    if node.op == "Gather":
        at = constant_values(node.inputs[1])
        if at is None or at.ndim > 1 or axis_of(node, 1, 0) is None:
            return None
        return [given[one] for one in at.ravel().tolist() if -len(given) <= one < len(given)]
    bounds = [integers(node, "starts", 1), integers(node, "ends", 2)]
    steps = integers(node, "steps", 4) if has(node, 4) else [1]
    if bounds[0] is None or bounds[1] is None or steps is None or len(bounds[0]) != 1 or not steps[0]:
        return None
    return given[bounds[0][0] : bounds[1][0] : steps[0]]


def _numbers(node: Node, flow: Flow) -> str | None:
    """Shape: `track` has seen to the axes whose lengths are read."""
    flow.fix(node.outputs[0], f"{named(node)} makes it")
    return None


RULES = {"Shape": _numbers}
