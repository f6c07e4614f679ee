"""Keep weights as 16-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Wishes
from passes.quantize.formats import Format
from passes.quantize.rewriting import quantize


@dataclass(frozen=True)
class WeightInt16(Pass):
    """Keep weights as 16-bit integers and scales: half of their size, and nearly no error.

    What it does
        Replaces each float weight w by int16 codes q from -32767 to 32767 and a scale s for each output
        channel (or one in all with granularity=tensor), so that the model computes with q * s, at most
        half a step from w: 1/65534 of the largest weight of the channel. Which weights is as in
        weight-int8.

        form=cast reads Mul(Cast(q), s) in the weight's place, at any opset from 7 on. Runtimes compute
        that once, at load, in bodies too: measured, the model is as fast and takes as much memory as
        with floats. form=dequantize reads DequantizeLinear, as in weight-int8.

    Example
        before: y = Conv(x, w)                                            w: float[64,32,3,3]
        after:  c = Cast<to=float>(w_int16)  v = Mul(c, w_scale)          w_int16: int16[64,32,3,3]
                y = Conv(x, v)                                            w_scale: float[64,1,1,1]

    When not
        Left, with the reason: as in weight-int8, and weights of 16 bits, which would not get smaller.
        form=dequantize needs opset 21, and runtimes without kernels for 16 bits, as onnxruntime on a
        CPU, dequantize at every run. Halves (float16) are as small: their error is up to 1/4096 of each
        weight, large or small, where this one's is less than 1/65000 of the largest of the channel.

    Contract
        LOSSY: needs a budget. 85 to 95 dB for each weight; decisions of a model hardly ever change.

    Source
        ONNX operators Cast, Mul, DequantizeLinear (21, 23 ...). Jacob et al., "Quantization and Training
        of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
    """

    name = "weight-int16"
    contract = Contract.LOSSY

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
        wishes = Wishes(self.min_elements, self.skip, 16, self.granularity == "channel", form=self.form)
        quantize(graph, ctx, wishes, Format(16).grid)
