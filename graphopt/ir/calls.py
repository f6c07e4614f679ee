"""Calls of model-local functions: what a call stands for."""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs

from graphopt.ir.attributes import Attrs, Opaque
from graphopt.ir.clone import clone_graph
from graphopt.ir.graph import Function, Graph
from graphopt.ir.node import Node
from graphopt.ir.values import Constant, Variable


def expansion(function: Function, call: Node) -> Graph:
    """A copy of `function` for one call of it.

    References to attributes of the function are replaced by what the call gives, or by their
    defaults, or left out; inputs that the call leaves out are left out inside.
    """
    made = clone_graph(function, {})
    given: dict[str, Any] = {name: value for name, value in function.attrs.items() if value is not None}
    given.update(call.attrs)
    for graph in made.graphs():
        for node in graph.nodes:
            _resolve(node.attrs, given)
    for index, variable in enumerate(made.inputs):
        if index >= len(call.inputs) or not call.inputs[index].name:
            for reader in list(dict.fromkeys(variable.outputs)):
                for slot, one in enumerate(reader.inputs):
                    if one is variable:
                        reader.inputs[slot] = Variable.empty()
    return made


def _resolve(attrs: Attrs, given: dict[str, Any]) -> None:
    for name, value in list(attrs.items()):
        wanted = _reference(value)
        if wanted is None:
            continue
        if wanted not in given:
            del attrs[name]
            continue
        value = given[wanted]
        attrs[name] = value.copy() if isinstance(value, Constant) else list(value) if isinstance(value, list) else value


def _reference(value: Any) -> str | None:
    """The attribute of the function that a value refers to, if it does."""
    if isinstance(value, gs.Node.AttributeRef):
        return str(value.name)
    if isinstance(value, Opaque) and value.proto.ref_attr_name:
        return str(value.proto.ref_attr_name)
    return None
