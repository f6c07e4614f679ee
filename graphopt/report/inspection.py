"""What a model is made of: the facts behind `graphopt inspect`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, TypeProto

from graphopt.analysis.cost import facts, macs
from graphopt.analysis.shapes import infer
from graphopt.ir import Constant, Graph
from graphopt.ir.tensors import SparseStored, Stored

FORMAT = 1  # of the JSON; raised when a field changes its meaning
_PIECE = 1 << 22  # elements that are counted together
_BEGINNING = 60  # characters of a metadata value that are kept


@dataclass(frozen=True)
class Port:
    """An input or output of the model. `default`: an input that may be left out."""

    name: str
    type: str
    default: bool = False


@dataclass(frozen=True)
class Weight:
    """One initializer, or the tensor of a Constant node. `scope` is "" in the main graph.

    `zeros` counts elements that are zero, None where that means nothing (text) or nobody asked.
    """

    name: str
    scope: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    bytes: int
    zeros: int | None
    sparse: bool


@dataclass(frozen=True)
class Dtype:
    """All weights of one element type together."""

    name: str
    tensors: int
    elements: int
    bytes: int
    zeros: int | None


@dataclass(frozen=True)
class Part:
    """A body or a function: what it is called in remarks, and how many nodes it has itself."""

    name: str
    nodes: int


@dataclass(frozen=True)
class Metadata:
    """One entry of the model's metadata: its key, and how its value begins."""

    key: str
    characters: int
    beginning: str


