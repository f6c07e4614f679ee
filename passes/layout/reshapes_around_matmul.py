"""A MatMul between two reshapes that only make its first operand a matrix for the time being."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.file_bytes import plain_bytes
from graphopt.analysis.matching import maker, only_reader, operand
from graphopt.analysis.views import RESHAPES, Dims, viewed
from graphopt.ir import Graph, Node, Variable
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.layout.facts import Facts
from passes.layout.integer_lists import IntegerLists
from passes.layout.view_plans import Planner

RULE = "around"


@dataclass(frozen=True)
class ReshapesAroundMatmul(Pass):
    """Let a MatMul work on all axes of its operand instead of on a matrix of them.

    What it does
        Precondition: a reshape joins the first axes of a value into one and keeps the last one; a MatMul
        multiplies the result with a matrix; only another reshape reads the product, and gives it the
        first axes of the value back. Rewrite: the MatMul reads the value and makes what the second
        reshape made, which goes, and so does the first one when nobody else reads it. Main graph,
        bodies and functions.

    Example
        before: a = Reshape(x, [-1, 8])    b = MatMul(a, w)    y = Reshape(b, [0, 7, 32])    x is float[N, 7, 8]
        after:  y = MatMul(x, w)

    When not
        Where dims are not known to be the same; a second operand that is no matrix; a product that is
        read in other shapes too.

    Contract
        ROUNDING. The same sums of the same products, but a runtime may choose other kernels for them.

    Source
        ONNX operator MatMul (1, 9, 13): it multiplies the last two axes and repeats that over the others.
    """

    name = "reshapes-around-matmul"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        lists = IntegerLists(graph, annotations)
        planner = Planner(Facts(ctx), lists, annotations)
        for scope in graph.scopes():
            for node in [one for one in scope.nodes if one.is_op("MatMul")]:
                _try(scope, node, planner, annotations, ctx)


def _try(scope: Graph, node: Node, planner: Planner, annotations: Annotations, ctx: Context) -> None:
    product, matrix = node.outputs[0], operand(node, 1)
    first, last = maker(node.inputs[0], *RESHAPES), only_reader(product)
    if first is None or last is None or matrix is None or not last.is_op(*RESHAPES) or last.graph is not scope:
        return
    if first.graph is not scope or last.inputs[0] is not product or annotations.about(product) is not None:
        return
    source, joined = first.inputs[0], node.inputs[0]
    before, between, right = (planner.dims(one) for one in (source, joined, matrix))
    after = None
    if between and right:  # told along the chain, the dims that come back are those of the value
        after = viewed(last, (*between[:-1], right[-1]))
    why = _why_not(before, between, right, planner.dims(last.outputs[0]) if after is None else after)
    if why is not None:
        ctx.missed(RULE, node, why)
        return
    result = last.outputs[0]
    now, then = (source.name + result.name).encode(), (joined.name + product.name).encode()
    if len(now) - len(then) > plain_bytes(last):
        ctx.missed(RULE, node, f"the file would grow: {source.name!r} is so long a name")
        return
    if not ctx.rewrite(RULE, node):
        return
    constants = [*first.inputs[1:], *last.inputs[1:]]
    last.outputs[0] = Variable.empty()
    scope.insert(Node("MatMul", node.name, dict(node.attrs), [source, matrix], [result]), before=node)
    scope.remove(last)
    scope.remove(node)
    if not joined.is_read and annotations.about(joined) is None:
        scope.remove(first)
    for one in constants:
        planner.lists.drop(one)


def _why_not(source: Dims | None, joined: Dims | None, matrix: Dims | None, result: Dims | None) -> str | None:
    """Why the product of the value itself is not what comes out, in a clause."""
    if source is None or joined is None or matrix is None or result is None:
        return "the dims are not known"
    if len(joined) != 2 or len(source) < 2 or source[-1] != joined[-1]:
        return "the reshape before it does more than join the first axes"
    if len(matrix) != 2:
        return "its second operand is not a matrix"
    if result != (*source[:-1], matrix[-1]):
        shown = ", ".join(map(str, (*source[:-1], matrix[-1])))
        return f"the reshape behind it does not make [{shown}]"
    return None
