"""Keep weights as 16-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.pipeline.protocol import option
from passes.quantize.integers import WeightIntegers


@dataclass(frozen=True)
class WeightInt16(WeightIntegers):
    """Keep weights as 16-bit integers and scales, half of their size and hardly another function.

    What it does
        What weight-int8 does, with the 65,535 codes -32767 to 32767: half the size of float32, and with a
        scale for each output channel a good deal nearer to it than float16. float16 and bfloat16
        weights would not get smaller and are left.

        form=cast, which is the default here, reads Mul(Cast(q), s) in the weight's place, at any opset
        from 7 on. Runtimes compute that once, at load, in bodies too: measured, the model is as fast and
        takes as much memory as with floats. form=dequantize reads DequantizeLinear, and needs opset 21.

    Example
        before: y = Conv(x, w)                                            w: float[64,64,3,3]
        after:  c = Cast<to=float>(w_int16)  v = Mul(c, w_scale)          w_int16: int16[64,64,3,3]
                y = Conv(x, v)                                            w_scale: float[64,1,1,1]

    When not
        Left, with the reason, is what weight-int8 leaves, and what would not get smaller. Runtimes have
        no kernels for 16-bit weights: with form=dequantize they dequantize them at every run.

    Contract
        LOSSY: needs a budget. Half a step of a channel is 1/65,534 of its largest weight; models
        usually keep 80 dB and more, and recognizers read what they read before.

    Source
        ONNX operators Cast, Mul, DequantizeLinear 21 (int16).
    """

    name = "weight-int16"
    bits = 16

    form: Literal["dequantize", "cast"] = option(
        "cast", "what makes floats of codes: DequantizeLinear, or Cast and Mul, which runtimes compute at load"
    )
