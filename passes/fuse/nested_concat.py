"""Concats within Concats, one after the other in one."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.matching import only_reader
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.supersede import supersede
from graphopt.pipeline.protocol import Context, Contract, Pass

RULE = "concat-of-concat"


@dataclass(frozen=True)
class NestedConcat(Pass):
    """Let a Concat read what a Concat before it reads.

    What it does
        Precondition: an operand of a Concat is made by a Concat along the same axis, in the same graph, and
        nothing else reads it. Rewrite: the operands of the inner Concat stand in its place, and it goes.
        Axes counted from different ends are the same where the rank is known. Main graph, bodies and
        functions.

    Example
        before: a = Concat<axis=1>(x, y)    b = Concat<axis=1>(a, z)
        after:  b = Concat<axis=1>(x, y, z)

    When not
        A Concat that others read too, which would be computed twice in part; another axis.

    Contract
        EXACT. Elements are copied, to the same places.

    Source
        ONNX operator Concat (1, 4, 11, 13).
    """

    name = "nested-concat"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        for scope in graph.scopes():
            for node in reversed(list(scope.nodes)):  # the outermost first: each is then looked at once
                if node.is_op("Concat") and node.graph is not None:
                    _flatten(node, ctx, annotations)


def _flatten(node: Node, ctx: Context, annotations: Annotations) -> None:
    inner: list[Node] = []
    operands: list[Tensor] = []
    pending: list[Tensor] = list(reversed(node.inputs))
    while pending:
        one = pending.pop()
        maker = _inner(one, node, ctx)
        if maker is None:
            operands.append(one)
        else:
            inner.append(maker)
            pending.extend(reversed(maker.inputs))
    if not inner:
        return
    why = next((why for one in inner if (why := annotations.about(one.outputs[0])) is not None), None)
    if why is not None:
        ctx.missed(RULE, node, why)
    elif ctx.rewrite(RULE, node):
        made = Node("Concat", node.name, dict(node.attrs), operands, [])
        supersede(node, [node, *inner], [made], lambda tensor: annotations.needs(tensor) is not None)


def _inner(tensor: Tensor, reader: Node, ctx: Context) -> Node | None:
    """The Concat along the same axis that makes an operand of another one, and is read by that only."""
    maker: Node | None = tensor.inputs[0] if len(tensor.inputs) == 1 else None
    if maker is None or not maker.is_op("Concat") or maker.graph is not reader.graph or only_reader(tensor) is None:
        return None
    one, other = maker.attrs.get("axis"), reader.attrs.get("axis")
    if not isinstance(one, int) or not isinstance(other, int):
        return None
    if one == other:
        return maker
    rank = ctx.shapes.rank(tensor) if one * other <= 0 else None
    return maker if rank and one % rank == other % rank else None
