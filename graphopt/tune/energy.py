"""A proxy of the energy of one run: what its arithmetic and its memory traffic would cost on one well-known chip.

It is a proxy. The figures are those of a 45 nm process at 0.9 V (M. Horowitz, "Computing's energy problem (and what
we can do about it)", ISSCC 2014, figure 1.1.9), not of the machine that will run the model. Only their proportions
matter: a byte from DRAM costs as much as 35 float multiply-adds or 540 of 8-bit integers. So compare two models by it,
and do not read joules from it.

What is counted: multiply-accumulates, at the price of the dtype that they are done in; weights, which come from DRAM
once a node that reads them; activations, which are written once and read by each reader, from a cache of 1 MiB where
they fit in it, else from DRAM. Operators are taken as onnxruntime runs them: convolutions and products between
DequantizeLinear and QuantizeLinear are done in integers, a MatMul with stored integers decodes them as it reads, what
follows from constants is computed when the model is loaded. An elementwise operator works on what its producer still
holds. What is not counted: the arithmetic of all other operators, instructions, and what an idle chip takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from onnx import TensorProto

from graphopt.analysis.constants import constant_of
from graphopt.analysis.cost import node_macs
from graphopt.analysis.shapes import Shapes
from graphopt.analysis.views import RESHAPES
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.dtypes import bits, np_dtype

INT8: Final = 0.2 + 0.1
"""Picojoules of a multiply-accumulate of 8-bit integers: the product of 8 bits, the sum of 32."""
HALF: Final = 1.1 + 0.4
"""... of floats of 16 bits."""
FLOAT: Final = 3.7 + 0.9
"""... of floats of 32 bits."""
DOUBLE: Final = 4 * 3.7 + 2 * 0.9
"""... of floats of 64 bits, which the source leaves out: products grow with the bits' square, sums with the bits."""
CACHE: Final = 100 / 8
"""Picojoules of a byte from or to a cache of 1 MiB: 100 for 64 bits."""
DRAM: Final = 1300 / 8
"""... from or to DRAM: 1300 (to 2600) for 64 bits."""
CACHE_BYTES: Final = 1 << 20

