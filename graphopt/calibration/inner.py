"""Values inside of bodies and functions, led out to the main graph as outputs of the nodes that hold them.

A Loop or Scan gives a value of its body as one more scan output: once for each round, stacked. A branch of an
If gives it as one more output, for which the other branch gives an empty tensor of the same type and rank. A
function gives it as one more output of every node that calls it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from graphopt.analysis.activations import Array
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Function, Graph, Node, Tensor

_END: Final = "\0"
_FRESH: Final = "__graphopt_inner_"
_SCANS: Final = 9  # the opset from which Scan has no batch
_UNIONS: Final = 11  # the opset from which the branches of an If may give different shapes


@dataclass(frozen=True)
class Step:
    """From a scope into one inside it: the node's position, its attribute, and which graph of that."""

    node: int
    attribute: str
    index: int = 0


@dataclass(frozen=True)
class Scope:
    """The main graph, or a function by its position; then bodies, from the outside in."""

    function: int | None = None
    steps: tuple[Step, ...] = ()

    @property
    def is_main(self) -> bool:
        return self.function is None and not self.steps


MAIN: Final = Scope()


@dataclass(frozen=True)
class Inner:
    """A value in a body or function. `formal`: it is an input of that; `dtype` (ONNX's number, most likely a
    float's) and `rank` are None where they are not known."""

    scope: Scope
    name: str
    formal: bool
    dtype: int | None
    rank: int | None

    @property
    def key(self) -> str:
        """A name that tells it from every other value, in words."""
        where = "" if self.scope.function is None else f"function {self.scope.function} "
        steps = "/".join(f"{one.node}.{one.attribute}[{one.index}]" for one in self.scope.steps)
        return f"{where}{steps}{_END}{self.name}"


def body_of(name: str) -> str:
    """Of a value by its key, the body or function that it is in; "" for one of the main graph."""
    return name.rpartition(_END)[0]


@dataclass(frozen=True)
class Tap:
    """An output of the node at a position of the main graph that gives a value; `loops` are stacked in front of
    it, `scalar`: it was given one axis. `shape`: it was made flat, and that is the output that gives its shape."""

    name: str
    node: int
    loops: int = 0
    scalar: bool = False
    shape: str = ""

    def each(self, array: Array, shapes: Array | None = None) -> Iterator[Array]:
        """The value, once for each time that it was computed; with the `shapes` that it had where it was made flat."""
        if shapes is not None:
            count = math.prod(array.shape[: self.loops])
            flat, known = array.reshape(count, array.shape[-1]), shapes.reshape(count, shapes.shape[-1])
            for one, dims in zip(flat, known, strict=True):
                yield one.reshape(dims.tolist()) if math.prod(dims.tolist()) == one.size else one
            return
        shape = array.shape[self.loops :]
        for one in array.reshape(math.prod(array.shape[: self.loops]), *shape):
            yield one.reshape(shape[:-1]) if self.scalar and one.size else one


class Hidden(Exception):
    """The value cannot be led out; the text says why, in a clause."""


class Scopes:
    """Finds values of a graph in its message (of the graph as `encode` wrote it)."""

    def __init__(self, root: Graph, shapes: Shapes) -> None:
        self._root, self._shapes = root, shapes
        self._known: dict[Graph, Scope] = {root: MAIN}
        self._formals: dict[Tensor, Graph] = {}
        for graph in root.scopes():
            if graph is not root:
                self._formals.update((one, graph) for one in graph.inputs)
        self._places: dict[Graph, dict[Node, int]] = {}

    def of(self, value: Tensor) -> Inner | None:
        """Where a value is; None for one of the main graph."""
        made = [node.graph for node in value.inputs]
        graph = made[0] if made else self._formals.get(value)
        if graph is None or graph is self._root:
            return None
        scope = self.scope(graph)
        dtype, rank = self._shapes.onnx_dtype(value) or None, self._shapes.rank(value)
        return Inner(scope, value.name, not made, dtype, rank)

    def scope(self, graph: Graph) -> Scope:
        """Where a graph of the model is."""
        if graph not in self._known:
            if isinstance(graph, Function):
                self._known[graph] = Scope(self._root.functions.index(graph))
            else:
                node: Node = graph.parent
                assert node.graph is not None, "a body belongs to a node of a graph"
                outer = self.scope(node.graph)
                step = self._step(node.graph, node, graph)
                self._known[graph] = Scope(outer.function, (*outer.steps, step))
        return self._known[graph]

    def _step(self, outer: Graph, node: Node, graph: Graph) -> Step:
        if outer not in self._places:
            self._places[outer] = {one: place for place, one in enumerate(outer.nodes.snapshot())}
        places = self._places[outer]
        for name, held in node.attrs.items():
            graphs: list[Any] = held if isinstance(held, list) else [held]
            for index, one in enumerate(graphs):
                if one is graph:
                    return Step(places[node], name, index)
        raise LookupError(f"no attribute of {node.label} is {graph.path}")


