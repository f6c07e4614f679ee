"""What the passes that round weights with data have in common: their options, and how they run."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Wishes
from passes.quantize.formats import Format
from passes.quantize.layer_rounding import Method
from passes.quantize.layerwise import Schedule, quantize


@dataclass(frozen=True)
class DataRounding(Pass):
    """Round weights so that the outputs of their layers change least; subclasses have the method and the page."""

    contract = Contract.LOSSY
    calibrates = True

    bits: Literal[2, 4, 8] = option(4, "bits of a code; 4 needs opset 21, 2 needs opset 25")
    granularity: Literal["auto", "block", "channel", "tensor"] = option(
        "auto",
        "one scale for each block of inputs, each output channel, or in all; auto: channel for 8 bits, else block",
    )
    block: int = option(32, "inputs that share a scale, where granularity is block")
    symmetric: bool = option(True, "codes around zero; otherwise over the range of the values, with a zero point")
    signed: bool = option(True, "codes with a sign; otherwise from 0 on, with a zero point")
    range: Literal["max", "mse", "activations"] = option(
        "mse",
        "what the codes span at first: all values, what makes the squared error least, or that error times the "
        "energy of the inputs",
    )
    damping: float = option(0.03, "share of the mean energy of the inputs that holds weights where they are")
    fits: int = option(1, "how often scales are fitted to the codes by least squares")
    stages: int = option(8, "groups of layers, each of which sees the ones before it rounded; 0: every level of depth")
    correction: float = option(0.5, "share of the errors of stages before that a layer is to make up for, 0 to 1")
    rows: int = option(1024, "rows of inputs that are looked at in a sample of a feed, for each layer; 0: all")
    tables: bool = option(True, "round the tables of Gather too, each value to nearest")
    min_elements: int = option(1024, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        for name in ("min_elements", "fits", "stages", "rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name.replace('_', '-')} must not be negative, and {getattr(self, name)} is")
        if self.block < 2:
            raise ValueError(f"block must be at least 2, and {self.block} is not")
        if not 0 <= self.correction <= 1:
            raise ValueError(f"correction must be from 0 to 1, and {self.correction:g} is not")
        if not 0 < self.damping < float("inf"):
            raise ValueError(f"damping must be a positive number, and {self.damping:g} is not")

    @property
    def wishes(self) -> Wishes:
        """Which weights to take, as the options say."""
        kind = self.granularity if self.granularity != "auto" else "channel" if self.bits == 8 else "block"
        block = self.block if kind == "block" else 0
        return Wishes(self.min_elements, self.skip, self.bits, kind != "tensor", block)

    @property
    @abstractmethod
    def method(self) -> Method:
        """How codes are found."""

    def run(self, graph: Graph, ctx: Context) -> None:
        form = Format(self.bits, self.symmetric, self.signed, self.range)
        schedule = Schedule(self.stages, self.rows, self.correction)
        quantize(graph, ctx, self.wishes, form, self.method, schedule, self.tables)
