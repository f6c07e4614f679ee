"""Keep weights as integers that make up for each other's errors."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.pipeline.protocol import option
from passes.quantize.data_rounding import DataRounding
from passes.quantize.layer_rounding import Method


@dataclass(frozen=True)
class Gptq(DataRounding):
    """Keep weights as integers, rounded so that each makes up for the errors of those before it.

    What it does
        Writes what weight-int4, weight-int8 or weight-int2 write (the option bits), as small and as
        fast, but with codes chosen by what they do to the outputs of a layer. Feeds are streamed
        through the model and the Gram matrix H of what each weight multiplies is summed up; the
        error of codes q in place of w is then (w - q)' H (w - q). Inputs are rounded one after the
        other, those of largest energy first (order), and what one loses the ones not rounded yet
        make up for, as well as they can. `sweeps` rounds of coordinate descent and `fits` of
        least squares for the scales follow.

        MatMul and Gemm on either side, Conv (its patches; strides, pads, dilations, groups),
        ConvTranspose (exactly where its kernel is no larger than its strides) and the inputs of LSTM,
        GRU and RNN. A weight that several operators read minimises the sum of their errors. No
        output of a layer ends with a larger error on the calibration data than round-to-nearest on
        the same first grid gives it. The remark says how much of that error is left.

        Layers are taken in `stages`, shallow ones first; later ones see the inputs that the rounded
        model gives them, and make up for `correction` of the error that is in these already, where
        the float values are still those of the model as it was read.

        Rounded to nearest, and their remarks say so: tables of Gather (left with tables=false),
        states of recurrent operators, what several operators read in different layouts, and
        layers whose inputs were not seen, or were all zero, infinite or NaN.

    Example
        gptq{bits=4}
        before: y = MatMul(x, w)                                   w: float[512,512]
        after:  w_dequantized = DequantizeLinear<axis=0, block_size=32>(w_int4, w_scale)
                y = MatMul(x, w_dequantized)                       w_int4: int4[512,512], w_scale: float[16,512]

    When not
        Without data that are like those of later use: codes fit what was seen. A few thousand rows
        (tokens, places of an image) for each layer are good, a few hundred too few: raise damping then.
        At 8 bits a channel round-to-nearest is often good enough. What weight-int4 and weight-int8 leave
        is left here, with the same reasons.

        Costs, for each stage, one run of the model and one of the original over the calibration
        feeds, and for each layer inputs^3 + outputs * inputs^2 * (1 + sweeps) multiplications in
        float64: 5 million weights of MatMuls and 13,000 tokens take 15 seconds of a CPU in one stage
        and 40 in eight; a CNN of 4 million weights 16 in one. Gram matrices of a run take up to
        256 MB, or what those of one layer need; more than 8192 inputs are rounded to nearest.

    Contract
        LOSSY: needs a budget. Measured on data that were not calibrated on, outputs of transformers come
        out 4 to 6 dB nearer than with round-to-nearest at 4 bits in blocks of 32, and those of CNNs
        7 to 11 dB nearer at 8 bits a channel.

    Source
        Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for
        Generative Pre-trained Transformers", ICLR 2023. Hubara et al., "Accurate Post Training
        Quantization With Small Calibration Sets", ICML 2021 (AdaQuant), on scales and on seeing
        the rounded layers before. Behdin et al., "QuantEase", 2023, on coordinate descent.
    """

    name = "gptq"

    order: bool = option(True, "round the inputs of largest energy first")
    sweeps: int = option(4, "rounds of coordinate descent over all codes, after each of the steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sweeps < 0:
            raise ValueError(f"sweeps must not be negative, and {self.sweeps} is")

    @property
    def method(self) -> Method:
        return Method(True, self.order, self.sweeps, False, self.fits, self.damping)
