"""Names that mean another value inside a body: a body may declare a name that its surroundings use.

ONNX allows that for the inputs and initializers of bodies and for what is made later outside. A
value that a body did not read before can then be out of its reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node
    from graphopt.ir.values import Tensor


def declared_in_bodies(root: Graph) -> set[str]:
    """Every name that a body of the model declares."""
    return set(chain.from_iterable(declared(scope) for scope in root.scopes() if scope.is_body))


def declared(scope: Graph) -> Iterator[str]:
    """The names that one graph declares itself."""
    return (tensor.name for tensor in _declarations(scope))


def _declarations(scope: Graph) -> Iterator[Tensor]:
    yield from scope.inputs
    yield from scope.initializers
    for node in scope.nodes:
        yield from node.outputs


def shadowed(name: str, meant: Tensor, readers: Iterable[Node]) -> str | None:
    """The path of a body where one of `readers` would not find `meant` under `name`; None when all do.

    Costs what the bodies around the readers hold, where any body declares the name at all.
    """
    home = declaring(meant)
    checked: set[Graph] = set()
    for node in readers:
        scope = node.graph
        while scope is not None and scope.is_body and scope not in checked and scope is not home:
            checked.add(scope)
            found = next((one for one in _declarations(scope) if one.name == name), None)
            if found is meant:
                break
            if found is not None:
                return scope.path
            scope = scope.parent.graph
    return None


def out_of_sight(tensor: Tensor, readers: Iterable[Node]) -> str | None:
    """Where one of `readers` stands outside of the body that declares `tensor`; None when none does."""
    home = declaring(tensor)
    if home is None or not home.is_body:
        return None
    for node in readers:
        scope = node.graph
        while scope is not None and scope is not home:
            scope = scope.parent.graph if scope.is_body else None
        if scope is None:
            place = node.graph.path if node.graph is not None else ""
            return f"in {place}" if place else "in the main graph"
    return None


def declaring(tensor: Tensor) -> Graph | None:
    """The graph that declares `tensor`: that of the node that makes it, or whose initializer it is.

    None for an input, which does not know its graph.
    """
    maker = next(iter(tensor.inputs), None)
    found: Graph | None = tensor.__dict__.get("home") if maker is None else maker.__dict__.get("graph")
    return found
