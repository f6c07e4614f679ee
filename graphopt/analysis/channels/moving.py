"""Operators that only move elements: other orders of axes, other cuts into axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.channels.ahead import UNKNOWN, worth
from graphopt.analysis.channels.attributes import axis_of, gives, integer, integers, text
from graphopt.analysis.channels.blocks import Block, Factors, blocks, factors
from graphopt.analysis.channels.flow import LONGEST, Axes, Flow, Labels, Stated, named
from graphopt.analysis.channels.sizes import read, sizes_of
from graphopt.analysis.dims import Dim
from graphopt.ir import Node
from graphopt.ir.values import Array

_UNKNOWN_RANK = "has data of unknown rank"


def _transpose(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    order = node.attrs.get("perm", None if data is None else list(range(len(data)))[::-1])
    if data is None or not isinstance(order, list) or sorted(order) != list(range(len(data))):
        return _UNKNOWN_RANK
    flow.give(node.outputs[0], [data[axis] for axis in order])
    return None


def _squeeze(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    if data is None:
        return _UNKNOWN_RANK
    rank = len(data)
    if gives(node, "axes", 1):
        over = integers(node, "axes", 1)
        if over is None or any(not -rank <= axis < rank for axis in over):
            return "has axes that are not known"
        gone = {axis % rank for axis in over}
    else:
        sizes = [flow.dim(node.inputs[0], axis) for axis in range(rank)]
        if None in sizes:
            return "takes away axes that are not known"
        gone = {axis for axis, size in enumerate(sizes) if size == 1}
    flow.give(node.outputs[0], [labels for axis, labels in enumerate(data) if axis not in gone])
    return None


def _unsqueeze(node: Node, flow: Flow) -> str | None:
    data, over = flow.axes(node.inputs[0]), integers(node, "axes", 1)
    if data is None or over is None:
        return _UNKNOWN_RANK
    rank = len(data) + len(over)
    fresh = {axis % rank for axis in over}
    if len(fresh) != len(over) or any(not -rank <= axis < rank for axis in over):
        return "has axes that are not known"
    rest = iter(data)
    flow.give(node.outputs[0], [f"{named(node)} makes it" if axis in fresh else next(rest) for axis in range(rank)])
    return None


def _reshape(node: Node, flow: Flow) -> str | None:
    """Reshape and Flatten. An axis that is cut keeps its first part, so that one unit is what lies behind one
    index of it; an axis that is put together has several indices for one unit."""
    data = flow.axes(node.inputs[0])
    before, after = flow.shapes.dims(node.inputs[0]), flow.shapes.dims(node.outputs[0])
    if data is None or before is None or after is None:
        return "has data or a result of unknown rank"
    made: list[Labels] = [f"{named(node)} makes it"] * len(after)
    for block in blocks(before, after):
        for axis, labels in zip(block.outputs, _through(node, flow, block, data, before, after), strict=True):
            made[axis] = labels
    flow.give(node.outputs[0], made)
    if node.op == "Reshape":
        _target(node, flow, data, made)
    return None


def _through(
    node: Node, flow: Flow, block: Block, data: Axes, before: Sequence[Dim], after: Sequence[Dim]
) -> list[Labels]:
    """What the output axes of one block have for labels."""
    if len(block.inputs) == 1 and len(block.outputs) == 1:
        return [data[block.inputs[0]]]
    labelled = [axis for axis in block.inputs if isinstance(data[axis], np.ndarray)]
    if not labelled:
        why = next((one for axis in block.inputs if isinstance(one := data[axis], str)), f"{named(node)} makes it")
        return [why] * len(block.outputs)
    sizes = [before[axis] for axis in block.inputs], [after[axis] for axis in block.outputs]
    cut = None
    if all(isinstance(size, int) and size > 0 for part in sizes for size in part):
        cut = factors([int(str(size)) for size in sizes[0]], [int(str(size)) for size in sizes[1]])
    if cut is None:
        for axis in labelled:
            flow.bar(data[axis], f"{named(node)} cuts across it")
        return [f"{named(node)} makes it"] * len(block.outputs)
    carried = dict[int, Array]()
    for (start, end), axis in zip(cut.inputs, block.inputs, strict=True):
        labels = data[axis]
        if isinstance(labels, np.ndarray):
            if start == end:
                continue  # an axis of one
            at = _carrier(node, flow, block, cut, range(start, end))
            table = np.moveaxis(labels.reshape(cut.sizes[start:end]), at - start, 0)
            carried[at] = labels if end - start == 1 else flow.tie(table.reshape(len(table), -1))
    return [_joined_axis(node, flow, cut.sizes, start, end, carried) for start, end in cut.outputs]


def _carrier(node: Node, flow: Flow, block: Block, cut: Factors, places: range) -> int:
    """Which of the factors of an axis carries its units: the first, unless readers tell for another."""
    best, most = places[0], -1
    for at in places:
        if cut.sizes[at] > 1 and len(places) > 1:
            axis = next((a for a, run in zip(block.outputs, cut.outputs, strict=True) if run == (at, at + 1)), None)
            found = UNKNOWN if axis is None else worth(node.outputs[0], axis, flow)
            if found > most:
                best, most = at, found
    return best


def _joined_axis(
    node: Node, flow: Flow, sizes: tuple[int, ...], start: int, end: int, carried: dict[int, Array]
) -> Labels:
    here = [at for at in range(start, end) if at in carried]
    if not here:
        return f"{named(node)} makes it"
    at, *others = here
    for other in others:
        flow.bar(carried[other], f"{named(node)} puts it together with another axis")
    if end - start == 1:
        return carried[at]
    shape = [1] * (end - start)
    shape[at - start] = sizes[at]
    return np.broadcast_to(carried[at].reshape(shape), sizes[start:end]).reshape(-1)


def _target(node: Node, flow: Flow, data: Axes, made: Sequence[Labels]) -> None:
    """The integers that say what is made have to follow, or the axes stay."""
    stated = sizes_of(node, 1, flow)
    if stated is None or len(stated) != len(made):
        for labels in made:
            flow.bar(labels, f"the target of {named(node)} is computed")
        read(node.inputs[1], flow, f"{named(node)} makes something else of its size")
        return
    for axis, (labels, size) in enumerate(zip(made, stated, strict=True)):
        if isinstance(size, np.ndarray):
            flow.join(labels, size)
        elif size is None:
            flow.bar(labels, f"the target of {named(node)} is computed")
        elif size.value > 0:
            flow.follow(size, axis, 1)
        elif size.value == 0 and node.op == "Reshape" and axis < len(data):
            flow.join(labels, data[axis])


def _expand(node: Node, flow: Flow) -> str | None:
    data, dims = flow.axes(node.inputs[0]), flow.shapes.dims(node.outputs[0])
    stated = sizes_of(node, 1, flow)
    if data is None or dims is None or stated is None or len(stated) > len(dims):
        return "has a target that is not known"
    made = list[Labels]()
    for at in range(len(dims)):
        own, said = at - len(dims) + len(data), at - len(dims) + len(stated)
        labels = data[own] if own >= 0 else f"{named(node)} makes it"
        size = stated[said] if said >= 0 else None
        widened = own < 0 or (flow.dim(node.inputs[0], own) == 1 and dims[at] != 1)
        if widened:
            labels = f"{named(node)} makes it"
        made.append(labels)
        if isinstance(size, np.ndarray):
            flow.join(labels, size)
        elif isinstance(size, Stated) and size.value > 1:
            if isinstance(labels, np.ndarray) and len(labels) != size.value:
                flow.bar(labels, f"{named(node)} makes something else of it")
        elif size is None and said >= 0:
            flow.bar(labels, f"the target of {named(node)} is computed")
    flow.give(node.outputs[0], made)
    for at in range(len(made)):
        said = at - len(dims) + len(stated)
        size = stated[said] if said >= 0 else None
        if isinstance(size, Stated) and size.value > 1:
            flow.follow(size, at, 1)
    return None


def _filled(node: Node, flow: Flow) -> str | None:
    """ConstantOfShape: one value everywhere, so any axis of it can follow others."""
    stated, dims = sizes_of(node, 0, flow), flow.shapes.dims(node.outputs[0])
    if stated is None or dims is None or len(stated) != len(dims):
        return "has a shape that is not known"
    made = list[Labels]()
    for size in stated:
        if isinstance(size, Stated) and 1 < size.value <= LONGEST:
            made.append(flow.fresh(size.value))
        else:
            made.append(size if isinstance(size, np.ndarray) else f"{named(node)} makes it")
    flow.give(node.outputs[0], made)
    for axis, size in enumerate(stated):
        if isinstance(size, Stated):
            flow.follow(size, axis, 0)
    return None


def _tile(node: Node, flow: Flow) -> str | None:
    data, repeats = flow.axes(node.inputs[0]), integers(node, "", 1)
    if data is None or repeats is None or len(repeats) != len(data):
        return "has repeats that are not known"
    made = list[Labels]()
    for labels, times in zip(data, repeats, strict=True):
        if times < 1 and isinstance(labels, np.ndarray):
            flow.bar(labels, f"{named(node)} makes nothing of it")
            made.append(f"{named(node)} makes it")
        elif times == 1 or isinstance(labels, str):
            made.append(labels)
        else:
            made.append(np.tile(labels, times))
    flow.give(node.outputs[0], made)
    return None


def _depth_to_space(node: Node, flow: Flow) -> str | None:
    data, side, mode = flow.axes(node.inputs[0]), integer(node, "blocksize", 0), text(node, "mode", "DCR")
    if data is None or len(data) != 4 or not side or side < 1 or mode not in ("DCR", "CRD"):
        return "has data of unknown rank"
    channels: Labels = data[1]
    if isinstance(channels, np.ndarray):
        if len(channels) % (side * side):
            return "has a number of channels that its blocks do not divide"
        cut = channels.reshape(side * side, -1).T if mode == "DCR" else channels.reshape(-1, side * side)
        channels = flow.tie(cut)
    flow.give(node.outputs[0], (data[0], channels, *_cells(node, flow, data)))
    return None


def _space_to_depth(node: Node, flow: Flow) -> str | None:
    data, side, mode = flow.axes(node.inputs[0]), integer(node, "blocksize", 0), text(node, "mode", "DCR")
    if data is None or len(data) != 4 or not side or side < 1 or mode not in ("DCR", "CRD"):
        return "has data of unknown rank"
    channels = data[1]
    if isinstance(channels, np.ndarray):
        channels = (np.tile if mode == "DCR" else np.repeat)(channels, side * side)
    flow.give(node.outputs[0], (data[0], channels, *_cells(node, flow, data)))
    return None


def _cells(node: Node, flow: Flow, data: Axes) -> Axes:
    for labels in data[2:]:
        flow.bar(labels, f"{named(node)} cuts it into cells")
    return (f"{named(node)} makes it",) * 2


def _flatten(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    if data is None or (axis_of(node, len(data) + 1, 1) is None):
        return _UNKNOWN_RANK
    return _reshape(node, flow)


RULES = {
    "ConstantOfShape": _filled,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "SpaceToDepth": _space_to_depth,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
