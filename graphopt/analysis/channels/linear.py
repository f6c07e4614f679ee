"""Operators with weights: convolutions and products of matrices."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.channels.attributes import has, integer
from graphopt.analysis.channels.elementwise import broadcast_axes
from graphopt.analysis.channels.flow import Axes, Flow, Labels, named
from graphopt.analysis.channels.windows import spatial
from graphopt.ir import Node, Tensor

_UNKNOWN_RANK = "has an operand of unknown rank"


def _conv(node: Node, flow: Flow) -> str | None:
    data, weight = flow.axes(node.inputs[0]), flow.axes(node.inputs[1])
    groups = integer(node, "group", 1)
    if data is None or weight is None or len(data) < 3 or len(weight) != len(data):
        return _UNKNOWN_RANK
    if groups is None or groups < 1:
        return "has a number of groups that is not known"
    _bar_rest(node, flow, weight)
    if groups == 1:
        flow.join(data[1], weight[1])
        flow.reader(node, 1, 1)
    else:
        why = _tied(node, flow, data[1], weight[0], groups)
        flow.bar(weight[1], f"{named(node)} has {groups} groups, and each needs all of it")
        if why is not None:
            return why
    flow.maker(node, 1, 0, groups)
    if has(node, 2):
        flow.join(weight[0], _vector(flow, node.inputs[2]))
    flow.give(node.outputs[0], (data[0], weight[0], *spatial(node, flow, data)))
    return None


def _conv_transpose(node: Node, flow: Flow) -> str | None:
    data, weight = flow.axes(node.inputs[0]), flow.axes(node.inputs[1])
    groups = integer(node, "group", 1)
    if data is None or weight is None or len(data) < 3 or len(weight) != len(data):
        return _UNKNOWN_RANK
    if groups is None or groups < 1:
        return "has a number of groups that is not known"
    _bar_rest(node, flow, weight)
    flow.join(data[1], weight[0])
    made: Labels = weight[1]
    if groups == 1:
        flow.maker(node, 1, 1)
        flow.reader(node, 1, 0)
    else:
        within = flow.dim(node.inputs[1], 1)
        why = _tied(node, flow, data[1], weight[0], groups)
        if why is not None or within is None:
            return why or "has a weight of unknown size"
        flow.bar(weight[1], f"{named(node)} has {groups} groups, and each needs all of it")
        if isinstance(weight[0], np.ndarray):
            made = np.repeat(weight[0].reshape(groups, -1)[:, 0], within)
        else:
            made = weight[0]
        flow.maker(node, 1, 0, groups)
    if has(node, 2):
        flow.join(made, _vector(flow, node.inputs[2]))
    flow.give(node.outputs[0], (data[0], made, *spatial(node, flow, data)))
    return None


def _bar_rest(node: Node, flow: Flow, weight: Axes) -> None:
    for labels in weight[2:]:
        flow.bar(labels, f"it is the kernel of {named(node)}")


def _tied(node: Node, flow: Flow, data: Labels, outputs: Labels, groups: int) -> str | None:
    """Whole groups are the units: their inputs and their outputs go together."""
    if isinstance(data, str) or isinstance(outputs, str):
        flow.bar(outputs, str(data))
        flow.bar(data, str(outputs))
        return None
    if len(data) % groups or len(outputs) % groups or not len(data) or not len(outputs):
        return f"has {groups} groups, which do not divide its channels"
    flow.tie(np.concatenate([data.reshape(groups, -1), outputs.reshape(groups, -1)], axis=1))
    flow.need("attribute", node, node.inputs[0], 1, name="group", per=len(data) // groups)
    return None


def _vector(flow: Flow, tensor: Tensor) -> Labels:
    axes = flow.axes(tensor)
    return axes[0] if axes else f"{tensor.name!r} is of unknown size"


def _gemm(node: Node, flow: Flow) -> str | None:
    left, right = flow.axes(node.inputs[0]), flow.axes(node.inputs[1])
    flips = integer(node, "transA", 0), integer(node, "transB", 0)
    if left is None or right is None or len(left) != 2 or len(right) != 2:
        return _UNKNOWN_RANK
    if None in flips:
        return "has an attribute that is not known"
    row, inner = (1, 0) if flips[0] else (0, 1)
    other, column = (1, 0) if flips[1] else (0, 1)
    flow.join(left[inner], right[other])
    _sites(node, flow, (row, inner), (column, other))
    made: Axes = (left[row], right[column])
    if has(node, 2):
        bias = flow.axes(node.inputs[2])
        if bias is None:
            return _UNKNOWN_RANK
        made = _with_bias(node, flow, made, bias)
    flow.give(node.outputs[0], made)
    return None


def _with_bias(node: Node, flow: Flow, made: Axes, bias: Axes) -> Axes:
    """A bias is broadcast to the result, never the other way round."""
    for at, labels in enumerate(bias, 2 - len(bias)):
        if flow.dim(node.inputs[2], at - 2 + len(bias)) != 1 or (
            isinstance(made[at], np.ndarray) and len(made[at]) == 1
        ):
            flow.join(made[at], labels)
    return made


def _matmul(node: Node, flow: Flow) -> str | None:
    left, right = flow.axes(node.inputs[0]), flow.axes(node.inputs[1])
    if left is None or right is None or not left or not right:
        return _UNKNOWN_RANK
    flow.join(left[-1], right[-2] if len(right) > 1 else right[0])
    _sites(
        node,
        flow,
        (len(left) - 2 if len(left) > 1 else None, len(left) - 1),
        (len(right) - 1 if len(right) > 1 else None, max(len(right) - 2, 0)),
    )
    batch = broadcast_axes(flow, [(node.inputs[0], left[:-2]), (node.inputs[1], right[:-2])])
    flow.give(node.outputs[0], (*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ())))
    return None


def _sites(node: Node, flow: Flow, left: tuple[int | None, int], right: tuple[int | None, int]) -> None:
    for slot, (made, summed) in ((1, right), (0, left)):
        if made is not None:
            flow.maker(node, slot, made)
        flow.reader(node, slot, summed)


RULES = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}
