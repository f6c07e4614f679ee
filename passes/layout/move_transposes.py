"""Move Transposes to where they meet others and cancel."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.layout.moving import Mover


@dataclass(frozen=True)
class MoveTransposes(Pass):
    """Move Transposes behind the nodes that read them, where that leaves fewer of them.

    What it does
        Precondition: connected nodes read Transposes and do the same on what is before them once
        their axes are renamed: arithmetic, comparisons, selection and rounding, element by element
        (with constants and with operands transposed alike), Cast, Clip, Concat, Split, Slice, Pad,
        Gather, Squeeze, ArgMax, ArgMin, QuantizeLinear and DequantizeLinear. Of the Transposes that
        they read and that read them, fewer are left when the nodes read what is before. Rewrite: they
        do; a Transpose that nobody else reads goes, one that undoes it on the other side goes too, and
        where something else reads a result, a Transpose is put behind it. Constants are stored in the
        new order. Main graph, bodies and functions.

    Example
        before: a = Transpose(x, perm=[0, 2, 3, 1])    b = Add(a, w)    y = Transpose(b, perm=[0, 3, 1, 2])
        after:  y = Add(x, v)    v is w in the order of x

    When not
        Where as many Transposes would come as go. Operators whose last bits depend on where an
        element lies in memory (Exp, Sigmoid, sums; see move-transposes-rounding), and those that
        do not treat their axes alike. Operands of fewer axes that are not constant. Where the
        file would grow: by constants that others read in the old order, by new names in a long region.

    Contract
        EXACT. Each element of the result is computed from the same elements in the same way.

    Source
        Layout propagation, as in Liu et al., "Optimizing CNN Model Inference on CPUs", 2019.
    """

    name = "move-transposes"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        Mover(graph, ctx, exact=True).run()
