"""Keep weights as integers, each rounded up or down as is best for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.pipeline.protocol import option
from passes.quantize.data_rounding import DataRounding
from passes.quantize.layer_rounding import Method


@dataclass(frozen=True)
class AdaRound(DataRounding):
    """Keep weights as integers, each rounded up or down as is best for the outputs of its layer.

    What it does
        As gptq, with another search for the codes: the same squared error of the outputs of each
        layer is made smaller by coordinate descent. Each weight in turn takes the code that is best
        given all others, for at most `sweeps` rounds, or until no single change helps.
        choices=neighbours chooses between the two codes next to a weight, so that no weight moves
        by a whole step; choices=all among all codes. It starts at the nearest codes, or
        with start=gptq at what gptq finds.

        No output of a layer ends with a larger error on the calibration data than round-to-nearest on
        the same first grid gives it, and none with a larger one than what it started from.

    Example
        adaround{bits=8}
        before: y = Conv(x, w)                                     w: float[64,32,3,3]
        after:  w_dequantized = DequantizeLinear<axis=0>(w_int8, w_scale)
                y = Conv(x, w_dequantized)

    When not
        As gptq, which is a little faster and mostly ends nearer at 4 bits. With few samples, neighbours
        is the safer choice of the two: it cannot fit noise far from the weights.

        Costs, besides the runs over the feeds, outputs * inputs^2 multiplications in float64 for
        each layer and round.

    Contract
        LOSSY: needs a budget.

    Source
        Nagel, Amjad, van Baalen, Louizos, Blankevoort, "Up or Down? Adaptive Rounding for
        Post-Training Quantization", ICML 2020; here its quadratic problem is solved by coordinate
        descent, without gradients, as in Behdin et al., "QuantEase: Optimization-based
        Quantization for Language Models", 2023. Hubara et al., "Accurate Post Training Quantization
        With Small Calibration Sets", ICML 2021 (AdaQuant), on scales.
    """

    name = "adaround"

    bits: Literal[2, 4, 8] = option(8, "bits of a code; 4 needs opset 21, 2 needs opset 25")
    choices: Literal["neighbours", "all"] = option("neighbours", "the two codes next to a weight, or all codes")
    start: Literal["nearest", "gptq"] = option("nearest", "the codes to start from")
    sweeps: int = option(12, "rounds over all weights, at most")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sweeps < 1:
            raise ValueError(f"sweeps must be at least 1, and {self.sweeps} is not")

    @property
    def method(self) -> Method:
        return Method(self.start == "gptq", True, self.sweeps, self.choices == "neighbours", self.fits, self.damping)
