"""Whether a graph's objects agree with each other: links both ways, owners, names, scopes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from graphopt.ir import Constant, Graph, Node, Tensor, Variable
from graphopt.testing.breach import LawBroken


def check_links(graph: Graph) -> None:
    """Check the whole model that `graph` belongs to.

    A node belongs to the graph that lists it and a body to its node; every slot is known to its
    tensor and every use to its node; no tensor is used by a node that has left the model; a value
    has one maker; an initializer knows the graph that declares it; names are unique in each
    scope; and what is read is what its name means in the place where it is read.

    Raises LawBroken, which names the first thing that does not agree.
    """
    fault = next(_faults(graph.root), None)
    if fault is not None:
        raise LawBroken("links", f"the links of the graph disagree: {fault}")


def _faults(root: Graph) -> Iterator[str]:
    scopes = list(root.scopes())
    nodes = {node: scope for scope in scopes for node in scope.nodes}
    for scope in scopes:
        yield from _owners(scope)
        yield from _names(scope)
    for tensor in _tensors(scopes):
        yield from _uses(tensor, nodes, set(scopes))
    for top in (root, *root.functions):
        yield from _visible(top)


def _where(scope: Graph) -> str:
    return f"in {scope.path}" if scope.path else "in the main graph"


def _owners(scope: Graph) -> Iterator[str]:
    for node in scope.nodes:
        for body in node.bodies:
            if body.parent is not node:
                yield f"a body of node {node.label!r} {_where(scope)} does not know its node"
    for constant in scope.initializers.declared():
        if constant.__dict__.get("home") is not scope:
            yield f"initializer {constant.name!r} {_where(scope)} believes to be declared elsewhere"
    for variable in scope.defaults:
        if not scope.is_input(variable):
            yield f"the default of {variable.name!r} {_where(scope)} is of no input"


def _names(scope: Graph) -> Iterator[str]:
    made: list[Tensor] = [*scope.inputs, *scope.initializers]
    made += [output for node in scope.nodes for output in node.outputs if output.name]
    seen: dict[str, Tensor] = {}
    for tensor in made:
        if tensor.name in seen:
            yield f"{tensor.name!r} is declared twice {_where(scope)}"
        seen[tensor.name] = tensor
        if not tensor.name:
            yield f"an input or initializer {_where(scope)} has no name"


def _tensors(scopes: Iterable[Graph]) -> dict[Tensor, None]:
    found: dict[Tensor, None] = {}
    for scope in scopes:
        found.update(dict.fromkeys((*scope.inputs, *scope.outputs, *scope.initializers.declared())))
        for node in scope.nodes:
            found.update(dict.fromkeys((*node.inputs, *node.outputs)))
    return found


def _uses(tensor: Tensor, nodes: dict[Node, Graph], scopes: set[Graph]) -> Iterator[str]:
    for side, uses in (("reads", tensor.outputs), ("makes", tensor.inputs)):
        for node, count in Counter(uses).items():
            slots = node.inputs if side == "reads" else node.outputs
            if node not in nodes:
                yield f"{tensor.name!r} lists node {node.op!r}, which is in no graph, as one that {side} it"
            elif sum(one is tensor for one in slots) != count:
                yield f"{tensor.name!r} and node {node.label!r} disagree on how often it {side} it"
    if len(tensor.inputs) > 1:
        yield f"{tensor.name!r} is made by {len(tensor.inputs)} nodes"
    if tensor.inputs and isinstance(tensor, Constant):
        yield f"the initializer {tensor.name!r} is made by a node"
    for graph, count in Counter(tensor.graph_outputs).items():
        if graph not in scopes:
            yield f"{tensor.name!r} believes to be an output of a graph that is not in the model"
        elif sum(one is tensor for one in graph.outputs) != count:
            yield f"{tensor.name!r} and its graph disagree on how often it is an output"


def _visible(top: Graph) -> Iterator[str]:
    """Slots known to their tensors, and names that mean, where they are read, what is read."""
    uses: dict[Tensor, tuple[set[Node], set[Node]]] = {}
    pending: list[tuple[Graph, tuple[dict[str, Tensor], ...]]] = [(top, (_declared(top),))]
    while pending:
        scope, around = pending.pop()
        for node in scope.nodes:
            for tensor in (*node.inputs, *node.outputs):
                if tensor not in uses:
                    uses[tensor] = (set(tensor.outputs), set(tensor.inputs))
            for tensor in node.outputs:
                if node not in uses[tensor][1]:
                    yield f"{tensor.name!r} does not know that node {node.label!r} makes it"
            for tensor in node.inputs:
                if node not in uses[tensor][0]:
                    yield f"{tensor.name!r} does not know that node {node.label!r} reads it"
                yield from _found(tensor, around, f"node {node.label!r} {_where(scope)}")
            pending.extend((body, (*around, _declared(body))) for body in node.bodies)
        for tensor in scope.outputs:
            if not any(graph is scope for graph in tensor.graph_outputs):
                yield f"{tensor.name!r} does not know that it is an output {_where(scope)}"
            yield from _found(tensor, around, f"an output {_where(scope)}")


def _declared(scope: Graph) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {one.name: one for one in (*scope.inputs, *scope.initializers)}
    found.update((one.name, one) for node in scope.nodes for one in node.outputs)
    return found


def _found(tensor: Tensor, around: tuple[dict[str, Tensor], ...], reader: str) -> Iterator[str]:
    if not tensor.name and isinstance(tensor, Variable):
        return  # a slot that is left out
    meant = next((names[tensor.name] for names in reversed(around) if tensor.name in names), None)
    if meant is None:
        yield f"{tensor.name!r}, read by {reader}, is neither made, nor an input, nor an initializer in its sight"
    elif meant is not tensor:
        yield f"{reader} reads a value called {tensor.name!r}, but that name means another one there"
