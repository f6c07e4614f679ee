"""What goes with a node that is taken out."""

from __future__ import annotations

from collections.abc import Container

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.file_bytes import held_bytes, node_bytes
from graphopt.ir import Node, Tensor


def freed_bytes(node: Node, kept: Container[Tensor | None], annotations: Annotations) -> int:
    """Bytes of `node` and of the constants that nothing else reads, without those in `kept`."""
    total = node_bytes(node)
    for one in dict.fromkeys(node.inputs):
        if one in kept or not _is_read_by_none_but(node, one) or annotations.needs(one) is not None:
            continue
        total += held_bytes(one)
    return total


def _is_read_by_none_but(node: Node, tensor: Tensor) -> bool:
    if tensor.graph_outputs or len(tensor.outputs) > len(node.inputs):  # one entry a slot
        return False
    return all(one is node for one in tensor.readers)
