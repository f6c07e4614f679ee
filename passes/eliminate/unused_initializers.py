"""Unused initializers: weights that nothing reads."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.ir import Constant, Graph
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
        annotations = Annotations(graph)
        for scope in graph.scopes():
            for variable, default in scope.defaults.items():
                if not variable.is_read:
                    why = f"it is the default of input {variable.name!r}, which callers may override"
                    ctx.missed(RULE, default, why)
            _sweep(scope, annotations, ctx)


def _sweep(scope: Graph, annotations: Annotations, ctx: Context) -> None:
    """Remove the unread initializers of one graph; scales and zero points follow what they belonged to."""
    pending, needed = list(reversed(list(scope.initializers))), dict[Constant, str]()
    while pending:
        constant = pending.pop()
        if constant.is_read or constant not in scope.initializers:
            continue
        if (why := annotations.needs(constant)) is not None:
            needed[constant] = why
        elif ctx.rewrite(RULE, constant):
            scope.remove_initializer(constant)
            pending.extend(one for one in annotations.parameters(constant) if isinstance(one, Constant))
    for constant, why in needed.items():
        if constant in scope.initializers:
            ctx.missed(RULE, constant, why)
