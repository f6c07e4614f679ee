"""Reductions of nothing: over axes of size 1, or over no axes at all."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.matching import integers, maker, operand
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Near, Same, bypass, number
from passes.eliminate.uniform import INTEGERS

_ALWAYS = frozenset(("ReduceMax", "ReduceMin", "ReduceProd"))
_SUMS = frozenset(("ReduceSum", "ReduceMean"))
_SINCE = 13  # the first version in which a reduction can be told to do nothing without axes


@dataclass(frozen=True)
class NoOpReductions(Pass):
    """Remove reductions over axes of size 1, and over no axes.

    What it does
        Rule "size-1": a ReduceMax, ReduceMin or ReduceProd, or a ReduceSum or ReduceMean of integers, goes
        over axes that are all of size 1, and keeps its axes (or there are none: a scalar). Rule
        "round-trip": such axes do go away, and an Unsqueeze or Reshape brings them back. Rule "no-axes": the
        node has `noop_with_empty_axes` and no axes are given. Whoever read the result
        reads the operand, and the node goes. Shapes are inferred. Main graph, bodies and functions.

    Example
        before: a = ReduceMax<keepdims=1>(x, [1])    y = Relu(a)    where x is [N, 1, 4]
        after:  y = Relu(x)

    When not
        Where the axes go away, the node also reshapes, and stays. A sum of a single -0.0 may come out
        as 0.0, so sums and means of floating-point numbers are left to `no-op-but-zero-sign`. ReduceL1,
        ReduceL2, ReduceSumSquare and the logarithms compute something even of one element.

    Contract
        EXACT. The largest, the smallest, the product and the integer sum of one element are the element.

    Source
        ONNX operators: ReduceMax, ReduceMin, ReduceProd, ReduceSum, ReduceMean (1, 11, 13, 18, 20).
    """

    name = "no-op-reductions"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, _ALWAYS | _SUMS | {"Unsqueeze", "Reshape"}, _find)


def _find(node: Node, facts: Facts) -> Finding:
    value = operand(node, 0)
    if value is None:
        return None
    if node.op in ("Unsqueeze", "Reshape"):
        return _undone(node, value, facts)
    if reduces_nothing(node):
        return Same("no-axes", value)
    if not single(node, value, facts):
        return None
    if node.op in _SUMS and facts.dtype(value) not in INTEGERS:
        return None
    return Same("size-1", value) if keeps_axes(node, value, facts) else Near("size-1", "it takes the axes away")


def _undone(node: Node, value: Tensor, facts: Facts) -> Finding:
    """An Unsqueeze or Reshape that brings the axes back that a reduction of size 1 took away."""
    before = maker(value, *_ALWAYS, *_SUMS)
    source = None if before is None else operand(before, 0)
    if before is None or source is None or not single(before, source, facts):
        return None
    if before.op in _SUMS and facts.dtype(source) not in INTEGERS:
        return None
    return Same("round-trip", source, (before,)) if facts.same_shape(source, node.outputs[0]) else None


def reduces_nothing(node: Node) -> bool:
    """Whether a reduction is told to do nothing without axes, and has none."""
    assert node.graph is not None, "a node that is looked at is in a graph"
    if node.graph.opset_of() < _SINCE or number(node, "noop_with_empty_axes", 0) != 1:
        return False
    return operand(node, 1) is None or integers(node, 1, "axes") == []


def single(node: Node, value: Tensor, facts: Facts) -> bool:
    """Whether every axis that is reduced is of size 1."""
    dims = facts.dims(value)
    if dims is None:
        return False
    # Without axes, or with none in the list, it goes over all; and where they are not known, over some of all.
    axes = integers(node, 1, "axes") or range(len(dims))
    if not all(-len(dims) <= axis < len(dims) for axis in axes):
        return False
    return all(dims[axis] == 1 for axis in axes)


def keeps_axes(node: Node, value: Tensor, facts: Facts) -> bool:
    """Whether the result has the axes of the operand."""
    return facts.dims(value) == () or number(node, "keepdims", 1) == 1
