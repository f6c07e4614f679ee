"""Who reads which value: the main graph, its bodies and its functions as one net of readers.

Only names and dims are looked at, never the payload of a large tensor, so a skeleton will do.
The net serves guesses about inputs; it never decides anything about correctness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, numpy_helper

from graphopt.errors import GraphoptError
from graphopt.ir.store import Store
from graphopt.ir.tensors import Stored
from graphopt.validation.signature import Dim, required_inputs
from graphopt.validation.values import Array

SMALL: Final = 1024  # elements; longer constants are known by their dims alone
_SAME_ELEMENTS: Final = frozenset({"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Expand"})
_SAME_SHAPE: Final = frozenset({"Identity", "Cast", "DequantizeLinear", "QuantizeLinear", "Neg", "Relu"})


@dataclass(frozen=True)
class Value:
    """A value's name in one scope. Scope 0 is the main graph."""

    scope: int
    name: str


@dataclass(frozen=True)
class Reader:
    """One operand slot of one node."""

    node: NodeProto
    slot: int
    scope: int
    bodies: tuple[int, ...] = ()

    def operand(self, slot: int) -> Value | None:
        """Another operand of the same node, None where it is absent."""
        inputs = self.node.input
        return Value(self.scope, inputs[slot]) if slot < len(inputs) and inputs[slot] else None

    def attribute(self, name: str, default: int) -> int:
        """An integer attribute of the node."""
        return next((int(each.i) for each in self.node.attribute if each.name == name), default)


