"""Keep weights as 16-bit integers."""

from __future__ import annotations

from dataclasses import dataclass

from passes.quantize.integers import WeightIntegers


@dataclass(frozen=True)
class WeightInt16(WeightIntegers):
    """Keep weights as 16-bit integers and scales, half of their size and hardly another function.

    What it does
        What weight-int8 does, with the 65,535 codes -32767 to 32767: half the size of float32, and with a
        scale for each output channel a good deal nearer to it than float16. float16 and bfloat16
        weights would not get smaller and are left.

    Example
        before: y = Conv(x, w)                                     w: float[64,64,3,3]
        after:  w_dequantized = DequantizeLinear<axis=0>(w_int16, w_scale)
                y = Conv(x, w_dequantized)                         w_int16: int16[64,64,3,3]

    When not
        Left, with the reason, is what weight-int8 leaves, and what would not get smaller. The model
        needs opset 21: raise it with opset{to=21} first.

        Runtimes have no kernels for 16-bit weights and dequantize them at every run, unless they are
        made floats at load: a Cast and a Mul in place of DequantizeLinear is folded there.

    Contract
        LOSSY: needs a budget. Half a step of a channel is 1/65,534 of its largest weight; models
        usually keep 80 dB and more.

    Source
        ONNX operator DequantizeLinear 21 (int16).
    """

    name = "weight-int16"
    bits = 16
