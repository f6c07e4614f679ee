"""Unused functions: model-local functions that nobody calls."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Function, Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass

RULE = "uncalled"


@dataclass(frozen=True)
class UnusedFunctions(Pass):
    """Remove model-local functions that are never called.

    What it does
        Precondition: no node of the main graph, of its bodies, or of a function that is itself
        called refers to the function by domain, name and overload. Rewrite: the function goes.

    Example
        before: y = local.f(x)    functions: local.f, local.g
        after:  y = local.f(x)    functions: local.f

    When not
        The import of the function's domain stays: it is part of the signature (see
        unused-opset-imports).

    Contract
        EXACT. No node depends on what goes.

    Source
        ONNX IR specification, "Functions".
    """

    name = "unused-functions"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        functions = {function.unique_id: function for function in graph.functions}
        pending: list[Graph] = [graph]
        called: set[Function] = set()
        while pending:
            for scope in pending.pop().graphs():
                for node in scope.nodes:
                    name = (node.domain or "", node.op)
                    function = functions.get((*name, node.overload) if node.overload else name)
                    if function is not None and function not in called:
                        called.add(function)
                        pending.append(function)
        gone = set()
        for function in graph.functions:
            subject = _subject(function)
            if function not in called and subject is not None:
                label = f"{function.domain}.{function.name}"
                if ctx.rewrite(RULE, subject, f"nobody calls function {label}"):
                    gone.add(function)
        if gone:
            graph.functions[:] = [function for function in graph.functions if function not in gone]


def _subject(function: Function) -> Node | Tensor | None:
    """What stands for a function in a remark; None for one that holds nothing."""
    return next(iter([*function.nodes, *function.outputs, *function.inputs]), None)
