"""Unused initializers: weights that nothing reads."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.liveness import quantization_parameters
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass

RULE = "unread"


@dataclass(frozen=True)
class UnusedInitializers(Pass):
    """Remove initializers that nobody reads.

    What it does
        Precondition: no node of the graph that declares the initializer, or of a body in it, reads
        it, and it is no graph's output. Rewrite: the initializer goes, dense or sparse. Main graph
        and bodies; functions have none.

    Example
        before: initializers: w, v    y = MatMul(x, w)
        after:  initializers: w       y = MatMul(x, w)

    When not
        The default of an input that callers may override stays even if nothing reads the input: it
        is part of the signature. The scale or zero point that a quantization annotation names
        stays for as long as the annotated value is there.

    Contract
        EXACT. Nothing is computed from what is removed.

    Source
        ONNX IR specification, "Graphs": initializers, and inputs with a default.
    """

    name = "unused-initializers"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        for scope in graph.scopes():
            kept = quantization_parameters(scope)
            for variable, default in scope.defaults.items():
                if not variable.is_read:
                    why = f"it is the default of input {variable.name!r}, which callers may override"
                    ctx.missed(RULE, default, why)
            for constant in scope.initializers:
                if constant.is_read:
                    continue
                if constant in kept:
                    ctx.missed(RULE, constant, f"it is a quantization parameter of {kept[constant]!r}")
                elif ctx.rewrite(RULE, constant):
                    scope.remove_initializer(constant)
