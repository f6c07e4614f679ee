"""Multiply 8-bit integers, with activations quantized as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.integer_product import Writer
from passes.quantize.products import PRODUCTS, Product, Products, Selection

RULE = "dynamic"
_FIRST = 11  # the opset in which DynamicQuantizeLinear appeared
_DEPTH = 8  # below, quantizing the data costs more than the products
_OTHERS = {
    "Conv": "a convolution of integers (ConvInteger) runs slower than one of floats: static-int8 is for those",
    "ConvTranspose": "there is no transposed convolution of integers",
    "LSTM": "ONNX has no recurrent operator of integers",
    "GRU": "ONNX has no recurrent operator of integers",
    "RNN": "ONNX has no recurrent operator of integers",
}


@dataclass(frozen=True)
class DynamicInt8(Pass):
    """Multiply in 8-bit integers: weights stored as such, activations quantized at each run by their own range.

    What it does
        Replaces MatMul and Gemm with a stored float32 weight by DynamicQuantizeLinear, which finds scale
        and zero point of the data (uint8) at each run, MatMulInteger with int8 weights, Cast, and Mul with the
        product of both scales. Several operators that read the same value (query, key and value of
        an attention) share one DynamicQuantizeLinear. These are standard operators of opset 11, in the
        form that onnxruntime fuses to DynamicQuantizeMatMul and MatMulIntegerToFloat, the bias behind
        included: a quarter of the bytes, and less than half of the time where the CPU has VNNI
        instructions or the like. No calibration data are needed.

        Weights that are stored as 8-bit codes already, behind DequantizeLinear (by weight-int8 or by a
        pass that rounds better), with one scale or one for each output, keep codes and scales. Float
        weights are rounded to the nearest of codes -127 to 127, with a scale for each output
        (granularity=channel), or one in all. Weights of more than two dims share scales between
        their matrices. A Gemm's alpha goes into the scales; its bias becomes an Add.

        reduce_range is for CPUs without VNNI: there, two neighbouring products uint8 x int8 are added in
        16 bits and saturate, as 2 x 255 x 127 does not fit. Codes of 7 bits (-64 to 64) do: 2 x 255 x 64
        is below 2^15. It costs one bit, 6 dB of the rounding of weights.

    Example
        before: y = MatMul(x, w)                                          w: float[384,384]
        after:  q, s, z = DynamicQuantizeLinear(x)      m = MatMulInteger(q, w_int8, z)
                c = Cast<to=1>(m)     k = Mul(s, w_scale)     y = Mul(c, k)

    When not
        Left, with the reason: Conv (slower in integers without calibrated ranges), LSTM, GRU and RNN, weights
        as left operand, sums that could leave 32 bits, weights that callers may override, that are
        graph outputs, or that are read in another way too (tied embeddings: run weight-int8 before, whose
        codes serve both), NaN and infinities, weights below min_elements, opsets before 11.

        One range serves the whole value, so an outlier channel costs all others their precision: run
        smooth before, which evens channels out. Products that are too sensitive stay float by `skip`.
        A value is quantized by the range of its whole batch, so results depend a little on what
        else is in the batch.

    Contract
        LOSSY: needs a budget. Weights move by half a step at most, data by half of 1/255 of their range
        (zero included) in each run. Time is linear in the weights.

    Source
        ONNX operators DynamicQuantizeLinear (11), MatMulInteger (10). Jacob et al., "Quantization and
        Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
    """

    name = "dynamic-int8"
    contract = Contract.LOSSY

    granularity: Literal["channel", "tensor"] = option("channel", "one scale for each output of a float weight, or one")
    reduce_range: bool = option(False, "7-bit weights, for CPUs that add products in 16 bits (without VNNI)")
    min_elements: int = option(1024, "leave operators with smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns of nodes, weights and values whose operators stay float")
    only: tuple[str, ...] = option((), "patterns of the only ones to quantize")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        selection, writer = Selection(self.skip, self.only), Writer(self.granularity == "channel", self.reduce_range)
        nodes = [node for scope in graph.scopes() for node in scope.nodes if node.is_op(*PRODUCTS, *_OTHERS)]
        products = Products(graph, ctx.shapes)
        for node in nodes:
            found = self._why_not(node, selection) or products.read(node)
            if not isinstance(found, str):
                found = self._why_not_product(found, writer) or found
            if isinstance(found, str):
                ctx.missed(RULE, node, found)
            elif ctx.rewrite(RULE, node, f"{found.depth} x {found.outputs}"):
                writer.write(found)

    def _why_not_product(self, product: Product, writer: Writer) -> str | None:
        elements = product.depth * product.outputs
        if elements < self.min_elements:
            return f"its weight has {elements} elements, fewer than min-elements={self.min_elements}"
        if product.depth < _DEPTH:
            return f"it adds up only {product.depth} products, which integers do not make faster"
        return writer.why_not(product)

    def _why_not(self, node: Node, selection: Selection) -> str | None:
        opset = node.graph.opset_of() if node.graph is not None else 0
        if node.op in _OTHERS:
            return _OTHERS[node.op]
        why = selection.why_not(node)
        if why is None and opset < _FIRST:
            why = f"DynamicQuantizeLinear needs opset 11 and the model has {opset}: raise it with opset{{to=11}} first"
        return why
