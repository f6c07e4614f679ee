"""Move Transposes also past operators whose last bits depend on the order of elements."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.layout.moving import Mover


@dataclass(frozen=True)
class MoveTransposesRounding(Pass):
    """Move Transposes behind the nodes that read them, functions and reductions included.

    What it does
        What move-transposes does, with more operators that may stand between: functions element by
        element (Exp, Sigmoid, Tanh, Erf, Gelu ...), Pow, Softmax, LogSoftmax and the Reduce operators.

    Example
        before: a = Transpose(x, perm=[0, 2, 3, 1])    b = Sigmoid(a)    y = Transpose(b, perm=[0, 3, 1, 2])
        after:  y = Sigmoid(x)

    When not
        As for move-transposes. Softmax before opset 13 takes all axes from one on together: it
        follows only where that is the last axis before and after.

    Contract
        ROUNDING. Sums are added up in the order of memory, and functions are computed several elements
        at a time, the last ones by another formula; the last bits depend on where an element lies.

    Source
        Layout propagation, as in Liu et al., "Optimizing CNN Model Inference on CPUs", 2019.
    """

    name = "move-transposes-rounding"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        Mover(graph, ctx, exact=False).run()
