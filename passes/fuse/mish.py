"""Mish from Softplus, Tanh and Mul."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.pattern import Match, Pattern
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.rules import FLOAT, Build, Facts, Rule, fuse, single

_PATTERNS = (Pattern("s = Softplus(x)  t = Tanh(s)  y = Mul(x, t)"),)


def _mish(match: Match, facts: Facts) -> Build | str | None:
    return facts.why_not_dtype(match["x"], FLOAT) or single("Mish", [match["x"]])


RULES = (Rule("mish", _PATTERNS, _mish, "Mish", 18),)


@dataclass(frozen=True)
class Mish(Pass):
    """Replace a value times Tanh of Softplus of it by Mish.

    What it does
        Precondition: a float tensor is multiplied by the Tanh of its Softplus, and nothing else reads the
        values in between. Rewrite: one Mish, from opset 18 on. Main graph and bodies.

    Example
        before: s = Softplus(x)    t = Tanh(s)    y = Mul(x, t)
        after:  y = Mish(x)

    When not
        An opset before 18. Other element types, which onnxruntime computes with casts around each step.
        Softplus written as Log of one plus Exp is left alone: that is what onnxruntime computes faster.

    Contract
        ROUNDING. The same steps in one kernel, or in the same nodes where a runtime has none.

    Source
        Misra, "Mish: a self regularized non-monotonic activation function", 2019. ONNX operator Mish (18, 22).
    """

    name = "mish"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        fuse(graph, ctx, RULES)
