"""Keep weights as 8-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Plan, Wishes
from passes.quantize.grid import Array, Grid, Spread, asymmetric, symmetric
from passes.quantize.rewriting import quantize


@dataclass(frozen=True)
class WeightInt8(Pass):
    """Keep weights as 8-bit integers and scales, about a quarter of their size.

    What it does
        Replaces each float weight w by int8 codes q and a scale s, read through DequantizeLinear,
        so that the model computes with q * s, at most half a step s / 2 from w. Weights of Conv,
        ConvTranspose, Gemm, MatMul, Gather, LSTM, GRU and RNN, whether initializers or Constant
        nodes, in bodies and functions, also where the operator reads them through Transpose,
        Reshape or the like.

        granularity=channel gives every output channel a scale of its own: axis 0 of Conv, axis 1
        of ConvTranspose (the channel within a group; axis 0 where each group has one input and one
        output), the N axis of Gemm and of a right operand of MatMul, the M axis of a left one, the
        gate axis 1 of LSTM, GRU and RNN (shared by the directions), and the columns of a Gather
        table. A tensor that several operators read gets one scale for all where their channels
        lie along different axes.

        Symmetric codes are -127 to 127 and s is the largest magnitude / 127, rounded up; with
        symmetric=false, codes are -128 to 127 over the range of the values and zero, and zero has
        a code of its own, kept as an int8 zero point. Zero always stays zero. The scale of a
        channel of zeros is 1, and no scale is below the smallest normal number (2^-17 in float16).

        DequantizeLinear stands behind nodes that only move elements: a Gather looks up integers
        and only the rows that it found are made floats.

    Example
        before: y = MatMul(x, w)                                   w: float[512,512]
        after:  w_dequantized = DequantizeLinear<axis=1>(w_int8, w_scale)
                y = MatMul(x, w_dequantized)                       w_int8: int8[512,512]

    When not
        Left, with the reason: weights that callers may override, that are graph outputs, or that
        something else reads too; biases; float64; NaN, infinities and values beyond half the
        largest float; tensors below min-elements, or that would not get smaller. Scales for each
        channel need opset 13, float16 and bfloat16 weights opset 19: raise it with the pass opset.

        This makes files small, not models fast. Runtimes dequantize at every run where they have
        no kernel for integer weights: measured on a CPU, a Conv takes 1.2 times as long. onnxruntime
        runs MatMul on 8-bit weights in integers, and quantizes activations to do so, unasked.

    Contract
        LOSSY: needs a budget. Half a step of a channel is 1/254 of its largest weight; 8 bits a
        channel usually keep 30 dB and more. Per tensor, outliers cost accuracy.

    Source
        ONNX operator DequantizeLinear (10, 13, 19, 21, 23 ...). Jacob et al., "Quantization and
        Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
        Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, on
        scales for each channel.
    """

    name = "weight-int8"
    contract = Contract.LOSSY

    granularity: Literal["channel", "tensor"] = option("channel", "one scale for each output channel, or one in all")
    symmetric: bool = option(True, "codes around zero; otherwise over the range of the values, with a zero point")
    min_elements: int = option(1024, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        wishes = Wishes(self.min_elements, self.skip, 8, self.granularity == "channel")
        quantize(graph, ctx, wishes, self._grid)

    def _grid(self, plan: Plan, found: Spread, values: Array) -> Grid:
        make = symmetric if self.symmetric else asymmetric
        return make(found, plan.axis, plan.dtype)
