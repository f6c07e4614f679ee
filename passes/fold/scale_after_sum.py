"""A factor behind a summand, where a convolution can take the factor but not the summand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_node, constant_of, constant_values
from graphopt.analysis.matching import maker, only_reader, scalar
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass

RULE = "mul-add-to-add-mul"


@dataclass(frozen=True)
class ScaleAfterSum(Pass):
    """Turn c * x + d into c * (x + d / c) before a padded convolution, whose weights can take c then.

    What it does
        Precondition: an Add of one number reads a Mul by one number that nobody else reads, and only
        convolutions with constant weights that pad read its result. What is added cannot go through a padded
        convolution, since it is missing at the border; the factor can. Rewrite: the order of the two
        is turned around, with d / c added. fold-scale-bias then folds the factor into the weights.
        Until it does, the file is longer by the names of the new nodes and values.

    Example
        before: a = Mul(x, c)    b = Add(a, d)      y = Conv<pads = [1, 1, 1, 1]>(b, w)
        after:  a = Add(x, d/c)  b = Mul(a, c)      y = Conv<pads = [1, 1, 1, 1]>(b, w)

    When not
        Factors that are zero or not finite, or so small that d / c is not a finite float32 or much larger
        than what float32 keeps beside x: left with the reason.

    Contract
        ROUNDING. The same function, rounded at another place.

    Source
        Linear algebra.
    """

    name = "scale-after-sum"
    contract = Contract.ROUNDING
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        for scope in graph.scopes():
            for node in list(scope.nodes):
                if not node.is_op("Add") or not _before_padding(node):
                    continue
                found = _factor(node)
                if found is None:
                    continue
                times, c, d = found
                why = _why_not(_number(c) or 0.0, _number(d) or 0.0)
                if why is not None:
                    ctx.missed(RULE, node, why)
                elif ctx.rewrite(RULE, node):
                    _turn(scope, times, node, c, d)


def _factor(plus: Node) -> tuple[Node, Tensor, Tensor] | None:
    """The Mul before an Add of one number, the number that it multiplies by, and the one that is added."""
    for slot in (0, 1):
        times = maker(plus.inputs[slot], "Mul")
        d = plus.inputs[1 - slot]
        if times is None or times.graph is not plus.graph or only_reader(plus.inputs[slot]) is not plus:
            continue
        c = next((one for one in times.inputs if _number(one) is not None), None)
        if c is not None and _number(d) is not None:
            return times, c, d
    return None


def _before_padding(node: Node) -> bool:
    """Whether only convolutions with constant weights read the result, and one of them pads."""
    result = node.outputs[0]
    readers = list(result.readers)
    if result.graph_outputs or not readers:
        return False
    if not all(one.is_op("Conv") and one.inputs[0] is result and constant_of(one.inputs[1]) for one in readers):
        return False
    return any(any(one.attrs.get("pads", [])) or "auto_pad" in one.attrs for one in readers)


def _number(tensor: Tensor) -> float | None:
    """The one float32 of a constant that adds no axes to what it meets."""
    values = constant_values(tensor)
    if values is None or values.dtype != np.float32 or values.ndim > 1 or scalar(tensor) is None:
        return None
    return float(values.reshape(()))


def _why_not(c: float, d: float) -> str | None:
    if c == 0 or not math.isfinite(c) or not math.isfinite(d):
        return "its factor is zero, or a number is not finite"
    moved = d / c
    return "its summand would be too large" if abs(moved) > 1e3 * max(abs(d), 1.0) else None


def _turn(graph: Graph, times: Node, plus: Node, c: Tensor, d: Tensor) -> None:
    x = times.inputs[1] if times.inputs[0] is c else times.inputs[0]
    values = constant_values(d)
    first, second = constant_values(c), _number(d)
    assert values is not None and first is not None and second is not None
    quotient = np.asarray(second / float(first.reshape(())), np.float32).reshape(values.shape)
    moved = graph.constant(quotient, d.name or "summand")
    summed = graph.variable(f"{x.name}_sum")
    graph.insert(Node("Add", graph.fresh_name(plus.name or "Add"), {}, [x, moved], [summed]), before=plus)
    scaled = graph.variable(f"{x.name}_scaled")
    graph.insert(Node("Mul", graph.fresh_name(times.name or "Mul"), {}, [summed, c], [scaled]), before=plus)
    graph.replace_uses(plus.outputs[0], scaled)
    graph.remove(plus)
    graph.remove(times)
    holder = constant_node(d)
    if d.is_read:
        return
    if isinstance(d, Constant):
        if d in graph.initializers:
            graph.remove_initializer(d)
    elif holder is not None and holder.graph is not None:
        holder.graph.remove(holder)
