"""Keep weights as floating-point numbers of 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphopt.analysis.weights import Weight
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Plan, Wishes
from passes.quantize.grid import Array, Grid, Spread, step
from passes.quantize.rewriting import quantize
from passes.quantize.small_floats import SMALL, rounded


@dataclass(frozen=True)
class WeightFp8(Pass):
    """Keep weights as float8 and scales, a quarter of their size, for hardware that multiplies float8.

    What it does
        Replaces each float weight w by the nearest float8 q to w / s, ties to even, and a scale s, the
        largest magnitude / 448 (float8e4m3fn: 3 bits of significand) or / 57344 (float8e5m2: 2 bits),
        rounded up, for each output channel or in all. Which weights is as in weight-int8.

        form=cast reads Mul(Cast(q), s) in the weight's place. Runtimes compute that once, at load
        (measured: onnxruntime, in bodies too), so the model is as fast and takes as much memory as with
        floats. form=dequantize reads DequantizeLinear, what hardware with float8 kernels looks for.

    Example
        before: y = MatMul(x, w)                                       w: float[512,512]
        after:  c = Cast<to=float>(w_float8_e4m3fn)  v = Mul(c, w_scale)
                y = MatMul(x, v)                                       w_float8_e4m3fn: float8e4m3fn[512,512]

    When not
        Where no hardware asks for float8: weight-int8 is as small and up to 12 dB nearer, weight-codebook
        more. With form=dequantize runtimes without such kernels dequantize at every run: measured on a
        CPU, a MatMul of one row takes 25 times as long. The model needs opset 19: raise it with
        opset{to=19} first. Left, with the reason: as in weight-int8.

    Contract
        LOSSY: needs a budget. A weight is off by at most 1/16 of itself (1/8 with float8e5m2) where it is
        not much smaller than the largest of its channel: about 31 dB (25 dB).

    Source
        Micikevicius et al., "FP8 Formats for Deep Learning", 2022. ONNX operators Cast and
        DequantizeLinear (19, 21, 23 ...).
    """

    name = "weight-fp8"
    contract = Contract.LOSSY

    to: Literal["float8e4m3fn", "float8e5m2"] = option("float8e4m3fn", "the type to store")
    granularity: Literal["channel", "tensor"] = option("channel", "one scale for each output channel, or one in all")
    form: Literal["dequantize", "cast"] = option(
        "cast", "what makes floats of codes: DequantizeLinear, or Cast and Mul, which runtimes compute at load"
    )
    min_elements: int = option(1024, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        channels = self.granularity == "channel"
        wishes = Wishes(self.min_elements, self.skip, 8, channels, form=self.form, kind="float8")
        quantize(graph, ctx, wishes, self._grid, self._rounded)

    def _grid(self, plan: Plan, found: Spread, values: Array) -> Grid:
        small = SMALL[self.to]
        scale = step(found.peak / small.largest, np.dtype(plan.dtype))
        return Grid(scale, None, plan.axis, -int(small.largest), int(small.largest), small.dtype)

    def _rounded(self, weight: Weight, values: Array, grid: Grid) -> Array:
        return rounded(values, grid, SMALL[self.to])
