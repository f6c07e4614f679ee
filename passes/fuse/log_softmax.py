"""LogSoftmax from Softmax and Log."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.pattern import Match, Pattern
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.rules import DOUBLE, FLOAT, Build, Facts, Rule, fuse, single

_PATTERNS = (Pattern("s = Softmax(x)  y = Log(s)"),)


def _log_softmax(match: Match, facts: Facts) -> Build | str | None:
    why = facts.why_not_dtype(match["x"], FLOAT, DOUBLE)
    return why or single("LogSoftmax", [match["x"]], dict(match.node("s").attrs))


RULES = (Rule("log-of-softmax", _PATTERNS, _log_softmax, "LogSoftmax"),)


@dataclass(frozen=True)
class LogSoftmax(Pass):
    """Replace the logarithm of a Softmax by LogSoftmax.

    What it does
        Precondition: a Log reads a Softmax of float or double that nothing else reads. Rewrite: one
        LogSoftmax with the same axis, which means the same for both at each opset. Main graph and bodies.

    Example
        before: s = Softmax<axis=-1>(x)    y = Log(s)
        after:  y = LogSoftmax<axis=-1>(x)

    When not
        Probabilities that are read as they are too. Other element types, for which onnxruntime computes
        LogSoftmax in several steps.

    Contract
        ROUNDING. LogSoftmax subtracts the logarithm of the sum, which is more exact: where a probability is
        too small for its type, the result is a large negative number and not minus infinity.

    Source
        ONNX operators Softmax and LogSoftmax (1, 11, 13). Blanchard, Higham and Higham, "Accurately computing
        the log-sum-exp and softmax functions", 2021.
    """

    name = "log-softmax"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        fuse(graph, ctx, RULES)
