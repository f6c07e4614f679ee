"""Keep weights in microscaling formats: small floats, and a power of two for each block of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from graphopt.analysis.weights import Weight
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Plan, Wishes
from passes.quantize.cast_form import POWER
from passes.quantize.grid import Array, Grid, Spread
from passes.quantize.rewriting import quantize
from passes.quantize.small_floats import SMALL, errors, rounded

_BIAS, _MOST = 127, 254  # of the exponents of scales; 255 stands for no number


@dataclass(frozen=True)
class WeightMx(Pass):
    """Keep weights as OCP microscaling floats: MXFP8 or MXFP4, with a power of two for each block of 32.

    What it does
        Replaces each float weight w by the nearest small float q to w / s, ties to even, where s is a
        power of two for each `block` inputs of a channel: 2^(floor(log2 of the largest magnitude) - the
        largest exponent of the type), or twice that, whichever has the smaller squared error; the first
        clips magnitudes beyond the largest number of the type. Blocks lie as in weight-int4; weights
        without an axis for them get a scale for each output channel.

        form=dequantize reads DequantizeLinear with scales of float8e8m0, the standard form, from opset 24
        on. form=table stores the same bits as plain integers and looks them up: Gather of the
        numbers that they mean, times Gather of the powers; at any opset from 7 on, two codes of 4 bits
        to a byte from opset 21 on. Runtimes compute that once, at load.

    Example
        weight-mx{to=float4e2m1 form=dequantize}
        before: y = MatMul(x, w)                                   w: float[512,512]
        after:  v = DequantizeLinear<axis=0, block_size=32, output_dtype=float>(w_float4_e2m1fn, w_scale)
                y = MatMul(x, v)                                   w_scale: float8e8m0[16,512]

    When not
        Where no hardware asks for these formats: at 4 bits weight-codebook is 2 dB nearer, at 8 bits
        weight-int8 up to 12 dB. With form=dequantize few runtimes load the model: measured, onnxruntime 1.32 on
        a CPU has neither float4e2m1 nor scales of float8e8m0. Left, with the reason: as in weight-int8.

    Contract
        LOSSY: needs a budget. A weight is off by at most 1/16 (float8e4m3fn), 1/8 (float8e5m2) or 1/4
        (float4e2m1) of itself where it is not much smaller than the largest of its block: about 31, 25
        and 18 dB.

    Source
        Rouhani et al., "Microscaling Data Formats for Deep Learning", 2023. Open Compute Project, "OCP
        Microscaling Formats (MX) Specification", version 1.0, 2023, section 6.3. ONNX operators
        DequantizeLinear (24, 25), Gather.
    """

    name = "weight-mx"
    contract = Contract.LOSSY

    to: Literal["float8e4m3fn", "float8e5m2", "float4e2m1"] = option("float8e4m3fn", "the type of an element")
    block: int = option(32, "inputs that share a scale")
    form: Literal["dequantize", "table"] = option(
        "table", "what makes floats of codes: DequantizeLinear, or lookups, which runtimes compute at load"
    )
    min_elements: int = option(1024, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")
        if self.block < 2:
            raise ValueError(f"block must be at least 2, and {self.block} is not")

    def run(self, graph: Graph, ctx: Context) -> None:
        bits = SMALL[self.to].bits
        wishes = Wishes(self.min_elements, self.skip, bits, True, self.block, self.form, "micro")
        quantize(graph, ctx, wishes, self._grid, self._rounded)

    def _grid(self, plan: Plan, found: Spread, values: Array) -> Grid:
        small = SMALL[self.to]
        _, exponent = np.frexp(found.peak)
        least = np.where(found.peak > 0, exponent - 1 - small.top, 0)
        tried = [_powers(least), _powers(least + 1)]
        grid = Grid(tried[0], None, plan.axis, -int(small.largest), int(small.largest), small.dtype, plan.block)
        first, second = (errors(values, replace(grid, scale=one), small) for one in tried)
        return replace(
            grid, scale=np.asarray(np.where(first <= second, *(one.view(np.uint8) for one in tried))).view(POWER)
        )

    def _rounded(self, weight: Weight, values: Array, grid: Grid) -> Array:
        return rounded(values, grid, SMALL[self.to])


def _powers(exponents: Array) -> Array:
    """Powers of two with these exponents, as far as the type has them."""
    return np.asarray(np.clip(exponents + _BIAS, 1, _MOST).astype(np.uint8)).view(POWER)
