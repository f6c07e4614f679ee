"""What changes nothing but the sign of a zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.fills import fill_of
from graphopt.analysis.matching import operand
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Near, Reading, Same, bypass, opset
from passes.eliminate.no_op_arithmetic import where, where_not
from passes.eliminate.no_op_reductions import keeps_axes, single
from passes.eliminate.uniform import FLOATS, uniform
from passes.eliminate.zero_sign import why_sign_matters

# Which inputs may be left out and then count as zeros, and since which version.
_OPTIONAL = {
    "Conv": ((2, 1),),
    "ConvTranspose": ((2, 1),),
    "Gemm": ((2, 11),),
    "LayerNormalization": ((2, 17),),
    "QLinearConv": ((8, 10),),
    "RNN": ((3, 7), (5, 7)),
    "GRU": ((3, 7), (5, 7)),
    "LSTM": ((3, 7), (5, 7), (6, 7)),
}
# Their sums start from 0.0, so -0.0 does not come out with a bias or without.
_NEVER_MINUS_ZERO = frozenset(("Conv", "ConvTranspose", "Gemm", "QLinearConv"))
_TERMS = frozenset(("Add", "Sub", "Where", "ReduceSum", "ReduceMean", "AveragePool"))


@dataclass(frozen=True)
class NoOpButZeroSign(Pass):
    """Remove what changes nothing but the sign of a zero: plus 0.0, biases of zeros.

    What it does
        "zero": x + 0.0 or x - (-0.0), where the constant does not enlarge x. "where": a Where of
        floating-point numbers whose condition is constant, or whose branches are the same value, and
        whose branch has the shape of the result. "where-not": a Where of such numbers on a negated
        condition that nobody else reads: the branches change places, and the Not goes. "size-1": a
        ReduceSum or ReduceMean of floating-point numbers over axes of size 1 that are kept. "window-1":
        an AveragePool whose window, strides and padding take in one element each. In these cases whoever
        read the result reads the operand, and the node goes. "bias": an optional input of Conv,
        ConvTranspose, QLinearConv, Gemm, LayerNormalization, RNN, GRU or LSTM (biases, and initial
        states) holds zeros only, as a constant or as a ConstantOfShape whose elements were moved at
        most: it is left out. Main graph, bodies and functions.

    Example
        before: a = Conv(x, w, zeros)    y = Add(a, 0.0)
        after:  y = Conv(x, w)

    When not
        The sign of a zero decides about infinities where something is divided by it: where a value that
        depends on the node is a divisor, or is read by an operator of which it is not known that both
        zeros give the same, the node stays; so it does where that cannot be seen because the value
        leaves a body or a function. A constant with more axes, or longer ones, enlarges the result, so
        the node stays; also where the shape of the operand is not known. Before opset 11 Gemm needs its third input.

    Contract
        ROUNDING. -0.0 + 0.0 is 0.0, in every one of these, and so -0.0 may now come out as it is; all
        other results are the same.

    Source
        IEEE 754, 6.3 (the sign of zero). ONNX operators as named.
    """

    name = "no-op-but-zero-sign"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, _TERMS | _OPTIONAL.keys(), _find)


def _find(node: Node, facts: Facts) -> Finding:
    """What can be done about a node, unless somebody looks at the signs of zeros."""
    found = _candidate(node, facts)
    if not isinstance(found, Same | Reading) or node.op in _NEVER_MINUS_ZERO:
        return found
    why = why_sign_matters(node.outputs[0])
    return found if why is None else Near(found.rule, why)


def _candidate(node: Node, facts: Facts) -> Finding:
    if node.op in _OPTIONAL:
        return _bias(node)
    value = operand(node, 0)
    if value is None or opset(node) < 7:
        return None
    if node.op in ("Add", "Sub"):
        return _zero(node, facts)
    if node.op == "Where":
        return where(node, facts, lambda number: number in FLOATS) or where_not(node, facts, floats=True)
    if node.op == "AveragePool":
        return Same("window-1", value) if _one_element(node) else None
    if facts.dtype(value) in FLOATS and single(node, value, facts) and keeps_axes(node, value, facts):
        return Same("size-1", value)
    return None


def _zero(node: Node, facts: Facts) -> Finding:
    left, right = operand(node, 0), operand(node, 1)
    if left is None or right is None:
        return None
    for value, zero in ((left, right), (right, left)):
        if value is right and node.op == "Sub":
            break
        if uniform(zero, lambda one: one.dtype.kind in "fV" and bool(one == 0)) is None:
            continue
        if not facts.keeps_shape(value, zero):
            return Near("zero", f"it may change the shape of {value.name!r}, or that shape is not known")
        return Same("zero", value)
    return None


def _bias(node: Node) -> Finding:
    inputs = list(node.inputs)
    for index, since in _OPTIONAL[node.op]:
        given = operand(node, index)
        if given is not None and opset(node) >= since and _zeros(given):
            inputs[index] = Variable.empty()
    if all(new is old for new, old in zip(inputs, node.inputs, strict=True)):
        return None
    while isinstance(inputs[-1], Variable) and not inputs[-1].name:
        inputs.pop()
    return Reading("bias", tuple(inputs))


def _zeros(tensor: Tensor) -> bool:
    filled = fill_of(tensor)
    return filled is not None and bool(np.equal(filled[0], 0))


def _one_element(node: Node) -> bool:
    for name, default, wanted in (("kernel_shape", [], 1), ("strides", [1], 1), ("pads", [0], 0)):
        given = node.attrs.get(name, default)
        if not isinstance(given, list) or set(given) != {wanted}:
            return False
    return True