@dataclass(frozen=True)
class Inspection:
    """The facts of a model. Counts are of the whole model, bodies and functions included."""

    path: str | None
    bytes: int
    external: tuple[tuple[str, int], ...]
    sha256: str
    ir_version: int
    producer: str
    graph: str
    opsets: dict[str, int]
    metadata: tuple[Metadata, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    functions: tuple[Part, ...]
    bodies: tuple[Part, ...]
    nodes: int
    operators: dict[str, int]
    initializers: int
    parameters: int
    weight_bytes: int
    macs: int
    nodes_of_unknown_macs: int
    dtypes: tuple[Dtype, ...]
    weights: tuple[Weight, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`, with a `format` number. All weights are listed, the largest first."""
        return {
            "format": FORMAT,
            **dataclasses.asdict(self),
            "external": [{"location": location, "bytes": size} for location, size in self.external],
            "sparsity": self.zeros / self.countable if self.countable else 0.0,
        }

    @property
    def zeros(self) -> int:
        """Elements of weights that are zero."""
        return sum(one.zeros or 0 for one in self.dtypes)

    @property
    def countable(self) -> int:
        """Elements of weights that could be zero: all but text."""
        return sum(one.elements for one in self.dtypes if one.zeros is not None)


def inspect(graph: Graph, proto: onnx.ModelProto, *, path: str | None, size: int, external: tuple[tuple[str, int], ...],
            sha256: str) -> Inspection:  # fmt: skip
    """The facts of the model whose skeleton is `proto` and whose decoded main graph is `graph`.

    Every weight is read once and let go of. Raises BadModel where one cannot be read.
    """
    counted, work = facts(graph), macs(graph, infer(graph))
    weights = tuple(_weight(name, scope, constant) for name, scope, constant in _constants(graph))
    scopes = list(graph.scopes())
    return Inspection(
        path=path,
        bytes=size,
        external=external,
        sha256=sha256,
        ir_version=int(proto.ir_version),
        producer=" ".join(filter(None, (proto.producer_name, proto.producer_version))),
        graph=proto.graph.name,
        opsets={one.domain or "ai.onnx": int(one.version) for one in proto.opset_import},
        metadata=tuple(Metadata(m.key, len(m.value), m.value[:_BEGINNING]) for m in proto.metadata_props),
        inputs=_inputs(proto.graph),
        outputs=tuple(Port(info.name, type_text(info.type)) for info in proto.graph.output),
        functions=tuple(Part(one.path.removeprefix("function "), len(one.nodes)) for one in scopes if one.is_function),
        bodies=tuple(Part(one.path, len(one.nodes)) for one in scopes if one.is_body),
        nodes=counted.nodes,
        operators=dict(sorted(counted.operators.items(), key=lambda item: (-item[1], item[0]))),
        initializers=counted.initializers,
        parameters=counted.parameters,
        weight_bytes=counted.weight_bytes,
        macs=work.count,
        nodes_of_unknown_macs=work.unknown,
        dtypes=_by_dtype(weights),
        weights=tuple(sorted(weights, key=lambda one: (-one.bytes, one.scope, one.name))),
    )


def type_text(kind: TypeProto) -> str:
    """A declared type in one line: `float[batch,3,224,224]`, `seq(int64[?])`, `map(string,float)`."""
    which = kind.WhichOneof("value")
    if which == "tensor_type":
        return _tensor_text(kind.tensor_type)
    if which == "sparse_tensor_type":
        return f"sparse {_tensor_text(kind.sparse_tensor_type)}"
    if which == "sequence_type":
        return f"seq({type_text(kind.sequence_type.elem_type)})"
    if which == "optional_type":
        return f"optional({type_text(kind.optional_type.elem_type)})"
    if which == "map_type":
        return f"map({_element(kind.map_type.key_type)},{type_text(kind.map_type.value_type)})"
    return "undeclared"


def _tensor_text(tensor: Any) -> str:
    element = _element(tensor.elem_type)
    if not tensor.HasField("shape"):
        return element
    dims = (str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim)
    return f"{element}[{','.join(dims)}]"


def _element(number: int) -> str:
    if number in TensorProto.DataType.values():
        return str(TensorProto.DataType.Name(number)).lower()
    return f"type {number}"


def _inputs(graph: onnx.GraphProto) -> tuple[Port, ...]:
    defaults = {tensor.name for tensor in graph.initializer} | {one.values.name for one in graph.sparse_initializer}
    return tuple(Port(info.name, type_text(info.type), info.name in defaults) for info in graph.input)


def _constants(graph: Graph) -> Iterator[tuple[str, str, Constant]]:
    """Every tensor that is part of the model, once: its name, the path of its graph, the tensor."""
    for scope in graph.scopes():
        path = scope.path
        for constant in scope.initializers.declared():
            yield constant.name, path, constant
        for node in scope.nodes:
            if node.op == "Constant" and node.is_standard:
                for value in node.attrs.values():
                    if isinstance(value, Constant):
                        yield node.outputs[0].name, path, value


def _weight(name: str, scope: str, constant: Constant) -> Weight:
    stored = constant.stored
    shape = tuple(int(dim) for dim in constant.shape)
    weight = Weight(
        name,
        scope,
        _element(constant.onnx_dtype),
        shape,
        math.prod(shape),
        constant.nbytes,
        _zeros(constant, stored, math.prod(shape)),
        isinstance(stored, SparseStored),
    )
    constant.forget()
    return weight


def _zeros(constant: Constant, stored: Stored | SparseStored | None, elements: int) -> int | None:
    if constant.onnx_dtype == TensorProto.STRING:
        return None
    if isinstance(stored, SparseStored):  # never made dense: only what is listed can be other than zero
        return elements - int(np.count_nonzero(Stored(stored.proto.values, stored.store).load()))
    flat = constant.values.reshape(-1)  # in pieces: pages that were read are given back in between
    counted = sum(int(np.count_nonzero(flat[start : start + _PIECE])) for start in range(0, flat.size, _PIECE))
    return elements - counted


def _by_dtype(weights: tuple[Weight, ...]) -> tuple[Dtype, ...]:
    rows: dict[str, Dtype] = {}
    for one in weights:
        old = rows.get(one.dtype, Dtype(one.dtype, 0, 0, 0, 0))
        zeros = None if one.zeros is None or old.zeros is None else old.zeros + one.zeros
        rows[one.dtype] = Dtype(one.dtype, old.tensors + 1, old.elements + one.elements, old.bytes + one.bytes, zeros)
    return tuple(sorted(rows.values(), key=lambda row: (-row.bytes, row.name)))
