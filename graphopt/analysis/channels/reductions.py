"""Operators that make one number, or an order, of what lies along axes."""

from __future__ import annotations

from graphopt.analysis.channels.attributes import axis_of, gives, integer, integers
from graphopt.analysis.channels.flow import Axes, Flow, Labels, named
from graphopt.ir import Node

_UNKNOWN_RANK = "has data of unknown rank"


def _reduce(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    if data is None:
        return _UNKNOWN_RANK
    over = integers(node, "axes", 1) if gives(node, "axes", 1) else []
    keeps, empty = integer(node, "keepdims", 1), integer(node, "noop_with_empty_axes", 0)
    if over is None or keeps is None or any(not -len(data) <= axis < len(data) for axis in over):
        return "has axes that are not known"
    gone = {axis % len(data) for axis in over}
    if not over and not empty:
        gone = set(range(len(data)))
    flow.give(node.outputs[0], _without(node, flow, data, gone, bool(keeps)))
    return None


def _arg(node: Node, flow: Flow) -> str | None:
    data = flow.axes(node.inputs[0])
    axis = None if data is None else axis_of(node, len(data), 0)
    keeps = integer(node, "keepdims", 1)
    if data is None or axis is None or keeps is None:
        return _UNKNOWN_RANK
    flow.give(node.outputs[0], _without(node, flow, data, {axis}, bool(keeps)))
    return None


def _without(node: Node, flow: Flow, data: Axes, gone: set[int], keeps: bool) -> list[Labels]:
    made = list[Labels]()
    for axis, labels in enumerate(data):
        if axis not in gone:
            made.append(labels)
            continue
        bar = flow.bar_figures if node.op in _FIGURES else flow.bar
        bar(labels, f"{named(node)} makes one number of all of it")
        if keeps:
            made.append("it is a single number")
    return made


def _along(node: Node, flow: Flow) -> str | None:
    """TopK and CumSum: the axis stays, with another meaning."""
    data = flow.axes(node.inputs[0])
    if data is None:
        return _UNKNOWN_RANK
    if node.op == "CumSum":
        stated = integers(node, "", 1)
        axis = stated[0] % len(data) if stated and data and -len(data) <= stated[0] < len(data) else None
    else:
        axis = axis_of(node, len(data), -1)
    if axis is None:
        return "has an axis that is not known"
    flow.bar(data[axis], f"{named(node)} needs all of it")
    for output in node.outputs:
        if output.name:
            flow.give(output, (*data[:axis], f"{named(node)} makes it", *data[axis + 1 :]))
    return None


_FIGURES = ("ReduceMean", "ReduceSum", "ReduceSumSquare")  # what normalizations that are written out begin with
_REDUCE = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"

RULES = {
    **{f"Reduce{kind}": _reduce for kind in _REDUCE.split()},
    "ArgMax": _arg,
    "ArgMin": _arg,
    "CumSum": _along,
    "TopK": _along,
}
