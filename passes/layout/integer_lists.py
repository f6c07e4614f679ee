"""Constant lists of integers that nodes take as an input: targets of Reshape, axes, starts, ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_node
from graphopt.analysis.file_bytes import constant_node_bytes, held_bytes, initializer_bytes
from graphopt.ir import Constant, Graph, Node, Tensor, Variable
from graphopt.ir.tensors import SparseStored
from graphopt.ir.values import Array

_LONGEST = 64
_INITIALIZERS_ALONE = 4  # the IR version from which on an initializer need not be an input

Key = tuple[int, ...]


class IntegerLists:
    """The one-dimensional int64 constants of a model, each found by its contents in its own graph."""

    def __init__(self, graph: Graph, annotations: Annotations) -> None:
        self.annotations = annotations
        self._known: dict[Graph, dict[Key, Constant]] = {}
        version = graph.root.ir_version
        self._old = isinstance(version, int) and version < _INITIALIZERS_ALONE

    def find(self, scope: Graph, values: Sequence[int]) -> Tensor | None:
        """A constant of these contents, where the graph or one around it has one."""
        place = scope
        while True:
            known = self._lists(place)
            found = known.get(tuple(values))
            if found is not None and found not in place.initializers:
                del known[tuple(values)]
            elif found is not None and (place is scope or found.name not in scope.root.names.in_bodies):
                return found
            outside = place.parent.graph if place.is_body else None
            if outside is None:
                return None
            place = outside

    def cost(self, scope: Graph, values: Sequence[int], stem: str) -> int:
        """Bytes by which the file grows when a node comes to read these."""
        if self.find(scope, values) is not None:
            return 0
        weigh = constant_node_bytes if self._as_node(scope) else initializer_bytes
        return weigh(f"{stem}_0000", [len(values)], 8 * len(values))

    def get(self, reader: Node, values: Sequence[int], stem: str) -> Tensor:
        """The constant of these contents in the graph of `reader`, made where there is none."""
        scope = reader.graph
        assert scope is not None, "a node that reads is in a graph"
        found = self.find(scope, values)
        if found is not None:
            return found
        made = self.hold(reader, np.array(values, np.int64), stem)
        if isinstance(made, Constant):
            self._lists(scope)[tuple(values)] = made
        return made

    def hold(self, reader: Node, values: Array, stem: str) -> Tensor:
        """A new constant in the graph of `reader`: an initializer where there can be one."""
        scope = reader.graph
        assert scope is not None, "a node that reads is in a graph"
        if not self._as_node(scope):
            return scope.constant(values, stem)
        output = Variable(scope.fresh_name(stem), values.dtype, list(values.shape))
        scope.insert(Node("Constant", "", {"value": Constant("", values)}, [], [output]), before=reader)
        return output

    def freed(self, tensor: Tensor, reader: Node) -> int:
        """Bytes that go when `reader` stops reading a constant."""
        return held_bytes(tensor) if self.is_freed(tensor, (reader,)) else 0

    def is_freed(self, tensor: Tensor, readers: Collection[Node]) -> bool:
        """Whether a constant is there for these readers alone."""
        return (
            len(tensor.outputs) == sum(one is tensor for node in readers for one in node.inputs)
            and not tensor.graph_outputs
            and self.annotations.needs(tensor) is None
            and (constant_node(tensor) is not None or isinstance(tensor, Constant))
        )

    def freed_with(self, readers: Collection[Node], kept: Collection[Tensor | None]) -> int:
        """Bytes of the constants that go with these nodes, those apart that are `kept` for others."""
        read = dict.fromkeys(one for node in readers for one in node.inputs[1:])
        return sum(held_bytes(one) for one in read if one not in kept and self.is_freed(one, readers))

    def drop(self, tensor: Tensor) -> None:
        """Take out a constant that nobody reads any more."""
        if tensor.is_read or self.annotations.needs(tensor) is not None:
            return
        node = constant_node(tensor)
        if node is not None and node.graph is not None:
            node.graph.remove(node)
        elif isinstance(tensor, Constant) and (home := tensor.__dict__.get("home")) is not None:
            home.remove_initializer(tensor)

    def _as_node(self, scope: Graph) -> bool:
        return self._old or scope.is_function

    def _lists(self, scope: Graph) -> dict[Key, Constant]:
        known = self._known.get(scope)
        if known is None:
            known = self._known[scope] = {}
            for one in scope.initializers:
                short = one.onnx_dtype == 7 and len(one.shape) == 1 and int(one.shape[0]) <= _LONGEST
                if short and not isinstance(one.stored, SparseStored):
                    known.setdefault(tuple(int(value) for value in one.values), one)
        return known
