"""Identities: nodes that hand their input on unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_values
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass


@dataclass(frozen=True)
class Identities(Pass):
    """Remove Identity nodes, and Dropout nodes that drop nothing.

    What it does
        Precondition: the node is an Identity, or a Dropout in inference mode whose mask nobody
        reads. A Dropout is in inference mode before opset 7 when `is_test` is set, from 7 to 11
        always, and from 12 on when its third input `training_mode` is left out or is a constant
        false. Rewrite: whoever read the output, in bodies too, reads the input, and the node goes.
        Where the output is one of the graph's outputs, the value behind it takes over its name
        and its declared type. Main graph, bodies and functions.

    Example
        before: a = Identity(x)    b = Relu(a)    y = Dropout(b)        outputs: y
        after:  y = Relu(x)

    When not
        An output of a graph has to be made by a node of that graph: an Identity between an input,
        an initializer or a captured outer value and an output stays, and so does one between two
        outputs. A Dropout stays when its mask is read, and when it may be training. Where a body
        that reads the output means another value by the input's name, the node stays.

    Contract
        EXACT. The operators are defined to copy their input. onnxruntime gives the same bits as
        long as it does not rearrange weights at load; with that on, a weight behind an Identity
        may select another kernel.

    Source
        ONNX operators: Identity (1, 13, 14, 16, 19, 21, 23 ...), Dropout (1, 6, 7, 10, 12, 13, 22).
    """

    name = "identities"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        removed, stayed = True, dict[Node, str]()
        # Until nothing more goes: a copy may be the only reader of a mask, and an output that hands
        # its name on may free a name that stood in the way.
        while removed:
            removed, stayed = _sweep(graph, annotations, ctx)
        for node, why in stayed.items():
            ctx.missed(node.op.lower(), node, why)


def _sweep(graph: Graph, annotations: Annotations, ctx: Context) -> tuple[bool, dict[Node, str]]:
    """Remove what can be removed now: whether anything was, and why each of the others stayed."""
    removed, stayed = False, dict[Node, str]()
    for scope in graph.scopes():
        for node in [one for one in scope.nodes if one.is_op("Identity", "Dropout")]:
            if not node.outputs or not node.inputs or not node.inputs[0].name:
                continue
            old, new = node.outputs[0], node.inputs[0]
            why = _why_it_drops(scope, node) if node.op == "Dropout" else None
            why = why or annotations.about(old) or scope.why_not_replace(old, new)
            if why is not None:
                stayed[node] = why
            elif ctx.rewrite(node.op.lower(), node):
                scope.replace_uses(old, new)
                scope.remove(node)
                removed = True
    return removed, stayed


def _why_it_drops(scope: Graph, node: Node) -> str | None:
    """Why a Dropout is more than a copy, in a clause; None when it is one."""
    if any(mask.name and mask.is_read for mask in node.outputs[1:]):
        return f"its mask {node.outputs[1].name!r} is read"
    opset = scope.opset_of()
    if opset < 7:
        return None if node.attrs.get("is_test") else "is_test is not set, so it drops at random"
    if len(node.inputs) < 3 or not node.inputs[2].name:
        return None
    training = constant_values(node.inputs[2])
    if training is None or training.size != 1:
        return f"whether it is training is only known at run time, from {node.inputs[2].name!r}"
    return "it is in training mode, so it drops at random" if bool(training.reshape(-1)[0]) else None
