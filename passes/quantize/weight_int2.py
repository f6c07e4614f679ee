"""Keep weights as 2-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.pipeline.protocol import option
from passes.quantize.integers import WeightIntegers


@dataclass(frozen=True)
class WeightInt2(WeightIntegers):
    """Keep weights as 2-bit integers and scales for blocks, about a tenth of their size.

    What it does
        Replaces each float weight w by int2 codes q, four in a byte, and a scale s and a zero point z
        for each `block` inputs of a channel, read through DequantizeLinear as (q - z) * s. Which
        weights, where blocks lie, and what symmetric, range and signed mean is as in weight-int4;
        with symmetric=true the four codes are -2 to 1 (range=mse) or the three -1 to 1 (range=max).

        DequantizeLinear stands right behind the stored codes: ONNX has no Gather of 2-bit integers,
        and runtimes have no kernels that move them.

    Example
        before: y = MatMul(x, w)                                   w: float[512,512]
        after:  w_dequantized = DequantizeLinear<axis=0, block_size=32>(w_int2, w_scale, w_zero_point)
                y = MatMul(x, w_dequantized)                       w_int2: int2[512,512], w_scale: float[16,512]

    When not
        Left, with the reason, is what weight-int8 leaves, and what would not get smaller. The model
        needs opset 25: raise it with opset{to=25} first.

        Nearly always, unless rounding looks at activations and only some weights are taken: four
        values for a weight keep about 10 dB of it. Fold constants before, so that no weight is read
        through nodes that move it.

    Contract
        LOSSY: needs a budget.

    Source
        ONNX operator DequantizeLinear 25 (int2, block_size). Li, Zhang and Liu, "Ternary Weight
        Networks", 2016, on scales of least squared error for the three codes of a symmetric grid.
    """

    name = "weight-int2"
    bits = 2

    granularity: Literal["block", "channel", "tensor"] = option(
        "block", "one scale for each block of inputs, for each output channel, or in all"
    )
    symmetric: bool = option(False, "codes around zero; otherwise over the range of the values, with a zero point")
    range: Literal["max", "mse"] = option(
        "mse", "what the codes span: all values, or what makes the squared error least"
    )