class Leading:
    """Leads values of one message out, in place."""

    def __init__(self, proto: ModelProto) -> None:
        self._proto = proto
        self._count = 0
        self._opset = next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 1)

    def out(self, value: Inner) -> list[Tap]:
        """The outputs of nodes of the main graph that give a value. Raises Hidden where there can be none."""
        name, nodes = value.name, _nodes(self._find(value.scope))
        if value.formal:
            name = self._fresh()
            nodes.append(NodeProto(op_type="Identity", input=[value.name], output=[name]))
        if value.rank is not None or not self._in_branch(value.scope):
            return list(self._lead(value.scope, name, value, 0, False))
        flat, shape, all_of_it = self._fresh(), self._fresh(), self._fresh()
        nodes.append(_constant(all_of_it, np.asarray([-1], np.int64)))
        nodes.append(NodeProto(op_type="Reshape", input=[name, all_of_it], output=[flat]))
        nodes.append(NodeProto(op_type="Shape", input=[name], output=[shape]))
        shapes = self._lead(value.scope, shape, replace(value, dtype=TensorProto.INT64, rank=1), 0, False)
        values = self._lead(value.scope, flat, replace(value, rank=1), 0, False)
        return [replace(one, shape=other.name) for one, other in zip(values, shapes, strict=True)]

    def _in_branch(self, scope: Scope) -> bool:
        """Whether a scope is in a branch of an If, or may be."""
        outer = [Scope(scope.function, scope.steps[:depth]) for depth in range(len(scope.steps))]
        held = zip(outer, scope.steps, strict=True)
        nodes = (_nodes(self._find(one))[step.node] for one, step in held)
        return scope.function is not None or any(node.op_type == "If" for node in nodes)

    def _lead(self, scope: Scope, name: str, value: Inner, loops: int, scalar: bool) -> Iterator[Tap]:
        inside = self._find(scope)
        if scope.steps:
            step, outer = scope.steps[-1], Scope(scope.function, scope.steps[:-1])
            node = _nodes(self._find(outer))[step.node]
            assert isinstance(inside, GraphProto)
            if any(one.name == name for one in inside.output):
                name, given = self._fresh(), name
                inside.node.append(NodeProto(op_type="Identity", input=[given], output=[name]))
            if node.op_type == "If":
                others = [one.g for one in node.attribute if one.HasField("g") and one.name != step.attribute]
                name, scalar = self._from_branch(others, inside, name, value, loops, scalar)
            elif node.op_type == "Scan" and self._opset < _SCANS:
                raise Hidden(
                    f"it is inside of a Scan of an opset before {_SCANS}, which has a batch: opset{{to=13}} first"
                )
            elif node.op_type in ("Loop", "Scan"):
                loops += 1
                _scanned(node)
            else:
                raise Hidden(f"it is inside of {node.op_type}, which gives nothing but its outputs")
            inside.output.add(name=name)
            yield from self._given(node, step.node, len(inside.output), outer, value, loops, scalar)
            return
        assert isinstance(inside, FunctionProto)
        if name not in inside.output:
            inside.output.append(name)
        at = list(inside.output).index(name) + 1
        calls = list(_calls(self._proto, inside))
        if not calls:
            raise Hidden("nothing calls the function that it is in")
        for where, place in calls:
            node = _nodes(self._find(where))[place]
            yield from self._given(node, place, at, where, value, loops, scalar)

    def _given(
        self, node: NodeProto, place: int, count: int, outer: Scope, value: Inner, loops: int, scalar: bool
    ) -> Iterator[Tap]:
        """The last of `count` outputs of a node, led on."""
        if node.op_type == "Loop" and not node.domain:
            count -= 1  # its body gives the condition too
        while len(node.output) < count:
            node.output.append(self._fresh())
        if not node.output[count - 1]:
            node.output[count - 1] = self._fresh()
        name = node.output[count - 1]
        if outer.is_main:
            yield Tap(name, place, loops, scalar)
        else:
            yield from self._lead(outer, name, value, loops, scalar)

    def _from_branch(
        self, others: Sequence[GraphProto], inside: GraphProto, name: str, value: Inner, loops: int, scalar: bool
    ) -> tuple[str, bool]:
        """Let the other branch give an empty tensor; the name to give in this one, and whether it has an axis more."""
        if self._opset < _UNIONS:
            raise Hidden(f"it is in a branch, which can only be empty from opset {_UNIONS} on: opset{{to=13}} first")
        assert value.rank is not None, "what has no known rank was made flat"
        rank = value.rank + loops
        if rank + scalar == 0:
            shape, with_axis = self._fresh(), self._fresh()
            inside.node.append(_constant(shape, np.asarray([1], np.int64)))
            inside.node.append(NodeProto(op_type="Reshape", input=[name, shape], output=[with_axis]))
            name, scalar = with_axis, True
        for other in others:
            empty = TensorProto(data_type=value.dtype or TensorProto.FLOAT, dims=[0] * (rank + scalar))
            attribute = AttributeProto(name="value", type=AttributeProto.TENSOR, t=empty)
            other.output.add(name=self._fresh())
            made = other.output[-1].name
            other.node.append(NodeProto(op_type="Constant", output=[made], attribute=[attribute]))
        return name, scalar

    def _find(self, scope: Scope) -> GraphProto | FunctionProto:
        return find(self._proto, scope)

    def _fresh(self) -> str:
        self._count += 1
        return f"{_FRESH}{self._count}"


