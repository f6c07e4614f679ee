"""Groups of nodes that would compute in 16 bits together, and which of them are worth the casts around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from graphopt.ir import Node
from passes.quantize.half_slots import Slots

HEAVY = ("MatMul", "Conv", "Gemm", "ConvTranspose", "Einsum", "LSTM", "GRU", "RNN", "Attention")


def islands(chosen: Mapping[Node, Slots]) -> list[Node]:
    """The nodes of `chosen` that hang together with none of the operators in `HEAVY`, in order."""
    above: dict[Node, Node] = {node: node for node in chosen}

    def top(node: Node) -> Node:
        while above[node] is not node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    for node, found in chosen.items():
        for slot in found.inputs:
            for maker in node.inputs[slot].inputs:
                if maker in above and _makes(maker, chosen[maker], node.inputs[slot]):
                    above[top(node)] = top(maker)
    heavy = {top(node) for node in chosen if node.is_op(*HEAVY)}
    return [node for node in chosen if top(node) not in heavy]


def _makes(node: Node, found: Slots, value: object) -> bool:
    made: Iterable[object] = (node.outputs[slot] for slot in found.outputs)
    return any(one is value for one in made)
