"""Bodies within bodies: how deep they go, found without recursion."""

from __future__ import annotations

from onnx import GraphProto, ModelProto

from graphopt.errors import OverLimit
from graphopt.ir.wording import shown
from graphopt.limits import Limits

_PLAIN = ("", "ai.onnx")
_WITH_BODIES = frozenset(("If", "Loop", "Scan", "SequenceMap"))


def check_nesting(proto: ModelProto, what: str, limits: Limits) -> None:
    """Raise OverLimit when bodies of the main graph or of a function are nested deeper than `limits.nesting`."""
    pending = [(proto.graph.node, 0), *((function.node, 0) for function in proto.functions)]
    while pending:
        nodes, depth = pending.pop()
        for node in nodes:
            if node.domain in _PLAIN and node.op_type not in _WITH_BODIES:
                continue  # which spares a look at the attributes of nearly all nodes
            bodies: list[GraphProto] = []
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    bodies.append(attribute.g)
                bodies.extend(attribute.graphs)
            if bodies and depth >= limits.nesting:
                raise OverLimit(
                    f"{what} has bodies nested deeper than the limit of {limits.nesting}, in node {shown(node.name)}"
                )
            pending.extend((body.node, depth + 1) for body in bodies)
