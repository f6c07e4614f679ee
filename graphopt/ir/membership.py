"""Whether a node or graph is part of a model, or was taken out (or not put in yet)."""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs


def stands(graph: Any) -> bool:
    """Whether `graph` is the main graph, a function, or a body of a node that is itself in place."""
    while True:
        holder = graph.__dict__["parent"]
        if holder is None or isinstance(holder, gs.Graph):  # a function hangs on the main graph
            return True
        graph = holder.__dict__.get("graph")
        if graph is None:
            return False


def in_place(node: Any) -> bool:
    """Whether `node` is in a node list, and its graph is part of the model."""
    graph = node.__dict__.get("graph")  # a stock node that nobody put in has none
    return graph is not None and (graph.__dict__["parent"] is None or stands(graph))