class Flow:
    """The readers, producers and dims of every value of a model.

    `store` finds the constants that a skeleton does not hold itself; without it they are known by
    their dims alone.
    """

    def __init__(self, proto: onnx.ModelProto, store: Store | None = None) -> None:
        self._store = store if store is not None else Store()
        self._parents: list[int] = []
        self._makers: list[dict[str, NodeProto | TensorProto | None]] = []
        self._inputs: list[list[str]] = []
        self._readers: dict[Value, list[Reader]] = {}
        self._dims = {Value(0, each.name): each.dims for each in required_inputs(proto)}
        pending = [(self._open(-1, proto.graph), proto.graph.node)]
        self._functions: dict[tuple[str, str], int] = {}
        for function in proto.functions:
            scope = self._open_function(function)
            self._functions.setdefault((function.domain, function.name), scope)
            pending.append((scope, function.node))
        while pending:
            scope, nodes = pending.pop()
            pending.extend(self._enter(scope, list(nodes)))

    def readers(self, value: Value) -> Iterator[Reader]:
        """Every operand slot that reads `value`, in bodies too."""
        yield from self._readers.get(value, ())

    def inner(self, reader: Reader) -> Iterator[Value]:
        """The formal inputs of bodies or functions that a node hands this operand to."""
        node, slot = reader.node, reader.slot
        called = self._functions.get((node.domain, node.op_type))
        for scope in (*reader.bodies, *(() if called is None else (called,))):
            # Loop, Scan and SequenceMap hand operand i to formal input i; Loop's count stays outside
            if slot < len(self._inputs[scope]) and (node.op_type, slot) != ("Loop", 0):
                yield Value(scope, self._inputs[scope][slot])

    def dims(self, value: Value | None) -> tuple[Dim, ...] | None:
        """The dims of an input or constant, looked up through nodes that keep or permute them."""
        permutations: list[list[int]] = []
        for _ in range(64):
            if value is None:
                return None
            value = self._home(value)
            maker = self._makers[value.scope].get(value.name)
            if value in self._dims or isinstance(maker, TensorProto) or maker is None or not maker.input:
                return _permuted(self._known_dims(value, maker), permutations)
            if maker.op_type == "Transpose":
                permutations.append(next((list(each.ints) for each in maker.attribute if each.name == "perm"), []))
            elif maker.op_type not in _SAME_SHAPE:
                return None
            value = Value(value.scope, maker.input[0])
        return None

    def constant(self, value: Value | None) -> Array | None:
        """The elements of a small constant, None where it is not one.

        Looked up through nodes that reshape or repeat it: the elements are right, the shape may not be.
        """
        maker: NodeProto | TensorProto | None = None
        for _ in range(64):
            if value is None:
                return None
            value = self._home(value)
            maker = self._makers[value.scope].get(value.name)
            if not isinstance(maker, NodeProto) or maker.op_type not in _SAME_ELEMENTS or not maker.input:
                break
            value = Value(value.scope, maker.input[0])
        tensor = maker if isinstance(maker, TensorProto) else self._attribute_value(maker)
        if tensor is None or tensor.data_type == TensorProto.STRING or math.prod(tensor.dims) > SMALL:
            return None
        try:
            return Stored(tensor, self._store).load()
        except GraphoptError:  # not in the store, or malformed, which the reader of models says better
            return None

    def _open(self, parent: int, graph: onnx.GraphProto) -> int:
        makers: dict[str, NodeProto | TensorProto | None] = {each.name: None for each in graph.input}
        makers.update((tensor.name, tensor) for tensor in graph.initializer)
        for sparse in graph.sparse_initializer:
            makers[sparse.values.name] = TensorProto(
                data_type=sparse.values.data_type, dims=sparse.dims, data_location=TensorProto.EXTERNAL
            )
        return self._register(parent, makers, [each.name for each in graph.input])

    def _open_function(self, function: onnx.FunctionProto) -> int:
        return self._register(-1, dict.fromkeys(function.input), list(function.input))

    def _register(self, parent: int, makers: dict[str, NodeProto | TensorProto | None], inputs: list[str]) -> int:
        self._parents.append(parent)
        self._makers.append(makers)
        self._inputs.append(inputs)
        return len(self._parents) - 1

    def _enter(self, scope: int, nodes: list[NodeProto]) -> list[tuple[int, list[NodeProto]]]:
        """Index the nodes of a scope; returns the bodies found, opened but not indexed."""
        makers = self._makers[scope]
        for node in nodes:
            for name in node.output:
                makers[name] = node
        found: list[tuple[int, list[NodeProto]]] = []
        for node in nodes:
            bodies: list[int] = []
            for attribute in node.attribute:
                for graph in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
                    bodies.append(self._open(scope, graph))
                    found.append((bodies[-1], list(graph.node)))
            for slot, name in enumerate(node.input):
                if name:
                    reader = Reader(node, slot, scope, tuple(bodies))
                    self._readers.setdefault(self._home(Value(scope, name)), []).append(reader)
        return found

    def _home(self, value: Value) -> Value:
        """The scope that defines a name seen in another."""
        scope = value.scope
        while scope >= 0:
            if value.name in self._makers[scope]:
                return Value(scope, value.name)
            scope = self._parents[scope]
        return value

    def _known_dims(self, value: Value, maker: NodeProto | TensorProto | None) -> tuple[Dim, ...] | None:
        if value in self._dims:
            return self._dims[value]
        tensor = maker if isinstance(maker, TensorProto) else self._attribute_value(maker)
        return None if tensor is None else tuple(tensor.dims)

    @staticmethod
    def _attribute_value(node: NodeProto | TensorProto | None) -> Any:
        """The TensorProto of a Constant node, whichever attribute holds it; None for anything else."""
        if not isinstance(node, NodeProto) or node.op_type != "Constant":
            return None
        for attribute in node.attribute:
            if attribute.name == "value":
                return attribute.t
            if attribute.name == "value_int":
                return numpy_helper.from_array(np.array(attribute.i))
            if attribute.name == "value_float":
                return numpy_helper.from_array(np.array(attribute.f, np.float32))
            if attribute.name == "value_ints":
                return numpy_helper.from_array(np.array(list(attribute.ints), np.int64))
            if attribute.name == "value_floats":
                return numpy_helper.from_array(np.array(list(attribute.floats), np.float32))
        return None


def _permuted(dims: tuple[Dim, ...] | None, permutations: list[list[int]]) -> tuple[Dim, ...] | None:
    """`dims` after the Transposes met on the way to them, the last met first; an empty one reverses."""
    for perm in reversed(permutations):
        if dims is None or (perm and sorted(perm) != list(range(len(dims)))):
            return None
        dims = tuple(dims[axis] for axis in perm) if perm else dims[::-1]
    return dims