_BY_DTYPE: Final[dict[int, float]] = {
    TensorProto.FLOAT16: HALF,
    TensorProto.BFLOAT16: HALF,
    TensorProto.DOUBLE: DOUBLE,
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8), INT8),
}
_INTEGER: Final = frozenset((
    "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm", "QAttention",
    "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"
))  # fmt: skip
_ALONE: Final = ("MatMul", "Gemm")  # in integers between DequantizeLinears, without a QuantizeLinear behind them too
_DECODING: Final = (*_ALONE, "Gather")  # read stored integers as they are
_BETWEEN: Final = frozenset((
    "Conv", "AveragePool", "GlobalAveragePool", "Softmax", "Concat", "Split", "Transpose", "MaxPool", "Resize",
    "Slice", "Pad", "Expand", "ReduceMax", "ReduceMin", "ArgMax"
))  # fmt: skip
_ELEMENTWISE: Final = frozenset((
    "Abs", "Add", "BatchNormalization", "BiasGelu", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp",
    "FastGelu", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mod",
    "Mul", "Neg", "Not", "PRelu", "Pow", "QuantizeLinear", "QuickGelu", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Softplus", "Sqrt", "Sub", "Tanh", "ThresholdedRelu", "Where"
))  # fmt: skip
_FREE: Final = frozenset((*RESHAPES, "Identity", "Dropout", "Shape", "Size", "Constant"))
_PICKING: Final = frozenset(("Gather", "GatherND", "GatherElements", "GatherBlockQuantized", "Slice"))
_RANDOM: Final = frozenset(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"))
_FINEST: Final = 4  # MatMulNBits' level of accuracy at which it multiplies integers
_HELD: Final = ("Relu", "Clip")  # that a QuantizeLinear behind it makes superfluous


@dataclass(frozen=True)
class Energy:
    """The proxy for one run, in picojoules: of arithmetic, and of moving weights and activations.

    `unknown` counts values and nodes whose sizes cannot be told, which are left out.
    """

    compute: float = 0.0
    memory: float = 0.0
    unknown: int = 0

    @property
    def total(self) -> float:
        """Both."""
        return self.compute + self.memory

    def __add__(self, other: Energy) -> Energy:
        return Energy(self.compute + other.compute, self.memory + other.memory, self.unknown + other.unknown)

    def against(self, original: Energy) -> float:
        """As a share of the original's; 1 where neither costs anything."""
        if original.total > 0.0:
            return self.total / original.total
        return 1.0 if self.total == 0.0 else math.inf


def energy(graph: Graph, shapes: Shapes) -> Energy:
    """The proxy for one run of `graph`; sizes that are not known count as 1, a loop's body once, of an If the dearer
    branch."""
    return _Count(shapes).of(graph)


class _Count:
    """The energy of the graphs of one model."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._ready: set[Tensor] = set()  # what onnxruntime computes when it loads the model

    def of(self, graph: Graph) -> Energy:
        return sum((self._node(node) for node in graph.nodes), Energy())

    def _node(self, node: Node) -> Energy:
        if node.bodies:
            costs = [self.of(body) for body in node.bodies]
            return max(costs, key=lambda one: one.total) if node.is_op("If") else sum(costs, Energy())
        given = [one for one in node.inputs if isinstance(one, Constant) or one.name]
        if given and all(map(self._is_ready, given)) and node.op not in _RANDOM:
            self._ready.update(node.outputs)
            return Energy()
        count = node_macs(node, self._shapes)
        done = Energy(count.count * self._price(node), 0.0, count.unknown)
        if node.op in _FREE or (node.is_op("DequantizeLinear") and self._is_passed_by(node)):
            return done
        return done + self._reads(node, given) + self._writes(node)

    def _is_ready(self, tensor: Tensor) -> bool:
        return tensor in self._ready or constant_of(tensor) is not None

    def _price(self, node: Node) -> float:
        if node.op in _INTEGER or _in_integers(node, self._shapes):
            return INT8
        if node.op == "MatMulNBits" and node.attrs.get("accuracy_level", 0) == _FINEST:
            return INT8
        return _BY_DTYPE.get(self._shapes.onnx_dtype(node.inputs[0]), FLOAT) if node.inputs else FLOAT

    def _reads(self, node: Node, given: Iterable[Tensor]) -> Energy:
        held, total = _held(node), Energy()
        for place, tensor in enumerate(given):
            if tensor is held:
                continue
            for source in self._sources(tensor, node):
                size = self._bytes(source)
                if size is not None and place == 0 and node.op in _PICKING:
                    made = self._elements(node.outputs[0])
                    size = size if made is None else min(size, made * self._bits(source) / 8)
                total += self._moved(size, self._is_ready(source))
        return total

    def _writes(self, node: Node) -> Energy:
        total = Energy()
        for tensor in node.outputs:
            reader = _only_reader(tensor)
            if tensor.name and not (reader is not None and _held(reader) is tensor):
                total += self._moved(self._bytes(tensor), False)
        return total

    def _sources(self, tensor: Tensor, reader: Node) -> list[Tensor]:
        """What is really read: the integers and their scales, where the reader takes them as they are."""
        maker = _dequantize(tensor)
        if maker is None or not self._takes(reader, maker):
            return [tensor]
        return [one for one in maker.inputs if isinstance(one, Constant) or one.name]

    def _takes(self, reader: Node, maker: Node) -> bool:
        """Whether `reader` reads the integers that `maker`, a DequantizeLinear, makes floats of."""
        if _in_integers(reader, self._shapes):
            return True
        if self._is_ready(maker.inputs[0]):
            return reader.is_standard and reader.op in _DECODING
        return reader.op in _ELEMENTWISE or (reader.op in _BETWEEN and _is_quantized(reader.outputs[0]))

    def _is_passed_by(self, node: Node) -> bool:
        """Whether nobody reads the floats that a DequantizeLinear makes."""
        made = node.outputs[0]
        return not made.graph_outputs and all(self._takes(reader, node) for reader in made.readers)

    def _moved(self, size: float | None, stored: bool) -> Energy:
        if size is None:
            return Energy(unknown=1)
        return Energy(memory=size * (DRAM if stored or size > CACHE_BYTES else CACHE))

    def _bytes(self, tensor: Tensor) -> float | None:
        if isinstance(tensor, Constant):
            return float(tensor.nbytes)
        elements = self._elements(tensor)
        return None if elements is None else elements * self._bits(tensor) / 8

    def _bits(self, tensor: Tensor) -> int:
        return _width(self._shapes, tensor) or 32

    def _elements(self, tensor: Tensor) -> int | None:
        shape = self._shapes.shape(tensor)
        return None if shape is None else math.prod(dim if isinstance(dim, int) else 1 for dim in shape)


def _width(shapes: Shapes, tensor: Tensor) -> int:
    """Bits of an element; 0 where that cannot be told."""
    dtype = shapes.onnx_dtype(tensor)
    return 0 if np_dtype(dtype) is None else bits(dtype)


def _in_integers(node: Node, shapes: Shapes) -> bool:
    """Whether onnxruntime makes a convolution or product of integers of `node` and the QDQ nodes around it."""
    if not node.is_standard or node.op not in ("Conv", *_ALONE) or len(node.inputs) < 2:
        return False
    makers = [_dequantize(one) for one in node.inputs[:2]]
    if any(one is None or _width(shapes, one.inputs[0]) != 8 for one in makers):
        return False
    return node.op in _ALONE or _is_quantized(node.outputs[0])


def _is_quantized(tensor: Tensor) -> bool:
    """Whether a QuantizeLinear is all that reads the tensor, perhaps behind an activation that it makes superfluous."""
    reader = _only_reader(tensor)
    if reader is not None and reader.is_op(*_HELD):
        reader = _only_reader(reader.outputs[0])
    return reader is not None and reader.is_op("QuantizeLinear")


def _dequantize(tensor: Tensor) -> Node | None:
    """The DequantizeLinear that makes the tensor."""
    maker = _maker(tensor)
    return maker if maker is not None and maker.op == "DequantizeLinear" and maker.inputs else None


def _maker(tensor: Tensor) -> Node | None:
    """The node that makes the tensor."""
    if isinstance(tensor, Constant) or len(tensor.inputs) != 1:
        return None
    maker: Node = tensor.inputs[0]
    return maker


def _held(node: Node) -> Tensor | None:
    """The input of an elementwise node that need not go through memory: the first that it alone reads."""
    if node.op not in _ELEMENTWISE:
        return None
    for tensor in node.inputs:
        maker = _maker(tensor)
        if maker is None or maker.graph is not node.graph or _only_reader(tensor) is not node:
            continue
        if not maker.bodies and maker.op != "DequantizeLinear" and maker.op not in _FREE:
            found: Tensor = tensor
            return found
    return None


def _only_reader(tensor: Tensor) -> Node | None:
    """The one node that reads the tensor, in one place; None where there are more, or it is an output."""
    if isinstance(tensor, Constant) or tensor.graph_outputs:
        return None
    readers = tensor.readers
    return readers[0] if len(readers) == 1 and sum(one is tensor for one in readers[0].inputs) == 1 else None
