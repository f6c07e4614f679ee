"""Unused opset imports: operator sets that no node is of."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Function, Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass

RULE = "import"


@dataclass(frozen=True)
class UnusedOpsetImports(Pass):
    """Remove imports of operator sets that the model does not use.

    What it does
        Precondition: the model, or one of its functions, imports a domain; no node in it, bodies
        included, is of that domain, and none of the model's functions is defined in it. Rewrite: the
        import goes.

    Example
        before: imports: ONNX 17, ai.onnx.ml 3    y = Relu(x)
        after:  imports: ONNX 17                  y = Relu(x)

    When not
        ONNX's own operator set stays: the version says how the model as a whole is to be read.

    Contract
        EXACT. The opset imports change, which are part of the signature; nothing else of it does.

    Source
        ONNX IR specification, "Models": `opset_import`.
    """

    name = "unused-opset-imports"
    contract = Contract.EXACT
    changes = ("opsets",)

    def run(self, graph: Graph, ctx: Context) -> None:
        defined = {function.domain for function in graph.functions}
        for top in (graph, *graph.functions):
            if (subject := _subject(top)) is None:
                continue
            used = {node.domain or "" for scope in top.graphs() for node in scope.nodes} | {"", "ai.onnx"}
            if not isinstance(top, Function):
                used |= defined
            domains = list(top.import_domains or ())
            kept = [one for one in domains if one.domain in used or not ctx.rewrite(RULE, subject, f"of {one.domain}")]
            if len(kept) != len(domains):
                top.import_domains = kept


def _subject(graph: Graph) -> Node | Tensor | None:
    """What stands for a graph in a remark; None for one that holds nothing."""
    return next(iter([*graph.nodes, *graph.outputs, *graph.inputs]), None)
