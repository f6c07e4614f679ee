"""Nodes in an order in which they can run."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Graph
from graphopt.ir.order import circle, sorted_nodes
from graphopt.pipeline.protocol import Context, Contract, Pass

RULE = "order"


@dataclass(frozen=True)
class TopologicalOrder(Pass):
    """Sort nodes so that each comes after what it reads.

    What it does
        Precondition: a graph, body or function holds a node that stands before one whose result it, or a
        body of it, reads. Rewrite: the nodes of that graph are sorted. Those that are in order as they are
        stay where they are: among nodes that could come next, the one that stood first does.

    Example
        before: y = Neg(a)    a = Relu(x)
        after:  a = Relu(x)    y = Neg(a)

    When not
        Nodes that depend on each other in a circle cannot be sorted; a remark names one of them.

    Contract
        EXACT. The order of nodes means nothing to what they compute. ONNX wants them sorted, and other
        passes may look at nodes in order.

    Source
        Kahn, "Topological sorting of large networks", 1962.
    """

    name = "topological-order"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        for scope in list(graph.scopes()):
            first = next(iter(scope.nodes), None)
            if first is None:
                continue
            why = circle(scope)
            if why is not None:
                ctx.missed(RULE, first, why)
            elif sorted_nodes(scope) is not None and ctx.rewrite(RULE, first):
                scope.toposort(recurse_subgraphs=False, recurse_functions=False)
