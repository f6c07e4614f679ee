"""Changing declared dims all over a model: inputs, outputs and what is said of values between them."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.ir.graph import Graph
from graphopt.ir.values import Dim, Tensor, Variable


def redeclare(root: Graph, change: Callable[[Tensor, int, Dim], Dim]) -> list[str]:
    """Let `change` say anew each dim that the main graph and its bodies declare, of tensors only.

    It is given the value, the axis, and the dim as it is. Returns the names of the values whose
    declaration changed; the journal hears of them.
    """
    changed: dict[str, None] = {}
    for graph in root.graphs():
        origin = graph.origin
        declared: dict[Tensor, None] = dict.fromkeys((*graph.inputs, *graph.outputs))
        if origin is not None:
            declared.update((tensor, None) for _, tensor in origin.infos if tensor is not None)
        for node in graph.nodes:
            declared.update((one, None) for one in node.outputs if one.name and one.__dict__.get("_info") is not None)
        for tensor in declared:
            if not isinstance(tensor, Variable) or tensor.type != "tensor_type" or tensor.shape is None:
                continue
            old = list(tensor.shape)
            new = [change(tensor, axis, dim) for axis, dim in enumerate(old)]
            if new != old:
                tensor.shape = new
                changed[tensor.name] = None
    journal = root.journal
    if changed and journal is not None:
        journal.note("values", tuple(changed), tuple(changed))
    return list(changed)
