"""The edit behind folding: a value that is computed becomes one that is stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.liveness import Effects, is_unread
from graphopt.ir import Constant, Graph, Node, Tensor, Variable
from graphopt.ir.dtypes import Array


def fold(node: Node, stored: Mapping[Tensor, Array], as_nodes: Collection[Tensor], annotations: Annotations) -> None:
    """Store outputs of `node`, under their names, and take out what that leaves unread.

    The other outputs are read by nobody. Those in `as_nodes` become Constant nodes, the others
    initializers. With the node go its makers, as far as nobody else reads them, and the initializers
    that only these read; all of them compute from constants, so they can have no effects.
    """
    store(node, stored, as_nodes)
    sweep(node, annotations)


def store(node: Node, stored: Mapping[Tensor, Array], as_nodes: Collection[Tensor]) -> None:
    """Make outputs of `node` initializers of the same names, or Constant nodes where they are in `as_nodes`;
    the node stays, and gives something nobody reads."""
    scope = node.graph
    assert scope is not None, "a node that is folded is in a graph"
    for tensor, values in stored.items():
        place = next(index for index, one in enumerate(node.outputs) if one is tensor)
        # A slot of many is not left empty: where the node stays after all, its operator may want every one.
        node.outputs[place] = Variable.empty() if len(node.outputs) == 1 else scope.variable(tensor.name)
        if tensor in as_nodes:
            held = Constant(tensor.name, values)
            scope.set_values(held, values)  # tells provenance that the name stands for what it stood for
            held.name = ""
            scope.insert(Node("Constant", "", {"value": held}, [], [tensor]), before=node)
        elif isinstance(tensor, Variable):
            constant = tensor.to_constant(values)
            scope.initializers.add(constant)
            scope.set_values(constant, values)


def sweep(node: Node, annotations: Annotations, effects: Effects | None = None) -> None:
    """Remove `node` if nobody reads it, and then what it alone read; with `effects`, only nodes that
    have none."""
    pending = [node]
    while pending:
        last = pending.pop()
        if last.graph is None or not is_unread(last):
            continue
        if any(annotations.needs(output) is not None for output in last.outputs):
            continue
        if effects is not None and effects.of(last) is not None:
            continue
        freed = list(dict.fromkeys(last.inputs))
        last.graph.remove(last)
        for tensor in freed:
            pending.extend(tensor.inputs)
            home: Graph | None = tensor.__dict__.get("home")
            if not isinstance(tensor, Constant) or home is None or tensor.is_read:
                continue
            if annotations.needs(tensor) is None:
                home.remove_initializer(tensor)
