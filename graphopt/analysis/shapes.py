"""Dtypes and shapes of values, inferred from the graph's inputs.

`value_info` is a claim of the exporter, not a fact: it is left out, and what ONNX's own shape
inference derives from inputs, initializers and operator schemas is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import checker, shape_inference

from graphopt.analysis import dims as sizes
from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.stand_ins import put_stand_ins
from graphopt.ir import Constant, Graph, Tensor, encode
from graphopt.ir.values import Dim, onnx_number, read_info

_REPEATERS = ("Expand", "Tile", "ConstantOfShape", "Range")
_MANY = 1 << 16  # elements
_VALUES = 64  # elements of an integer tensor up to which its values are followed

Fact = tuple[int, tuple[Dim, ...] | None]


@dataclass(frozen=True)
class Shapes:
    """What is known about values: ONNX's element type (0: unknown) and shape (None: unknown).

    A dim is an int, a str (symbolic), or None (unknown).
    """

    facts: dict[Tensor, Fact]
    _dims: dict[Tensor, tuple[sizes.Dim, ...]] = field(default_factory=dict)

    def onnx_dtype(self, tensor: Tensor) -> int:
        """ONNX's number of the element type, 0 when unknown."""
        if isinstance(tensor, Constant):
            return tensor.onnx_dtype
        return self.facts.get(tensor, (0, None))[0]

    def shape(self, tensor: Tensor) -> tuple[Dim, ...] | None:
        """The dims, None when not even the rank is known."""
        if isinstance(tensor, Constant):
            return tuple(int(dim) for dim in tensor.shape)
        return self.facts.get(tensor, (0, None))[1]

    def rank(self, tensor: Tensor) -> int | None:
        """How many dims, None when unknown."""
        shape = self.shape(tensor)
        return None if shape is None else len(shape)

    def dims(self, tensor: Tensor) -> tuple[sizes.Dim, ...] | None:
        """The dims as expressions over the symbolic dims of the model's inputs, such that `==` means
        "the same in every run"; a dim that nothing is known of is a symbol of its own. None when not
        even the rank is known."""
        known = self._dims.get(tensor)
        shape = self.shape(tensor) if known is None else None
        if shape is not None:
            known = self._dims[tensor] = tuple(
                dim if isinstance(dim, int) else sizes.symbol(dim) if dim else self._unknown(tensor, axis)
                for axis, dim in enumerate(shape)
            )
        return known

    def value(self, tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]] | None:
        """The values of a small integer tensor as expressions (see `dims`), in its shape; None when they
        are not known, or it is no integer tensor, or one of many elements."""
        held = constant_of(tensor)
        if held is not None and math.prod(int(dim) for dim in held.shape) > _VALUES:
            return None
        values = constant_values(tensor)
        if values is None or values.dtype.kind not in "iu" or values.size > _VALUES:
            return None
        return values.astype(object)

    def _unknown(self, tensor: Tensor, axis: int) -> sizes.Expr:
        return sizes.symbol(f"{tensor.name}.{axis}", serial=len(self._dims) * 64 + axis + 1)


def infer(graph: Graph) -> Shapes:
    """Infer dtypes and shapes of every value of the model that `graph` belongs to.

    Where ONNX's inference gives up on the model as a whole (it raises on contradictions), only
    what inputs and initializers declare is known.
    """
    root = graph.root
    proto = encode(root).proto
    graphs = list(_graph_protos(proto.graph))
    for one in graphs:
        del one.value_info[:]
    put_stand_ins(graphs, root.opset)
    plain = _inferred(proto, data_prop=False)
    if plain is not None:
        # Values of shape chains are only followed where that cannot build a tensor of any size.
        proto = plain if _may_explode(plain) else (_inferred(proto, data_prop=True) or plain)
    facts: dict[Tensor, Fact] = {}
    _collect(root, proto.graph, facts)
    return Shapes(facts)


def _inferred(proto: onnx.ModelProto, data_prop: bool) -> onnx.ModelProto | None:
    try:
        return shape_inference.infer_shapes(proto, data_prop=data_prop)
    except (shape_inference.InferenceError, checker.ValidationError):
        return None
    except (ValueError, RuntimeError):  # protobuf's size limit, or something else inside of onnx
        return None


def _may_explode(proto: onnx.ModelProto) -> bool:
    """Whether some node could repeat a value more often than is known to be harmless."""
    for graph in _graph_protos(proto.graph):
        sizes = {}
        for info in (*graph.value_info, *graph.output):
            _, _, shape = read_info(info)
            if shape is not None and all(isinstance(dim, int) for dim in shape):
                sizes[info.name] = math.prod(dim for dim in shape if isinstance(dim, int))
        for node in graph.node:
            if node.op_type in _REPEATERS and sizes.get(node.output[0], _MANY) >= _MANY:
                return True
    return any(node.op_type in _REPEATERS for function in proto.functions for node in function.node)


def _graph_protos(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    pending = [graph]
    while pending:
        one = pending.pop()
        yield one
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def _collect(root: Graph, proto: onnx.GraphProto, facts: dict[Tensor, Fact]) -> None:
    """Walk graph and message side by side: encoding keeps node order, so they correspond."""
    pending = [(root, proto)]
    while pending:
        graph, message = pending.pop()
        known = {}
        for info in (*message.value_info, *message.input, *message.output):
            kind, dtype, shape = read_info(info)
            if kind == "tensor_type":
                known[info.name] = (onnx_number(dtype), None if shape is None else tuple(shape))
        for node, node_message in zip(graph.nodes, message.node, strict=True):
            for tensor in node.outputs:
                if tensor.name in known:
                    facts[tensor] = known[tensor.name]
            bodies = node.bodies
            if bodies:
                messages = [a.g for a in node_message.attribute if a.HasField("g")]
                messages += [g for a in node_message.attribute for g in a.graphs]
                pending.extend(zip(bodies, messages, strict=False))
        for variable in graph.inputs:
            if variable.name in known:
                facts[variable] = known[variable.name]
