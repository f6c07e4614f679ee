"""Keep weights as integers on grids found without data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Plan, Wishes
from passes.quantize.grid import Array, Grid, Spread, asymmetric
from passes.quantize.half_quadratic import fitted
from passes.quantize.rewriting import quantize


@dataclass(frozen=True)
class Hqq(Pass):
    """Keep weights as integers with zero points, on grids found by half-quadratic splitting, without data.

    What it does
        As weight-int4{symmetric=false} (or weight-int8, weight-int2, as bits says), with steps and zero
        points that make the p-norm of the errors small (norm, p = 0.7): many weights come out nearly exact,
        and a few outliers are let go. In turn, errors that are to stay are split off (a shrinkage), and
        step and zero are fitted to the rest by least squares, `rounds` times; the grid with the
        smallest norm is kept, which may be the one over the whole range. Codes are the nearest ones.

    Example
        hqq{bits=4 block=64}
        before: y = MatMul(x, w)                                   w: float[512,512]
        after:  w_dequantized = DequantizeLinear<axis=0, block_size=64>(w_int4, w_scale, w_zero_point)
                y = MatMul(x, w_dequantized)

    When not
        With data, gptq is several dB better. Where weights have no outliers, weight-int4{range=mse
        symmetric=false} has the smaller squared error. Left, with the reason, is what weight-int4
        leaves. Costs about 2 * rounds roundings of each weight: some seconds for 20 million.

    Contract
        LOSSY: needs a budget.

    Source
        Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023. There
        zeros are real numbers; in ONNX they are codes, so that steps are fitted, too.
    """

    name = "hqq"
    contract = Contract.LOSSY

    bits: Literal[2, 4, 8] = option(4, "bits of a code; 4 needs opset 21, 2 needs opset 25")
    granularity: Literal["block", "channel", "tensor"] = option(
        "block", "one scale for each block of inputs, for each output channel, or in all"
    )
    block: int = option(32, "inputs that share a scale, where granularity is block")
    signed: bool = option(True, "codes with a sign; otherwise from 0 on")
    rounds: int = option(20, "how often errors are split off and the grid is fitted")
    norm: float = option(0.7, "p of the norm that is made small, above 0 and at most 1")
    min_elements: int = option(1024, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")
        if self.block < 2:
            raise ValueError(f"block must be at least 2, and {self.block} is not")
        if not 0 < self.norm <= 1:
            raise ValueError(f"norm must be above 0 and at most 1, and {self.norm:g} is not")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, and {self.rounds} is not")

    def run(self, graph: Graph, ctx: Context) -> None:
        block = self.block if self.granularity == "block" else 0
        quantize(
            graph, ctx, Wishes(self.min_elements, self.skip, self.bits, self.granularity != "tensor", block), self._grid
        )

    def _grid(self, plan: Plan, found: Spread, values: Array) -> Grid:
        grid = asymmetric(found, plan.axis, plan.dtype, self.bits, block=plan.block, signed=self.signed)
        return fitted(values, grid, self.rounds, self.norm)
