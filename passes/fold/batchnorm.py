"""BatchNormalization into the linear operator before or behind it."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fold.absorbing import Absorbing
from passes.fold.affine import normalization


@dataclass(frozen=True)
class FoldBatchnorm(Pass):
    """Fold a BatchNormalization in inference into the weights of its neighbour.

    What it does
        Precondition: a BatchNormalization in inference mode, its four parameters constant vectors,
        reads the result of a Conv, ConvTranspose, Gemm or MatMul (with the Add of a constant behind
        it, if there is one) that nobody else reads; or else only such operators read its result, and
        a Conv among them pads nothing. The weight is a constant of float32 or float64 that nobody
        else reads. Rewrite: with scale = gamma / sqrt(variance + epsilon) and shift = beta - mean *
        scale, the weight is multiplied by the channel's scale and the shift goes into the bias; an
        operator without a bias gets one, and a MatMul of matrices becomes a Gemm. Computed in float64
        and rounded once. Main graph, bodies and functions.

    Example
        before: a = Conv(x, w)    y = BatchNormalization(a, gamma, beta, mean, variance)
        after:  y = Conv(x, w, b)

    When not
        In training mode; where variance + epsilon is not positive; where the operator before is read
        elsewhere too. A Conv behind it that pads would see the shift at its border as well, so it
        stays, and so does one before a ConvTranspose. Weights of float16 and bfloat16 stay: rounding
        them anew shows in the results. So do weights that would leave the range of their type, and
        those behind a DequantizeLinear. Default values of inputs that callers may override are no
        constants. The file must not grow.

    Contract
        ROUNDING. The same affine function, rounded at other places.

    Source
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", 3.2. ONNX operator BatchNormalization (7, 9, 14, 15).
    """

    name = "fold-batchnorm"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        Absorbing(graph, ctx, ("BatchNormalization",), normalization).run()
