"""Multiplications and additions of constants into the linear operator before or behind them."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fold.absorbing import Absorbing
from passes.fold.affine import elementwise


@dataclass(frozen=True)
class FoldScaleBias(Pass):
    """Fold Mul, Div, Add, Sub of a constant, and Neg, into the weights of their neighbour.

    What it does
        Precondition: a Mul, Div, Add or Sub of a value and a constant that is one number or one a
        channel, or a Neg, reads the result of a Conv, ConvTranspose, Gemm or MatMul that nobody else
        reads; or else only such operators (and Shape) read its result. The weight is a constant of
        float32 or float64 that nobody else reads. Rewrite: a factor multiplies the weight along the
        channels that come out, or go in; what is added goes into the bias, through the weight where it
        comes before. A convolution without a bias gets one, as does a Gemm from opset 11 on; the bias
        of a MatMul is the Add of a constant behind it. Computed in float64 and rounded once. Main
        graph, bodies and functions.

    Example
        before: a = Mul(x, two)    b = Conv(a, w)    y = Add(b, c)
        after:  y = Conv(x, w, c)

    When not
        A constant along another axis (the width of an image, say), or one that broadcasting would make
        the value larger with, is not one a channel. What is added before a Conv that pads, or before a
        ConvTranspose, is missing at the border. An Add behind a MatMul stays where it is. Weights of
        float16 and bfloat16 stay: rounding them anew shows in the results. So do weights that would
        leave the range of their type, those behind a DequantizeLinear, and those that others read.
        Default values of inputs that callers may override are no constants. The file must not grow:
        one number does not become a long bias.

    Contract
        ROUNDING. The same affine function, rounded at other places.

    Source
        Linear algebra. ONNX operators Conv, ConvTranspose, Gemm and MatMul, "Broadcasting in ONNX".
    """

    name = "fold-scale-bias"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        Absorbing(graph, ctx, ("Mul", "Div", "Add", "Sub", "Neg"), elementwise).run()
