"""Keep weights as fixed-point numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Plan, Wishes
from passes.quantize.grid import Array, Grid, Spread, fixed_point, point_limits, saturates
from passes.quantize.rewriting import quantize


@dataclass(frozen=True)
class WeightFixedPoint(Pass):
    """Keep weights as integers times a power of two, as hardware without a multiplier for scales wants.

    What it does
        Replaces each float weight w by q = round(w * 2^p), ties to even, and reads q * 2^-p through
        DequantizeLinear. Multiplying by a power of two is exact, so what the model computes with is
        exactly q * 2^-p, at most half a step 2^-p / 2 from w. One p serves a whole tensor, or with
        granularity=channel one output channel: the largest with which none of its codes leaves -128 to
        127 (-32768 to 32767 with bits=16), or the option p; p may be negative, and 2^-p is always a
        normal number of the weight's type. The codes stay plain two's complement numbers with p
        fractional bits.

        form=cast reads Mul(Cast(q), 2^-p) instead, at any opset from 7 on and with 16 bits, too; runtimes
        compute that once, at load, so that the model is as fast as with floats.

        Which weights, where DequantizeLinear stands, and what is left alone is as in weight-int8.

    Example
        before: y = Gemm(x, w)             w: float[256,128] within -0.83 to 0.97
        after:  w_dequantized = DequantizeLinear(w_int8, w_scale)        w_scale: 2^-7
                y = Gemm(x, w_dequantized)

    When not
        For a small file, weight-int8 is as small and up to a bit more accurate, and more with its
        scales for each channel. With p given, weights that it would saturate are left with the
        reason, unless saturate=true clips them. With form=dequantize, bits=16 needs opset
        21, float16 and bfloat16 weights opset 19, scales for channels opset 13, everything opset 10.

    Contract
        LOSSY: needs a budget. A step is between 1/127 and 1/64 of the largest weight that it is for
        at 8 bits.

    Source
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", CVPR 2018 (affine quantization; here the scale is a
        power of two and the zero point 0). ONNX operator DequantizeLinear (10, 13, 19, 21, 23 ...).
    """

    name = "weight-fixed-point"
    contract = Contract.LOSSY

    bits: Literal[8, 16] = option(8, "bits of a code; 16 needs opset 21 or form=cast")
    granularity: Literal["tensor", "channel"] = option("tensor", "one p for a tensor, or one for each output channel")
    p: int | None = option(None, "fractional bits; none takes the most that each tensor allows")
    saturate: bool = option(False, "clip weights that p is too large for, instead of leaving their tensor alone")
    form: Literal["dequantize", "cast"] = option(
        "dequantize", "what makes floats of codes: DequantizeLinear, or Cast and Mul, which runtimes compute at load"
    )
    min_elements: int = option(1024, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")
        if self.p is not None and not -127 <= self.p <= 126:
            raise ValueError(f"p must be from -127 to 126, where 2^-p is a normal number, and {self.p} is not")
        if self.p is not None and self.granularity == "channel":
            raise ValueError("a given p is the same for every channel: leave granularity at tensor")
        if self.saturate and self.p is None:
            raise ValueError("saturate needs a given p: without one, p is chosen so that nothing saturates")

    def run(self, graph: Graph, ctx: Context) -> None:
        wishes = Wishes(self.min_elements, self.skip, self.bits, self.granularity == "channel", form=self.form)
        quantize(graph, ctx, wishes, self._grid)

    def _grid(self, plan: Plan, found: Spread, values: Array) -> Grid | str:
        if self.p is not None:
            least, most = point_limits(plan.dtype)
            if not least <= self.p <= most:
                return f"2^-{self.p} is not a normal {plan.dtype}: p must be from {least} to {most}"
        grid = fixed_point(found, self.bits, plan.dtype, self.p, plan.axis)
        if self.p is not None and not self.saturate and saturates(found, self.p, grid.low, grid.high):
            return f"p={self.p} is too large for its values of up to {float(found.peak):.4g}, and saturate is false"
        return grid
