"""Settling what scripts may leave loose: constants that nobody declares, inputs and functions of
stock graphsurgeon, functions that came with a body."""

from __future__ import annotations

from typing import Any

from graphopt.ir.links import uses_of
from graphopt.ir.node import Node
from graphopt.ir.shadows import declared
from graphopt.ir.values import Constant, Tensor, Variable


def settle(root: Any) -> None:
    """Make the whole model that `root` is the main graph of complete in itself.

    A constant that is read where no graph declares it (it is new, or came with nodes from a body
    or from another model) becomes an initializer of the main graph; inside a function, the output
    of a Constant node. Its name is kept unless it is somebody else's.
    """
    _gather_functions(root)
    for top in (root, *root.functions):
        loose: dict[Constant, None] = {}
        for graph in top.graphs():
            for tensor in graph.inputs:
                uses_of(tensor, "inputs")  # a stock tensor becomes ours
            for node in graph.nodes.snapshot():
                for tensor in node.__dict__["inputs"]:
                    if isinstance(tensor, Constant) and not _in_sight(tensor, graph):
                        loose[tensor] = None
            for tensor in graph.outputs:
                if isinstance(tensor, Constant) and not _in_sight(tensor, graph):
                    loose[tensor] = None
        if loose:
            _declare(top, loose)


def _gather_functions(root: Any) -> None:
    known = {function.unique_id for function in root.functions}
    for graph in list(root.scopes()):
        own: list[Any] = graph.__dict__["_functions"]
        if graph is not root and own:
            found, own[:] = list(own), []
            for function in found:
                if function.unique_id not in known:
                    known.add(function.unique_id)
                    root.functions.append(function)


def _in_sight(constant: Constant, graph: Any) -> bool:
    """Whether `graph`, or one around it, declares `constant`."""
    home = constant.__dict__.get("home")
    scope = graph
    while home is not None:
        if scope is home:
            return True
        if not isinstance(scope.parent, Node) or scope.parent.graph is None:
            return False
        scope = scope.parent.graph
    return bool(constant.__dict__["inputs"])  # some node makes it: not valid, but nothing to declare


def _declare(top: Any, loose: dict[Constant, None]) -> None:
    taken = {name for graph in top.graphs() for name in declared(graph)}
    for constant in loose:
        name, home = constant.name, constant.__dict__.get("home")
        if not name or name in taken:
            name = top.fresh_name(name or "constant")
        taken.add(name)
        if top.is_function:
            _make(top, constant, name)
            continue
        if home is not None:
            home.initializers.discard(constant)
        if constant.name != name:
            constant.name = name
        top.initializers.add(constant)


def _make(function: Any, constant: Constant, name: str) -> None:
    """Let a Constant node of `function` make what it reads of `constant`."""
    output = Variable(name, constant.export_dtype, constant.shape)
    inside = set(function.graphs())
    for reader in constant.readers:
        if reader.graph in inside:
            _exchange(reader.inputs, constant, output)
    for graph in dict.fromkeys(constant.graph_outputs):
        if graph in inside:
            _exchange(graph.outputs, constant, output)
    value = constant.copy()
    value.name = ""
    function.nodes.put_first(Node("Constant", "", {"value": value}, [], [output]))


def _exchange(tensors: list[Any], old: Tensor, new: Tensor) -> None:
    for index, tensor in enumerate(tensors):
        if tensor is old:
            tensors[index] = new
