"""Every way that a pass may change a graph.

Each method keeps links, names and the journal right. Costs are in what is touched: removing a
node costs its slots, replacing a value its readers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from graphopt.errors import InternalError, UsageError
from graphopt.ir.garbage import collector_paused
from graphopt.ir.initializers import Initializers
from graphopt.ir.journal import Edit
from graphopt.ir.links import slots_of
from graphopt.ir.node import Node
from graphopt.ir.order import sorted_nodes
from graphopt.ir.shadows import out_of_sight, shadowed
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
            self.nodes.put_first(node)
            self._note("insert", (), (output.name,))
            return output
        self.initializers.add(constant)
        self._note("constant", (), (constant.name,))
        return constant

    def set_values(self, constant: Tensor, values: Array) -> None:
        """Give an initializer other values, or a Constant node's tensor; dtype and shape may change.

        Where they do, give the output of the Constant node rather than its tensor: what is declared of
        the output is then changed, too.
        """
        held = constant
        if not isinstance(constant, Constant):
            held = constant.inputs[0].attrs["value"]
            constant.dtype = None if constant.dtype is None else values.dtype
            constant.shape = None if constant.shape is None else values.shape
        held.values = values
        self._note("values", (constant.name,), (constant.name,))

    def narrow(self, value: Variable, axis: int, kept: Array) -> None:
        """Record that of the indices of `axis` (from the front) of a value only `kept` (ascending) are left.

        What computes the value is for the caller to change, and so is a declared shape of a graph output; other
        declarations of its shape are dropped. `value.kept` then says, for each such axis, which indices of the
        model as it was read these are, over all passes.
        """
        before = value.kept.get(axis)
        value.kept = {**value.kept, axis: np.asarray(kept if before is None else before[kept], np.int64)}
        if not value.graph_outputs:
            value.shape = None
        self._note("values", (value.name,), (value.name,))

    def remove_initializer(self, constant: Constant) -> None:
        """Take an initializer that nobody reads out of the graph.

        Raises InternalError when it is still read, or is not one of this graph's.
        """
        if constant.is_read:
            raise InternalError(f"initializer {constant.name!r} cannot be removed: it is still read")
        if constant not in self.initializers:
            raise InternalError(f"initializer {constant.name!r} cannot be removed: it is not one of this graph's")
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
            if body.parent is node:  # not one that a new node has taken over
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
        made by a node of their own graph everywhere. So are readers outside of the body that
        makes `new`, and bodies that read `old` and mean something else by the name of `new`.
        """
        place = out_of_sight(new, old.readers)
        if place is not None:
            return f"{new.name!r} cannot be seen {place}, where {old.name!r} is read"
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

        A node that makes `new` from `old` goes on reading `old`: so a node can be put behind a
        value. Where `old` is a graph output, `new` takes its name and its declared type, so that the
        signature stays; `old` gets the name that `new` had.

        Raises InternalError when `why_not_replace` gives a reason.
        """
        if old is new:
            return
        reason = self.why_not_replace(old, new)
        if reason is not None:
            raise InternalError(f"{old.name!r} cannot be replaced: {reason}")
        before = old.name
        makers = {id(maker) for maker in new.inputs}
        for node in {id(node): node for node in old.outputs}.values():
            slots = slots_of(node, "inputs")
            for index, tensor in enumerate(slots):
                if tensor is old and id(node) not in makers:
                    slots[index] = new
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

    def toposort(self, recurse_subgraphs: bool = True, recurse_functions: bool = True, mode: str = "full") -> Graph:
        """Sort the nodes so that each comes after what it reads; nodes already in order stay.

        Bodies are sorted too, and functions when this is the main graph; bodies count as readers
        of what they capture. The order of functions means nothing to ONNX and is left as it is,
        so with mode "functions" there is nothing to do. Linear (with a logarithm).

        Raises BadModel, naming a node, when there is a cycle; UsageError for another mode.
        """
        if mode not in ("full", "nodes", "functions"):
            raise UsageError(f"toposort() has the modes full, nodes and functions, not {mode!r}")
        graph = self._graph
        if mode == "functions":
            return graph
        tops = [graph, *(graph.functions if recurse_functions and graph.root is graph else ())]
        with collector_paused():
            for one in [inner for top in tops for inner in (top.graphs() if recurse_subgraphs else (top,))]:
                after = sorted_nodes(one)
                if after is not None:
                    one.nodes.arrange(after)
                    self._note("order")
        return graph


def release(body: Graph) -> None:
    """Unlink every node of a body that goes away with its node, so captures are no longer read."""
    for graph in list(body.graphs()):
        for node in graph.nodes:
            node.inputs.clear()
        graph.outputs.clear()
