"""Dead nodes: nothing that they compute is read."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.liveness import Effects, is_unread, quantization_parameters
from graphopt.ir import Graph, Node, Tensor
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
        effects = Effects(graph)
        kept: dict[Tensor, str] = {}
        for scope in graph.scopes():
            kept |= quantization_parameters(scope)
        for scope in graph.scopes():
            for node in reversed(list(scope.nodes)):
                if node.graph is scope:  # it may have gone with a reader of its results
                    _remove(node, effects, kept, ctx)


def _remove(last: Node, effects: Effects, kept: dict[Tensor, str], ctx: Context) -> None:
    """Remove `last` if it is dead, and then whatever of its makers that leaves dead."""
    pending = [last]
    while pending:
        node = pending.pop()
        if node.graph is None or not is_unread(node):
            continue
        if (why := _why_not(node, effects, kept)) is not None:
            ctx.missed(RULE, node, why)
            continue
        inside = {graph for body in node.bodies for graph in body.graphs()}
        makers = dict.fromkeys(maker for tensor in reads(node) for maker in tensor.inputs)
        if ctx.rewrite(RULE, node):
            node.graph.remove(node)
            pending.extend(maker for maker in reversed(makers) if maker.graph not in inside)


def _why_not(node: Node, effects: Effects, kept: dict[Tensor, str]) -> str | None:
    for output in node.outputs:
        if output in kept:
            return f"{output.name!r} is a quantization parameter of {kept[output]!r}"
    return effects.of(node)
