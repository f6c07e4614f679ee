"""Every way that a pass may change a graph.

Each method keeps links, names and the journal right. Costs are in what is touched: removing a
node costs its slots, replacing a value its readers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import InternalError
from graphopt.ir.initializers import Initializers
from graphopt.ir.journal import Edit
from graphopt.ir.node import Node
from graphopt.ir.order import sorted_nodes
from graphopt.ir.shadows import shadowed
from graphopt.ir.values import Array, Constant, Tensor, Variable

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph


class Edits:
    """The editing methods of `Graph`."""

    nodes: Any
    inputs: Any
    outputs: Any
    initializers: Initializers
    defaults: dict[Variable, Constant]

    def _note(self, edit: Edit, before: Iterable[str] = (), after: Iterable[str] = ()) -> None:
        journal = self._graph.journal
        if journal is not None:
            journal.note(edit, tuple(before), tuple(after))

    @property
    def _graph(self) -> Graph:
        from typing import cast

        return cast("Graph", self)

    def fresh_name(self, stem: str) -> str:
        """A name that nothing in the model uses yet: `stem`, or `stem_N`."""
        return self._graph.names.fresh(stem)

    def variable(self, stem: str, dtype: Any = None, shape: Any = None) -> Variable:
        """A new value with a fresh name, for a new node to produce."""
        return Variable(self.fresh_name(stem), dtype, shape)

    def constant(self, values: Array, stem: str = "constant") -> Tensor:
        """Add an initializer holding `values` (any shape and dtype) and return it.

        A function has no initializers: there a Constant node is put first, and its output is
        returned.
        """
        constant = Constant(self.fresh_name(stem), np.asarray(values))
        if self._graph.is_function:
            output = Variable(constant.name, constant.dtype, constant.shape)
            constant.name = ""
            node = Node("Constant", self.fresh_name(f"{stem}_node"), {"value": constant}, [], [output])
            self.nodes.insert(0, node)
            self._note("insert", (), (output.name,))
            return output
        self.initializers.add(constant)
        self._note("constant", (), (constant.name,))
        return constant

    def set_values(self, constant: Constant, values: Array) -> None:
        """Give an initializer (or a Constant node's tensor) other values; dtype and shape may change."""
        constant.values = values
        self._note("values", (constant.name,), (constant.name,))

    def remove_initializer(self, constant: Constant) -> None:
        """Take an initializer that nobody reads out of the graph.

        Raises InternalError when it is still read.
        """
        if constant.is_read:
            raise InternalError(f"initializer {constant.name!r} cannot be removed: it is still read")
        self.initializers.discard(constant)
        self._note("drop", (constant.name,), ())

    def remove(self, node: Node) -> None:
        """Take `node`, whose outputs nobody reads, out of its graph and unlink it, bodies included.

        Raises InternalError when an output is still read.
        """
        for output in node.outputs:
            if output.name and output.is_read and len(output.inputs) == 1:
                raise InternalError(f"node {node.label!r} cannot be removed: {output.name!r} is still read")
        if node.graph is None:
            raise InternalError(f"node {node.label!r} is in no graph")
        self._note("remove", [out.name for out in node.outputs if out.name], ())
        for body in node.bodies:
            release(body)
        node.graph.nodes.discard(node)
        node.inputs.clear()
        node.outputs.clear()

    def insert(self, node: Node, *, before: Node | None = None, after: Node | None = None) -> Node:
        """Put a new node beside another one of this graph, or at the end; returns it."""
        if before is not None:
            self.nodes.put_before(before, node)
        elif after is not None:
            self.nodes.put_after(after, node)
        else:
            self.nodes.append(node)
        self._note("insert", (), [out.name for out in node.outputs if out.name])
        return node

    def append(self, node: Node) -> Node:
        """Put a new node at the end; returns it."""
        return self.insert(node)

    def rewire(self, node: Node, index: int, value: Tensor) -> None:
        """Let input slot `index` of `node` read `value`."""
        old = node.inputs[index]
        node.inputs[index] = value
        self._note("rewire", (old.name,), (value.name,))

    def why_not_replace(self, old: Tensor, new: Tensor) -> str | None:
        """Why `new` cannot stand for `old` everywhere, in a clause; None when it can.

        Outputs of graphs are in the way: they keep their names in the main graph, and must be
        made by a node of their own graph everywhere. So are bodies that read `old` and mean
        something else by the name of `new`.
        """
        places = old.graph_outputs
        if not places:
            return self._hidden(new.name, new, old.readers)
        if len(old.inputs) != 1:
            return f"{old.name!r} is a graph output that no single node makes"
        graph = places[0]
        if any(place is not graph for place in places):
            return f"{old.name!r} is an output of more than one graph"
        if isinstance(new, Constant):
            return f"{old.name!r} is a graph output and {new.name!r} an initializer"
        if not new.inputs:
            return f"{old.name!r} is a graph output and {new.name!r} an input"
        if new.inputs[0].graph is not graph:
            return f"{old.name!r} is a graph output and {new.name!r} is made in another graph"
        if new.graph_outputs:
            return f"{old.name!r} and {new.name!r} are both graph outputs"
        return self._hidden(old.name, old, new.readers)  # the name that `new` would take

    def _hidden(self, name: str, meant: Tensor, readers: Iterable[Node]) -> str | None:
        """A clause on the body where one of `readers` takes `name` for another value than `meant`."""
        if name not in self._graph.names.in_bodies:
            return None
        place = shadowed(name, meant, readers)
        return None if place is None else f"{place} has another value called {name!r}"

    def replace_uses(self, old: Tensor, new: Tensor) -> None:
        """Let everything that reads `old`, in bodies too, read `new`; graph outputs included.

        Where `old` is a graph output, `new` takes its name and its declared type, so that the
        signature stays; `old` gets the name that `new` had.

        Raises InternalError when `why_not_replace` gives a reason.
        """
        if old is new:
            return
        reason = self.why_not_replace(old, new)
        if reason is not None:
            raise InternalError(f"{old.name!r} cannot be replaced: {reason}")
        before = old.name
        for node in old.readers:
            for index, tensor in enumerate(node.inputs):
                if tensor is old:
                    node.inputs[index] = new
        if old.graph_outputs:
            self._take_over_outputs(old, new)
        self._note("replace", (before,), (new.name,))

    def _take_over_outputs(self, old: Tensor, new: Tensor) -> None:
        graph = old.graph_outputs[0]
        for index, tensor in enumerate(graph.outputs):
            if tensor is old:
                graph.outputs[index] = new
        if graph.origin is not None:
            graph.origin.move_output(old, new)
        # The declaration goes with the name: what `new` said of itself was never the signature.
        for key in ("_info", "_dtype", "_shape", "_kind"):
            new.__dict__.pop(key, None)
            if key in old.__dict__:
                new.__dict__[key] = old.__dict__[key]
        old.name, new.name = new.name, old.name

    def toposort(self) -> Graph:
        """Sort the nodes so that each comes after what it reads; nodes already in order stay.

        Bodies count as readers of what they capture. Linear (with a logarithm).
        Raises BadModel, naming a node, when there is a cycle.
        """
        graph = self._graph
        before = list(graph.nodes)
        after = sorted_nodes(graph)
        if any(a is not b for a, b in zip(before, after, strict=True)):
            list.__setitem__(graph.nodes, slice(None), after)
            self._note("order")
        return graph


def release(body: Graph) -> None:
    """Unlink every node of a body that goes away with its node, so captures are no longer read."""
    for graph in list(body.graphs()):
        for node in graph.nodes:
            node.inputs.clear()
        graph.outputs.clear()
