"""Expands of values whose readers would broadcast them anyway."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.dims import Dim
from graphopt.analysis.matching import operand
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Near, Same, bypass
from passes.eliminate.uniform import INTEGERS

# Element by element, broadcast from all sides. Pow is none of them: kernels take short cuts where the
# exponent is one number, and so is PRelu: only its slope is broadcast.
_BROADCASTING = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "And", "Or", "Xor", "Where", "Min", "Max", "Sum", "Mean", "Mod"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        *("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
    )
)


@dataclass(frozen=True)
class ImpliedExpands(Pass):
    """Remove Expands that the operators behind them imply.

    What it does
        Precondition: everything that reads an Expand (or a Tile of axes of size 1) computes element by
        element and broadcasts its operands, and along every axis of its result another operand, or the
        value before it was expanded, is provably as long as the result. Rewrite: the readers read that
        value, and the node goes. Shapes are inferred, symbolic dims included. Main graph, bodies and
        functions.

    Example
        before: a = Expand(m, shape)    y = Add(x, a)    where m is [N, 1], a and x are [N, 4]
        after:  y = Add(x, m)

    When not
        Where a result would be smaller, or that is not known: the expanded value may be the only operand
        that is as long. Before Max and Min of floats, which may give -0.0 for 0.0 where one operand is a number
        and not an array of it. Where the value is an output of its graph, or read by any other operator.

    Contract
        EXACT. Each element of a result is computed from the same elements as before.

    Source
        ONNX, "Broadcasting in ONNX". ONNX operators: Expand (8, 13), Tile (6, 13).
    """

    name = "implied-expands"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, ("Expand", "Tile"), _find)


def _find(node: Node, facts: Facts) -> Finding:
    value, expanded = operand(node, 0), node.outputs[0]
    rule = node.op.lower()
    readers = list(dict.fromkeys(expanded.readers))
    if value is None or not readers or not all(one.is_op(*_BROADCASTING) for one in readers):
        return None
    dims = facts.dims(value)
    if dims is None or (node.op == "Tile" and not _stretches(node, dims, facts)):
        return None
    if expanded.graph_outputs:
        return Near(rule, f"{expanded.name!r} is an output of its graph")
    picking = next((one for one in readers if one.is_op("Max", "Min")), None)
    if picking is not None and facts.dtype(value) not in INTEGERS:
        return Near(rule, f"{picking.label!r} may pick the other one of two zeros where one operand is broadcast")
    small = next((one for one in readers if not _as_large(one, expanded, value, facts)), None)
    if small is not None:
        return Near(rule, f"the result of {small.label!r} may become smaller")
    return Same(rule, value)


def _stretches(node: Node, dims: tuple[Dim, ...], facts: Facts) -> bool:
    """Whether a Tile repeats only axes of size 1, as an Expand would."""
    repeats = operand(node, 1)
    times = None if repeats is None or len(node.inputs) != 2 else facts.list_of(repeats)
    if times is None or len(times) != len(dims):
        return False
    return all(dim == 1 or one == 1 for dim, one in zip(dims, times, strict=True))


def _as_large(reader: Node, expanded: Tensor, value: Tensor, facts: Facts) -> bool:
    """Whether the result of a reader keeps its shape when it reads the value as it was."""
    whole = facts.dims(reader.outputs[0])
    operands = [value, *(one for one in reader.inputs if one is not expanded)]
    known = [dims for one in operands if (dims := facts.dims(one)) is not None]
    if whole is None:
        return False
    reached = [
        any(len(dims) >= place and dims[-place] == whole[-place] for dims in known)
        for place in range(1, len(whole) + 1)
    ]
    return all(reached)
