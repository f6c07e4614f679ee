"""Names that mean another value inside a body: a body may declare a name that its surroundings use.

ONNX allows that for the inputs and initializers of bodies and for what is made later outside. A
value that a body did not read before can then be out of its reach.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node
    from graphopt.ir.values import Tensor


def declared_in_bodies(root: Graph) -> set[str]:
    """Every name that a body of the model declares."""
    return {
        tensor.name
        for scope in root.scopes()
        if scope.is_body
        for tensors in (scope.inputs, scope.initializers, *(node.outputs for node in scope.nodes))
        for tensor in tensors
    }


def shadowed(name: str, meant: Tensor, readers: Iterable[Node]) -> str | None:
    """The path of a body where one of `readers` would not find `meant` under `name`; None when all do.

    Costs what the bodies around the readers hold, where any body declares the name at all.
    """
    checked: set[Graph] = set()
    for node in readers:
        scope = node.graph
        while scope is not None and scope.is_body and scope not in checked:
            checked.add(scope)
            found = _declared(scope, name)
            if found is meant:
                break
            if found is not None:
                return scope.path
            scope = scope.parent.graph
    return None


def _declared(scope: Graph, name: str) -> Tensor | None:
    for tensors in (scope.inputs, scope.initializers, *(node.outputs for node in scope.nodes)):
        for tensor in tensors:
            if tensor.name == name:
                found: Tensor = tensor
                return found
    return None
