"""Models with other values in place of some: what a `Change` makes of a message.

The node that makes a value gives it under another name, and nodes behind it make what stands in its place under its
own, so that nothing that reads it has to be looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from graphopt.analysis.activations import Array
from graphopt.analysis.changes import Affine, Change, Replacement
from graphopt.analysis.shapes import Shapes
from graphopt.calibration.inner import Scope, Scopes, find
from graphopt.ir import Constant, Function, Graph, Tensor
from graphopt.ir.dtypes import np_dtype
from graphopt.ir.tensors import to_tensor_proto

FRESH: Final = "__graphopt_changed_"
"""What the names of values that a change adds begin with."""

_EXPANDS: Final = 8  # the opset from which on Expand is there
_BROADCASTS: Final = 7  # the opset from which on Add and Mul broadcast


class Unpatched(Exception):
    """The change cannot be tried; the text says why, in a clause."""


@dataclass
class Patcher:
    """Makes changes in copies of one message of the graph `root`."""

    root: Graph
    shapes: Shapes
    moved: dict[Tensor, int] = field(default_factory=dict)  # where what stands in place of a value is made
    _scopes: Scopes = field(init=False)

    def __post_init__(self) -> None:
        self._scopes = Scopes(self.root, self.shapes)

    def apply(self, change: Change, proto: ModelProto) -> set[str] | None:
        """Make a change in `proto`; the names of the values of the main graph that differ at first, None where
        any may. Raises Unpatched."""
        self.moved.clear()
        differ: set[str] | None = set()
        insertions = dict[Scope, list[tuple[int, list[NodeProto]]]]()
        for count, (old, new) in enumerate(change.replaced):
            graph = self._home(old)
            scope = self._scopes.scope(graph)
            where = find(proto, scope)
            place, nodes = _Replacing(self, graph, where, f"{FRESH}{count}_").run(old, new)
            if nodes:
                self.moved[old] = place
                insertions.setdefault(scope, []).append((place, nodes))
            if differ is not None and scope.is_main:
                differ.add(old.name)
            elif differ is not None and scope.function is None:
                differ.update(name for name in proto.graph.node[scope.steps[0].node].output if name)
            else:
                differ = None
        # From the inside out, and from the end: places of outer scopes and of earlier nodes stay what they are.
        for scope in sorted(insertions, key=lambda one: -len(one.steps)):
            where = find(proto, scope)
            # Of equal places the last one first.
            for place, nodes in sorted(insertions[scope], key=lambda one: one[0])[::-1]:
                for node in reversed(nodes):
                    where.node.insert(place, node)
        return differ

    def _home(self, value: Tensor) -> Graph:
        if value.inputs:
            graph: Graph | None = value.inputs[0].graph
            if graph is None or len(value.inputs) != 1:
                raise Unpatched(f"no single node of the graph makes {value.name!r}")
            return graph
        home: Graph | None = value.__dict__.get("home") if isinstance(value, Constant) else None
        if home is None:
            raise Unpatched(f"{value.name!r} is an input")
        return home


@dataclass
class _Replacing:
    """One value that is replaced, in the message `where` of `graph`."""

    patcher: Patcher
    graph: Graph
    where: GraphProto | FunctionProto
    stem: str
    nodes: list[NodeProto] = field(default_factory=list)

    def run(self, old: Tensor, new: Replacement) -> tuple[int, list[NodeProto]]:
        """Where which nodes belong in front of."""
        number = self.patcher.shapes.onnx_dtype(old)
        if not old.inputs and isinstance(new, np.ndarray):
            self._stored(old).CopyFrom(to_tensor_proto(old.name, _cast(new, number)))
            return 0, []
        was, place = self._aside(old)
        if isinstance(new, np.ndarray):
            self._broadcast(old, was, _cast(new, number))
            return place, self.nodes
        of = new.of if isinstance(new, Affine) else new
        source = was if of is old else of.name
        if of is not old:
            place = max(place, self._behind(of))
        if isinstance(new, Affine):
            source = self._affine(new, source, number)
        self._add("Identity", [source], old.name)
        return place, self.nodes

    def _aside(self, old: Tensor) -> tuple[str, int]:
        """Give the value another name; that, and the place behind its maker."""
        was = f"{self.stem}was"
        for place, node in enumerate(self.where.node):
            for slot, name in enumerate(node.output):
                if name == old.name:
                    node.output[slot] = was
                    return was, place + 1
        self._stored(old).name = was
        return was, 0

    def _stored(self, old: Tensor) -> TensorProto:
        if isinstance(self.where, GraphProto) and all(one.name != old.name for one in self.where.input):
            found: list[TensorProto] = [one for one in self.where.initializer if one.name == old.name]
            if found:
                return found[0]
        raise Unpatched(f"{old.name!r} is an input, or a sparse tensor")

    def _behind(self, value: Tensor) -> int:
        """The place from which on a value can be read."""
        if value in self.patcher.moved:
            return self.patcher.moved[value]
        makers = [node for node in value.inputs if node.graph is self.graph]
        if value.inputs and not makers and not self._sees(value.inputs[0].graph):
            raise Unpatched(f"{value.name!r} cannot be seen where the value is that it would replace")
        names = {value.name}
        found = (place for place, node in enumerate(self.where.node) if makers and names.intersection(node.output))
        return next(found, -1) + 1

    def _sees(self, outer: Graph | None) -> bool:
        graph: Any = self.graph
        while graph is not None and graph is not outer:
            if isinstance(graph, Function) or not graph.is_body:
                return False
            graph = graph.parent.graph
        return graph is not None

    def _affine(self, new: Affine, source: str, number: int) -> str:
        if self.graph.opset_of() < _BROADCASTS:
            raise Unpatched(f"operators broadcast from opset {_BROADCASTS} on only: opset{{to=13}} first")
        if new.kernel is not None:
            source = self._add("MatMul" if new.kernel.ndim == 2 else "Conv", [source, self._held(new.kernel, number)])
        if new.factors is not None:
            source = self._add("Mul", [source, self._held(new.factors, number)])
        if new.offset is not None:
            source = self._add("Add", [source, self._held(new.offset, number)])
        return source

    def _broadcast(self, old: Tensor, was: str, array: Array) -> None:
        dims = self.patcher.shapes.dims(old)
        if dims is not None and tuple(dims) == array.shape:
            self._held(array, 0, old.name)
            return
        if self.graph.opset_of() < _EXPANDS:
            raise Unpatched(f"there is no Expand before opset {_EXPANDS}: opset{{to=13}} first")
        self._add("Expand", [self._held(array, 0), self._add("Shape", [was])], old.name)

    def _held(self, array: Array, number: int, name: str = "") -> str:
        tensor = to_tensor_proto("", _cast(array, number))
        attribute = AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor)
        return self._add("Constant", [], name, [attribute])

    def _add(self, op: str, inputs: Sequence[str], output: str = "", attributes: Iterable[AttributeProto] = ()) -> str:
        name = output or f"{self.stem}{len(self.nodes)}"
        self.nodes.append(NodeProto(op_type=op, input=inputs, output=[name], attribute=attributes))
        return name


def _cast(array: Array, number: int) -> Array:
    unknown = np.dtype(np.float32) if array.dtype.kind == "f" else None  # as most likely in a function
    dtype = np_dtype(number) if number else unknown
    return array if dtype is None or array.dtype == dtype else array.astype(dtype)
