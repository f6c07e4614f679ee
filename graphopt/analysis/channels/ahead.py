"""Which part of an axis that a Reshape cuts should carry its units: a look at what reads the parts.

When [heads * width] is cut into heads and width, or [3 * heads * width] into three of these, only one of the
parts can get shorter, the others then keep their sizes. A part along which matrices are multiplied one
by one (heads) is a good one; one that is summed over (width), or that pieces are cut of (3), is not.
"""

from __future__ import annotations

from graphopt.analysis.channels.attributes import axis_of, integers
from graphopt.analysis.channels.flow import Flow
from graphopt.ir import Node, Tensor

GOOD, UNKNOWN, BAD = 2, 1, 0
_MOST = 24
_SAME = frozenset(
    (
        *("Add", "Cast", "Clip", "DequantizeLinear", "Div", "Dropout", "Erf", "Exp", "Identity", "Mul", "Neg", "Pow"),
        *("QuantizeLinear", "Relu", "Sigmoid", "Sqrt", "Sub", "Tanh", "Where"),
    )
)
_REDUCING = ("Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "LpNormalization", "TopK", "CumSum")


def worth(tensor: Tensor, axis: int, flow: Flow) -> int:
    """How good `axis` of a value is for carrying units, by the first readers that tell."""
    pending = [(tensor, axis)]
    found = UNKNOWN
    steps = 0
    while pending and steps < _MOST:
        value, at = pending.pop()
        rank = flow.shapes.rank(value)
        for node in value.readers[:_MOST]:
            steps += 1
            if rank is None or node.graph is not flow.graph or not node.is_standard:
                continue
            verdict, further = _look(node, value, at, rank, flow)
            if verdict == BAD:
                return BAD
            found = max(found, verdict)
            pending += [(output, further) for output in node.outputs if output.name and further is not None]
    return found


def _look(node: Node, value: Tensor, axis: int, rank: int, flow: Flow) -> tuple[int, int | None]:
    """What a reader says about an axis, and where the axis is in its results, if it says nothing."""
    if node.is_op("MatMul"):
        return (GOOD if axis < rank - 2 else BAD if _summed(node, value, axis, rank) else UNKNOWN), None
    if node.is_op("Transpose"):
        order = node.attrs.get("perm", list(range(rank))[::-1])
        return UNKNOWN, order.index(axis) if isinstance(order, list) and axis in order else None
    if node.is_op(*_SAME):
        out = flow.shapes.rank(node.outputs[0])
        return UNKNOWN, None if out is None else axis + out - rank
    if node.is_op("Split", "Gather", "Concat"):
        at = axis_of(node, rank, 1 if node.op == "Concat" else 0)
        return (BAD, None) if at == axis else (UNKNOWN, axis if node.op == "Split" or node.op == "Concat" else None)
    if node.is_op("Slice"):
        axes = integers(node, "axes", 3)
        return (BAD, None) if axes is None or axis in [one % rank for one in axes] else (UNKNOWN, axis)
    if node.is_op(*_REDUCING):
        at = axis_of(node, rank, -1)
        return (BAD, None) if at == axis else (UNKNOWN, axis)
    if node.op.startswith("Reduce"):
        axes = integers(node, "axes", 1)
        return (BAD if axes is None or axis in [one % rank for one in axes] else UNKNOWN), None
    return UNKNOWN, None


def _summed(node: Node, value: Tensor, axis: int, rank: int) -> bool:
    return (node.inputs[0] is value and axis == rank - 1) or (node.inputs[1] is value and axis == max(rank - 2, 0))
