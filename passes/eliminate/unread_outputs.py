"""Optional outputs that nobody reads."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.ir import Graph, Node, Variable
from graphopt.pipeline.protocol import Context, Contract, Pass

RULE = "unread"
# From which output on the slots may be left out. MaxPool is none of them: with indices it looks for the
# maximum in another way, so NaN comes out differently; nor is BatchNormalization, which may be training.
_OPTIONAL_FROM = {
    "Dropout": 1,
    "GRU": 0,
    "LSTM": 0,
    "LayerNormalization": 1,
    "RNN": 0,
    "SoftmaxCrossEntropyLoss": 1,
    "Unique": 1,
}


@dataclass(frozen=True)
class UnreadOutputs(Pass):
    """Leave out optional outputs that nobody reads.

    What it does
        Precondition: an output of a Dropout, LSTM, GRU, RNN, LayerNormalization, Unique or
        SoftmaxCrossEntropyLoss that the operator may leave out is read by nobody: no node, in bodies
        too, no graph output and no quantization annotation; another output is. Rewrite: the output is
        left out, and empty slots at the end go. Runtimes need not compute or keep it. Main graph, bodies
        and functions.

    Example
        before: a, h, c = LSTM(x, w, r)    y = Neg(h)
        after:  , h = LSTM(x, w, r)    y = Neg(h)

    When not
        A MaxPool keeps its indices and a BatchNormalization its statistics, because without them the
        operator may compute something else. A node of which nobody reads anything is left to dead-nodes.

    Contract
        EXACT. The outputs that remain are computed as before.

    Source
        ONNX IR specification, "Optional Inputs and Outputs".
    """

    name = "unread-outputs"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        for scope in graph.scopes():
            for node in [one for one in scope.nodes if one.op in _OPTIONAL_FROM and one.is_standard]:
                unread = _unread(node, annotations)
                if unread and ctx.rewrite(RULE, node, ", ".join(node.outputs[index].name for index in unread)):
                    for index in unread:
                        node.outputs[index] = Variable.empty()
                    while not node.outputs[-1].name:
                        node.outputs.pop()


def _unread(node: Node, annotations: Annotations) -> list[int]:
    """The outputs that can be left out; none when that would be all that there are."""
    named = [index for index, one in enumerate(node.outputs) if one.name]
    found = [
        index
        for index in named
        if index >= _OPTIONAL_FROM[node.op]
        and not node.outputs[index].is_read
        and annotations.about(node.outputs[index]) is None
    ]
    return found if len(found) < len(named) else []
