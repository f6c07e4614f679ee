"""Operators that compute each element from the elements at the same place, broadcast by numpy's rules."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.channels.flow import Axes, Flow, Labels
from graphopt.ir import Node, Tensor

_UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid
    HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign
    Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
_BROADCAST = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max
    Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor
"""


def same(node: Node, flow: Flow) -> str | None:
    """Every output that is used has the axes of the first input."""
    axes = flow.axes(node.inputs[0])
    for output in node.outputs:
        if output.name:
            flow.give(output, axes)
    return None


def _first_of(node: Node, flow: Flow) -> str | None:
    """The first input decides; the others are single numbers (bounds, ratios) or only give a type."""
    for tensor in node.inputs[1:]:
        if tensor.name and tensor not in flow.stored and node.op != "CastLike" and flow.shapes.rank(tensor) != 0:
            return "takes a number that is not known to be one"
    return same(node, flow)


def broadcast(node: Node, flow: Flow) -> str | None:
    """All inputs together, aligned at the back."""
    axes = [flow.axes(tensor) for tensor in node.inputs]
    known = [one for one in axes if one is not None]
    if len(known) < len(axes):
        return "has an operand of unknown rank"
    flow.give(node.outputs[0], broadcast_axes(flow, [(t, a) for t, a in zip(node.inputs, known, strict=True)]))
    return None


def broadcast_axes(flow: Flow, operands: list[tuple[Tensor, Axes]]) -> Axes:
    """The axes of what comes of broadcasting; axes that are not 1 are joined."""
    rank = max((len(axes) for _, axes in operands), default=0)
    found = list[Labels]()
    for back in range(rank, 0, -1):
        here = [(t, axes, len(axes) - back) for t, axes in operands if len(axes) >= back]
        wide = [axes[at] for t, axes, at in here if flow.dim(t, at) != 1]
        found.append(joined(flow, wide) if wide else here[0][1][here[0][2]])
    return tuple(found)


def joined(flow: Flow, parts: list[Labels]) -> Labels:
    """One axis of several that go together: labels where any of them has some."""
    chosen = next((one for one in parts if isinstance(one, np.ndarray)), parts[0])
    for one in parts:
        if one is not chosen:
            flow.join(chosen, one)
    return chosen


RULES = {
    **dict.fromkeys(_UNARY.split(), same),
    **dict.fromkeys(("Clip", "Dropout", "CastLike"), _first_of),
    **dict.fromkeys(_BROADCAST.split(), broadcast),
}
