"""Dead nodes: nothing that they compute is read."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.liveness import Effects, is_unread
from graphopt.ir import Graph, Node
from graphopt.ir.order import reads
from graphopt.pipeline.protocol import Context, Contract, Pass

RULE = "unread"


@dataclass(frozen=True)
class DeadNodes(Pass):
    """Remove nodes whose results nobody reads.

    What it does
        Precondition: no output of the node is read by another node, in bodies too, and none is an
        output of the graph, the body or the function that holds the node; and the node can do
        nothing else than compute its outputs. Rewrite: the node goes, with its bodies. What only
        it read is then looked at in turn, so a whole unread branch goes in one run, last node
        first; each node is one rewrite. Main graph, bodies of If, Loop and Scan, and functions.

    Example
        before: a = Relu(x)    b = Exp(a)    y = Neg(x)        outputs: y
        after:  y = Neg(x)

    When not
        A node of an operator set that is neither ONNX's nor onnxruntime's may have effects (print,
        write, communicate), so it stays, with everything it reads; so does one whose bodies, or
        whose function, hold such a node. A value that a quantization annotation names as scale or
        zero point stays. Outputs that are optional and unread stay on a node that is alive.
        Random operators go like any other: with a `seed` each draws from its own stream, and
        without one ONNX promises nothing about what they draw.

    Contract
        EXACT. No value that anybody can see depends on the node, and the nodes that remain compute
        from the same inputs as before, in the same order.

    Source
        Dead code elimination: Kennedy, "A survey of data flow analysis techniques", 1981. Which
        values a graph gives out: ONNX IR specification, "Graphs".
    """

    name = "dead-nodes"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        work = _Work(graph, ctx)
        for scope in graph.scopes():
            for node in reversed(list(scope.nodes)):
                work.remove(node)
        work.report()


class _Work:
    """One run: what may have effects, what annotations need, and what stayed for one of them."""

    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.ctx = ctx
        self.effects = Effects(graph)
        self.annotations = Annotations(graph)
        self.stayed: dict[Node, str] = {}

    def remove(self, last: Node) -> None:
        """Remove `last` if it is dead, and then whatever of its makers that leaves dead."""
        pending = [last]
        while pending:
            node = pending.pop()
            if node.graph is None or not is_unread(node):
                continue
            if (why := self.why_not(node)) is not None:
                self.stayed[node] = why
                continue
            inside = {graph for body in node.bodies for graph in body.graphs()}
            freed = [*reads(node), *(one for output in node.outputs for one in self.annotations.parameters(output))]
            if self.ctx.rewrite(RULE, node):
                node.graph.remove(node)
                makers = dict.fromkeys(maker for tensor in freed for maker in tensor.inputs)
                pending.extend(maker for maker in reversed(makers) if maker.graph not in inside)

    def why_not(self, node: Node) -> str | None:
        """Why a node that nobody reads has to stay, in a clause; None when it can go."""
        needed = (self.annotations.needs(output) for output in node.outputs)
        return next((why for why in needed if why is not None), None) or self.effects.of(node)

    def report(self) -> None:
        """Say why nodes stayed that nobody reads."""
        for node, why in self.stayed.items():
            if node.graph is not None:
                self.ctx.missed(RULE, node, why)
