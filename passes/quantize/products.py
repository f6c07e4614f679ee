"""MatMul and Gemm with a stored operand: what activation quantization needs to know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import maker, operand
from graphopt.analysis.movement import MOVERS
from graphopt.analysis.shapes import Shapes
from graphopt.analysis.weights import Weight, weights
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.values import Array

PRODUCTS = ("MatMul", "Gemm")
FLOAT = 1
_CODES = (2, 3)  # uint8 and int8
_INITIALIZERS = 4  # the IR version from which on initializers need not be graph inputs


@dataclass(frozen=True, eq=False)
class Product:
    """A MatMul or Gemm of a float value with a stored operand of two or more dims, read at `slot`.

    The operand is a float32 tensor (`weight`), or comes from `dequantizer`, a DequantizeLinear of 8-bit
    codes with one scale or one for each output. `flipped` says that outputs are along the operand's
    axis before the last, as in a Gemm with transB. `depth` is how many products are added up, `outputs`
    how many values they give.
    """

    node: Node
    slot: int
    weight: Weight | None
    dequantizer: Node | None
    flipped: bool
    depth: int
    outputs: int

    @property
    def data(self) -> Tensor:
        """The other operand."""
        found: Tensor = self.node.inputs[1 - self.slot]
        return found

    @property
    def stored(self) -> Tensor:
        """The tensor that the operator reads as its weight."""
        found: Tensor = self.node.inputs[self.slot]
        return found

    def rows(self, channels: Array) -> Array:
        """What a float weight of two dims has for some channels of the data: [channels, N], with a Gemm's alpha."""
        assert self.weight is not None, "asked of floats only"
        values = self.weight.constant.values
        found = values[:, channels].T if self.flipped else values[channels]
        alpha = float(self.node.attrs.get("alpha", 1.0)) if self.node.op == "Gemm" else 1.0
        return np.ascontiguousarray(found * np.float32(alpha))


@dataclass(frozen=True)
class Selection:
    """The options that say which operators to take: name patterns, as in fnmatch."""

    skip: tuple[str, ...]
    only: tuple[str, ...]

    def why_not(self, node: Node) -> str | None:
        """Why an operator is not to be taken, in a clause; None when it is."""
        names = [node.label, *(one.name for one in (*node.inputs, *node.outputs) if one.name)]
        for tensor in node.inputs:
            source = maker(tensor, "DequantizeLinear")
            names += [] if source is None else [source.inputs[0].name]
        found = next((p for p in self.skip if any(fnmatchcase(name, p) for name in names)), None)
        if found is not None:
            return f"skip has {found!r}"
        if self.only and not any(fnmatchcase(name, p) for name in names for p in self.only):
            return "only has no pattern for it"
        return None


class Products:
    """Reads the products of one model; stored tensors are looked up once."""

    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        self.shapes = shapes
        self._root = graph.root
        self._weights: Mapping[Tensor, Weight] = {one.tensor: one for one in weights(graph)}

    def read(self, node: Node) -> Product | str:
        """A MatMul or Gemm as a product, or a clause that says why it is none to be quantized."""
        stored = [slot for slot in (0, 1) if self._is_stored(node, slot)]
        if len(node.inputs) < 2 or not stored:
            return self._why_not_stored(node)
        if len(stored) == 2:
            return "both operands are constant: fold-constants computes it"
        (slot,) = stored
        if node.op == "Gemm" and node.attrs.get("transA", 0) != 0:
            return "it transposes its first operand"
        flipped = node.op == "Gemm" and node.attrs.get("transB", 0) != 0
        if slot == 0:
            return "its constant is the left operand, for which there is no fast integer kernel"
        return self._product(node, slot, flipped)

    def _product(self, node: Node, slot: int, flipped: bool) -> Product | str:
        tensor: Tensor = node.inputs[slot]
        dims = self.shapes.shape(tensor)
        if dims is None or len(dims) < 2:
            return "its weight has fewer than two dims, or nobody knows how many"
        depth, outputs = (dims[-1], dims[-2]) if flipped else (dims[-2], dims[-1])
        if not isinstance(depth, int) or not isinstance(outputs, int):
            return "the size of its weight is not known"
        if 0 in dims:
            return "its weight is empty"
        data = self.shapes.onnx_dtype(node.inputs[1 - slot]) or self.shapes.onnx_dtype(tensor)
        if FLOAT not in (data, self.shapes.onnx_dtype(tensor)) or data != FLOAT:
            return "it does not multiply float32 values"
        weight = self._weights.get(tensor)
        if weight is None:
            return self._dequantized(node, slot, flipped, len(dims), depth, outputs)
        why = self._why_not_weight(weight)
        return why or Product(node, slot, weight, None, flipped, depth, outputs)

    def _why_not_weight(self, weight: Weight) -> str | None:
        if weight.obstacle is not None:
            return weight.obstacle
        version = weight.home.root.ir_version
        if version is not None and version < _INITIALIZERS:
            return f"the model has IR version {version}, where every initializer is an input"
        for site in weight.sites:
            if site.node.graph is None:  # it was rewritten since
                continue
            if not site.node.is_op(*PRODUCTS) or site.node.inputs[site.slot] is not weight.tensor:
                return (
                    f"{site.node.op} {site.node.label!r} reads the weight in another way, "
                    "so it would be stored twice: run weight-int8 before"
                )
        return None

    def _dequantized(self, node: Node, slot: int, flipped: bool, rank: int, depth: int, outputs: int) -> Product | str:
        source = maker(node.inputs[slot], "DequantizeLinear")
        assert source is not None, "it is stored, and no weight"
        if self.shapes.onnx_dtype(source.inputs[0]) not in _CODES:
            return "its weight is stored in codes of other than 8 bits"
        if int(source.attrs.get("block_size", 0)):
            return "its weight has scales for blocks, which no integer product knows"
        scale = constant_values(source.inputs[1])
        assert scale is not None, "it is stored"
        axis = int(source.attrs.get("axis", 1)) % rank
        if scale.size > 1 and axis != (rank - 2 if flipped else rank - 1):
            return "the scales of its weight are not along its outputs"
        if scale.ndim > 1:
            return "its weight has scales for blocks, which no integer product knows"
        return Product(node, slot, None, source, flipped, depth, outputs)

    def _is_stored(self, node: Node, slot: int) -> bool:
        tensor = operand(node, slot)
        if tensor is None:
            return False
        weight = self._weights.get(tensor)
        if weight is not None:
            return True
        source = maker(tensor, "DequantizeLinear")
        return source is not None and _is_constant(source.inputs[0]) and _parameters(source) is not None

    def _why_not_stored(self, node: Node) -> str:
        for tensor in node.inputs[:2]:
            source = maker(tensor)
            if source is not None and source.op in MOVERS and _is_constant(tensor):
                return f"its weight is behind {source.op} {source.label!r}: run fold-constants or weight-int8 before"
        return "neither operand is a stored weight"


def _is_constant(tensor: Tensor) -> bool:
    """Whether a tensor is stored, or made of a stored one by moving its elements."""
    while constant_values(tensor) is None:
        source = maker(tensor, *MOVERS)
        if source is None:
            return False
        tensor = source.inputs[0]
    return True


def _parameters(source: Node) -> Sequence[Array] | None:
    """Scale and, where there is one, zero point of a DequantizeLinear; None where they are not constant."""
    found = [constant_values(one) for one in source.inputs[1:] if one.name]
    return None if not found or any(one is None for one in found) else [one for one in found if one is not None]
