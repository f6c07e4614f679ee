"""What the passes that keep weights as integers have in common: their options, and how they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Wishes
from passes.quantize.formats import Format
from passes.quantize.rewriting import Rounding, nearest, quantize


@dataclass(frozen=True)
class WeightIntegers(Pass):
    """Keep weights as integers of `bits` bits; subclasses say how many, and have the name and the page."""

    contract = Contract.LOSSY
    bits: ClassVar[int]

    granularity: Literal["block", "channel", "tensor"] = option(
        "channel", "one scale for each block of inputs, for each output channel, or in all"
    )
    symmetric: bool = option(True, "codes around zero; otherwise over the range of the values, with a zero point")
    min_elements: int = option(1024, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")
    block: int = option(32, "inputs that share a scale, where granularity is block")
    range: Literal["max", "mse"] = option(
        "max", "what the codes span: all values, or what makes the squared error least"
    )
    form: Literal["dequantize", "cast"] = option(
        "dequantize", "what makes floats of codes: DequantizeLinear, or Cast and Mul, which runtimes compute at load"
    )
    signed: bool = option(True, "codes with a sign; otherwise from 0 on, with a zero point")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")
        if self.block < 2:
            raise ValueError(f"block must be at least 2, and {self.block} is not")

    @property
    def wishes(self) -> Wishes:
        """Which weights to take, as the options say."""
        block = self.block if self.granularity == "block" else 0
        return Wishes(self.min_elements, self.skip, self.bits, self.granularity != "tensor", block, self.form)

    @property
    def format(self) -> Format:
        """The format of the codes, as the options say."""
        return Format(self.bits, self.symmetric, self.signed, self.range)

    def run(self, graph: Graph, ctx: Context) -> None:
        quantize(graph, ctx, self.wishes, self.format.grid, self.rounding(graph, ctx))

    def rounding(self, graph: Graph, ctx: Context) -> Rounding:
        """How codes are picked; subclasses may look at more than the values."""
        return nearest
