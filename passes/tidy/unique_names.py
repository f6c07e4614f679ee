"""A name of its own for every node."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option


@dataclass(frozen=True)
class UniqueNames(Pass):
    """Give nodes that have no name, or one that another node has, a name of their own.

    What it does
        Precondition: a node of the main graph, a body or a function has no name (`unnamed`), or the name of
        a node before it (`twice`). Rewrite: it is called after its operator, or by its name with a number.

    Example
        before: y = Relu(x)    without a name
        after:  y = Relu(x)    called Relu

    When not
        ONNX does not need it: this is for programs that tell nodes by name, such as profilers and
        quantizers. Names of values are unique already.

    Contract
        EXACT. Names of nodes compute nothing. The file grows by the names.

    Source
        ONNX IR specification, "Names Within a Graph".
    """

    name = "unique-names"
    contract = Contract.EXACT
    grows = True

    unnamed: bool = option(True, "also name nodes that have no name")

    def run(self, graph: Graph, ctx: Context) -> None:
        seen: set[str] = set()
        for scope in graph.scopes():
            for node in scope.nodes:
                if node.name and node.name not in seen:
                    seen.add(node.name)
                    continue
                if not node.name and not self.unnamed:
                    continue
                if ctx.rewrite("twice" if node.name else "unnamed", node):
                    node.name = graph.fresh_name(node.name or node.op)
