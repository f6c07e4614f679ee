"""Keep weights as 8-bit integers."""

from __future__ import annotations

from dataclasses import dataclass

from passes.quantize.integers import WeightIntegers


@dataclass(frozen=True)
class WeightInt8(WeightIntegers):
    """Keep weights as 8-bit integers and scales, about a quarter of their size.

    What it does
        Replaces each float weight w by int8 codes q and a scale s, read through DequantizeLinear,
        so that the model computes with q * s, at most half a step s / 2 from w. Weights of Conv,
        ConvTranspose, Gemm, MatMul, Gather, LSTM, GRU and RNN, whether initializers or Constant
        nodes, in bodies and functions, also where the operator reads them through Transpose,
        Reshape or the like.

        granularity=channel gives every output channel a scale of its own: axis 0 of Conv, axis 1
        of ConvTranspose (the channel within a group; axis 0 where each group has one input and one
        output), the N axis of Gemm and of a right operand of MatMul, the M axis of a left one, the
        gate axis 1 of LSTM, GRU and RNN (shared by the directions), and the columns of a Gather
        table. A tensor that several operators read gets one scale for all where their channels
        lie along different axes. granularity=block gives each `block` inputs of a channel a scale:
        along the K axis of MatMul and Gemm, the input axis of LSTM, GRU, RNN and of a Conv of one
        point, and along the rows of a table, so that a table that is also a projection agrees with
        itself; every other weight gets scales for each channel. A block longer than a row is the row.
        What is read in parts (Slice, Split, Concat) is made floats before, with a scale for each row.

        Symmetric codes are -127 to 127 and s is the largest magnitude / 127, rounded up; with
        symmetric=false, codes are -128 to 127 over the range of the values and zero, and zero has
        a code of its own, kept as an int8 zero point. signed=false stores the same codes as uint8
        with a zero point. range=mse looks, for each scale, for the part of the range that makes the
        squared error least, and clips what lies beyond. Zero always stays zero. The scale of a
        channel of zeros is 1, and no scale is below the smallest normal number (2^-17 in float16).

        DequantizeLinear stands behind nodes that only move elements: a Gather looks up integers
        and only the rows that it found are made floats.

        form=cast writes Mul(Cast(q), s) in the weight's place instead, with a Sub where there is a zero
        point, at any opset from 7 on. Runtimes compute that once, at load, in bodies too: the file is as
        small, and the model is as fast and takes as much memory as with floats.

    Example
        before: y = MatMul(x, w)                                   w: float[512,512]
        after:  w_dequantized = DequantizeLinear<axis=1>(w_int8, w_scale)
                y = MatMul(x, w_dequantized)                       w_int8: int8[512,512]

    When not
        range=mse with 8 bits gains little, and where few rows are read most, as of tables of words, the ones
        that it clips may be those: measured on a sentence embedding, 27 dB in place of 35.

        Left, with the reason: weights that callers may override, that are graph outputs, or that
        something else reads too; biases; float64; NaN, infinities and values beyond half the
        largest float; tensors below min-elements, or that would not get smaller. Scales for each
        channel need opset 13, float16 and bfloat16 weights opset 19, blocks opset 21: raise it with
        the pass opset.

        This makes files small, not models fast. Runtimes dequantize at every run where they have
        no kernel for integer weights: measured on a CPU, a Conv takes 1.2 times as long. onnxruntime
        runs MatMul on 8-bit weights in integers, and quantizes activations to do so, unasked.

    Contract
        LOSSY: needs a budget. Half a step of a channel is 1/254 of its largest weight; 8 bits a
        channel usually keep 30 dB and more. Per tensor, outliers cost accuracy.

    Source
        ONNX operator DequantizeLinear (10, 13, 19, 21, 23 ...). Jacob et al., "Quantization and
        Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
        Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, on
        scales for each channel.
    """

    name = "weight-int8"
    bits = 8
