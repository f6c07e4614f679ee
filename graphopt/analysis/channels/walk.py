"""One walk over the nodes of a graph: each operator's rule says what it does to labels."""

from __future__ import annotations

from graphopt.analysis.channels.flow import Flow, named
from graphopt.analysis.channels.rules import rule_of
from graphopt.analysis.channels.sizes import read, track
from graphopt.analysis.constants import constant_of
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node


def walk(graph: Graph, shapes: Shapes) -> Flow:
    """What is known of the axes of all values of one graph."""
    flow = Flow(graph, shapes, frozenset((one.domain, one.name) for one in graph.root.functions))
    place = f"an input of {graph.path}" if graph.path else "a graph input"
    for tensor in graph.inputs:
        if tensor not in graph.defaults:
            flow.fix(tensor, f"{tensor.name!r} is {place}")
    for node in graph.nodes:
        flow.node = node
        _visit(node, flow)
    flow.node = None
    place = f"an output of {graph.path}" if graph.path else "a graph output"
    for tensor in graph.outputs:
        flow.bar_all(tensor, f"{tensor.name!r} is {place}")
        read(tensor, flow, f"its size is in {tensor.name!r}, {place}")
    return flow


def _visit(node: Node, flow: Flow) -> None:
    if node.is_op("Constant"):
        if constant_of(node.outputs[0]) is None:
            flow.fix(node.outputs[0], f"{node.outputs[0].name!r} is a constant that is no dense tensor")
        return
    given = [tensor for tensor in node.inputs if tensor.name]
    for tensor in given:
        flow.axes(tensor)
    if node.bodies:
        _capture(node, flow)
    track(node, flow)
    rule = rule_of(node, flow)
    if rule is None:
        flow.stop(node, f"{named(node)} is no operator whose channels are understood")
        return
    if given and flow.stored.issuperset(given):
        flow.stored.update(tensor for tensor in node.outputs if tensor.name)
    why = rule(node, flow)
    if why is not None:
        flow.stop(node, f"{named(node)} {why}")
        for tensor in given:
            read(tensor, flow, f"{named(node)} {why}")


def _capture(node: Node, flow: Flow) -> None:
    """What bodies read of this graph stays."""
    for body in node.subgraphs(recursive=True):
        why = f"{named(node)} reads it in a body"
        for inner in body.nodes:
            for tensor in inner.inputs:
                if tensor in flow.known:
                    flow.bar_all(tensor, why)
                    read(tensor, flow, why)
        for tensor in body.outputs:
            if tensor in flow.known:
                flow.bar_all(tensor, why)
                read(tensor, flow, why)