def find(proto: ModelProto, scope: Scope) -> GraphProto | FunctionProto:
    """The message of a scope."""
    found: GraphProto | FunctionProto = proto.graph if scope.function is None else proto.functions[scope.function]
    for step in scope.steps:
        found = _body(_nodes(found)[step.node], step)
    return found


def _nodes(scope: GraphProto | FunctionProto) -> Any:
    return scope.node


def _body(node: NodeProto, step: Step) -> GraphProto:
    attribute = next(one for one in node.attribute if one.name == step.attribute)
    body: GraphProto = attribute.g if attribute.type == AttributeProto.GRAPH else attribute.graphs[step.index]
    return body


def _scanned(node: NodeProto) -> None:
    """A Scan that says how its outputs are stacked says it of one more."""
    for one in node.attribute:
        if one.name in ("scan_output_axes", "scan_output_directions"):
            one.ints.append(0)


def _calls(proto: ModelProto, function: FunctionProto) -> Iterator[tuple[Scope, int]]:
    """Every node that calls a function."""
    scopes: list[tuple[Scope, Any]] = [(MAIN, proto.graph)]
    scopes += [(Scope(index), one) for index, one in enumerate(proto.functions)]
    while scopes:
        scope, graph = scopes.pop()
        for place, node in enumerate(graph.node):
            called = (node.domain, node.op_type, node.overload)
            if called == (function.domain, function.name, function.overload):
                yield scope, place
            for one in node.attribute:
                bodies: Sequence[GraphProto] = [one.g] if one.type == AttributeProto.GRAPH else one.graphs
                for index, body in enumerate(bodies):
                    scopes.append((Scope(scope.function, (*scope.steps, Step(place, one.name, index))), body))


def _constant(name: str, array: Array) -> NodeProto:
    tensor = onnx.numpy_helper.from_array(array)
    attribute = AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor)
    return NodeProto(op_type="Constant", output=[name], attribute=[attribute])
