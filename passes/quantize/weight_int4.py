"""Keep weights as 4-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.pipeline.protocol import option
from passes.quantize.integers import WeightIntegers


@dataclass(frozen=True)
class WeightInt4(WeightIntegers):
    """Keep weights as 4-bit integers and scales for blocks, about a sixth of their size.

    What it does
        Replaces each float weight w by int4 codes q, two in a byte, and a scale s for each `block`
        inputs of a channel, read through DequantizeLinear as (q - z) * s. Blocks lie along the axis
        that the operator sums over: K of MatMul and Gemm, the inputs of LSTM, GRU, RNN and of a
        Conv of one point; and along the rows of a Gather's table. A table that is also a projection
        (tied embeddings) stays one tensor. Other convolutions, and everything with
        granularity=channel, get a scale for each output channel. The last block of a row may be
        shorter; one that is longer than a row is the row.

        With symmetric=false, each block also has a zero point of 4 bits, and its 16 codes cover its own
        range: 1/8 bit more for each weight at blocks of 32, and 1 to 2 dB. range=mse looks, for each
        scale, for the part of the range that makes the squared error least and clips what lies beyond:
        about 1 dB more than range=max, which keeps every weight within half a step.

        ONNX has no Gather of 4-bit integers and runtimes have no kernels that rearrange them,
        but for Transpose: elsewhere DequantizeLinear stands before what looks up or moves.

    Example
        before: y = MatMul(x, w)                                   w: float[512,512]
        after:  w_dequantized = DequantizeLinear<axis=0, block_size=32>(w_int4, w_scale)
                y = MatMul(x, w_dequantized)                       w_int4: int4[512,512], w_scale: float[16,512]

    When not
        Left, with the reason, is what weight-int8 leaves, and what would not get smaller. The model
        needs opset 21: raise it with opset{to=21} first.

        Runtimes with a kernel for 4-bit weights (onnxruntime's MatMulNBits, made of this form at load)
        run MatMul faster than in float; others dequantize at every run. A table is dequantized whole
        for each lookup: on onnxruntime let ort-gather-block-quantized follow, elsewhere name
        the table in skip and give it to weight-int8.

    Contract
        LOSSY: needs a budget. Round to nearest in blocks of 32 keeps weights at about 20 dB, with zero
        points 22; rounding that looks at activations (gptq) and larger budgets are for models that lose
        too much.

    Source
        ONNX operator DequantizeLinear 21 (int4, block_size). Dettmers and Zettlemoyer, "The case for
        4-bit precision: k-bit Inference Scaling Laws", ICML 2023, on blocks. Choukroun et al.,
        "Low-bit Quantization of Neural Networks for Efficient Inference", 2019, on ranges of least
        squared error.
    """

    name = "weight-int4"
    bits = 4

    granularity: Literal["block", "channel", "tensor"] = option(
        "block", "one scale for each block of inputs, for each output channel, or in all"
    )
    range: Literal["max", "mse"] = option(
        "mse", "what the codes span: all values, or what makes the squared error least"
    )
