"""Keep weights in 16 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import ml_dtypes
import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.storable import constant_node_holds
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.shelf import scratch
from graphopt.ir.tensors import SparseStored
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.slabs import flat_blocks

RULE = "store-half"

_DTYPES: dict[str, tuple[np.dtype[Any], int]] = {
    "float16": (np.dtype(np.float16), 10),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), 16),
}
_FLOAT = 1
_OPSETS = {"float16": 6, "bfloat16": 13}  # from which Cast knows the type, named by a number
_INITIALIZERS = 4  # the IR version in which initializers need not be graph inputs


@dataclass(frozen=True, eq=False)
class _Stored:
    """A stored tensor: what nodes read, its values, where it belongs, and the Constant node, if one holds it."""

    tensor: Tensor
    constant: Constant
    home: Graph
    holder: Node | None

    @property
    def subject(self) -> Node | Tensor:
        return self.constant if self.holder is None else self.holder


@dataclass(frozen=True)
class WeightHalf(Pass):
    """Keep float32 tensors as float16 or bfloat16: half the file, and the same kernels.

    What it does
        Every stored float32 tensor of at least min-elements elements is rounded to 16 bits, to nearest,
        ties to even, and read through a Cast back to float32: the model computes in float32 as before,
        with weights that are at most 2^-11 (float16) or 2^-8 (bfloat16) of themselves off. Weights,
        biases, tables, position embeddings; initializers and Constant nodes, in bodies and functions.
        Where only Gather nodes look rows up in a tensor, they look up 16-bit rows, and these are cast.

    Example
        before: y = Conv(x, w)                            w: float[64,64,3,3]
        after:  w_float = Cast<to=FLOAT>(w_float16)       w_float16: float16[64,64,3,3]
                y = Conv(x, w_float)

    When not
        Left, with the reason: tensors that callers may override, graph outputs, tensors with values
        beyond float16's 65504 (bfloat16 has float32's range), NaN or infinities, those that something
        quantizes already. Cast to float16 needs opset 6, to bfloat16 opset 13.

        The file halves; time does not: runtimes that fold constants when they load a model
        (onnxruntime does) run exactly the float32 kernels, and need their memory. For computing in 16
        bits, on hardware that has it, there is the pass half-precision.

    Contract
        LOSSY: needs a budget. Measured on trained models, float16 keeps about 60 to 70 dB, bfloat16
        40 to 50 dB. Cost: one pass over the weights.

    Source
        IEEE 754-2008, binary16. ONNX operator Cast (6, 9, 13, 19 ...).
    """

    name = "weight-half"
    contract = Contract.LOSSY

    to: Literal["float16", "bfloat16"] = option("float16", "the type to store")
    min_elements: int = option(256, "leave smaller tensors as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of tensors and nodes to leave as they are")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        order = {node: place for scope in graph.scopes() for place, node in enumerate(scope.nodes)}
        for one in list(_stored(graph)):
            if not one.tensor.is_read or one.constant.onnx_dtype != _FLOAT or _elements(one) < self.min_elements:
                continue
            why = self._why_not(one, annotations)
            if why is None:
                why = self._halve(one, ctx, order)
            one.constant.forget()
            if why is not None:
                ctx.missed(RULE, one.subject, why)

    def _why_not(self, one: _Stored, annotations: Annotations) -> str | None:
        version = one.home.root.ir_version
        if version is not None and version < _INITIALIZERS:
            return f"the model has IR version {version}, where every initializer is an input"
        least = _OPSETS[self.to]
        if one.home.opset_of() < least:
            return f"Cast to {self.to} needs opset {least}: raise it with opset{{to={least}}} first"
        if one.home.is_function and not constant_node_holds(_DTYPES[self.to][1], one.home.opset_of()):
            return f"the Constant of opset {one.home.opset_of()} cannot hold {self.to}"
        if one.tensor is not one.constant and one.holder is None:
            return "it is also a graph input, whose value callers may give"
        if one.tensor.graph_outputs:
            return "it is an output of a graph"
        readers = one.tensor.readers
        names = (one.tensor.name, *(node.label for node in readers))
        pattern = next((p for p in self.skip if any(fnmatchcase(name, p) for name in names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if any(node.is_op("QuantizeLinear", "DequantizeLinear") for node in readers):
            return "it is quantized already, or a scale"
        if isinstance(one.constant.stored, SparseStored):
            return "it is stored sparse"
        return annotations.about(one.tensor)

    def _halve(self, one: _Stored, ctx: Context, order: Mapping[Node, int]) -> str | None:
        dtype = _DTYPES[self.to][0]
        values = one.constant.values
        halved = scratch(values.shape, dtype)
        flat, peak, beyond = halved.reshape(-1), 0.0, False
        for place, part in flat_blocks(values):
            if not np.isfinite(part).all():
                return "it has a NaN or an infinity"
            peak = max(peak, float(np.abs(part).max(initial=0.0)))
            with np.errstate(over="ignore"):
                flat[place] = part.astype(dtype)
            beyond = beyond or not np.isfinite(flat[place].astype(np.float32)).all()
        if beyond:
            return f"it has a value of magnitude {peak:.3g}, beyond what {self.to} can hold"
        if ctx.rewrite(RULE, one.subject, f"{values.size} elements"):
            self._store(one, halved, order)
        return None

    def _store(self, one: _Stored, halved: np.ndarray[Any, Any], order: Mapping[Node, int]) -> None:
        home, old = one.home, one.tensor
        stored = home.constant(halved, f"{old.name}_{self.to}")
        readers = list(old.readers)
        if all(node.is_op("Gather") and node.inputs[0] is old and node.inputs[1] is not old for node in readers):
            for node in readers:
                _look_up(node, stored)
        else:
            place = min((_ancestor(node, home) for node in readers), key=order.__getitem__)
            floats = home.variable(f"{old.name}_float")
            home.insert(_cast(home, stored, floats), before=place)
            home.replace_uses(old, floats)
        if one.holder is None:
            home.remove_initializer(one.constant)
        else:
            home.remove(one.holder)


def _look_up(gather: Node, stored: Tensor) -> None:
    """Let a Gather look up 16-bit rows, and cast what it finds."""
    graph = gather.graph
    assert graph is not None, "it reads the tensor, so it is in a graph"
    floats = gather.outputs[0]
    graph.rewire(gather, 0, stored)
    gather.outputs[0] = graph.variable(f"{floats.name}_half")
    graph.insert(_cast(graph, gather.outputs[0], floats), after=gather)


def _cast(graph: Graph, stored: Tensor, floats: Tensor) -> Node:
    return Node("Cast", graph.fresh_name(f"{stored.name}_Cast"), {"to": _FLOAT}, [stored], [floats])


def _ancestor(node: Node, home: Graph) -> Node:
    while node.graph is not home:
        assert node.graph is not None, "a node that reads something is in a graph"
        node = node.graph.parent
    return node


def _stored(graph: Graph) -> Iterator[_Stored]:
    for scope in graph.scopes():
        for constant in scope.initializers.declared():
            yield _Stored(constant.__dict__.get("default_of") or constant, constant, scope, None)
        for node in scope.nodes:
            value = node.attrs.get("value") if node.is_op("Constant") and node.outputs else None
            if isinstance(value, Constant):
                yield _Stored(node.outputs[0], value, scope, node)


def _elements(one: _Stored) -> int:
    return int(np.prod([int(size) for size in one.constant.shape], dtype=np.int64))
