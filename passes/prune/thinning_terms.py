"""The options that passes have which take units out of what a linear layer reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.pipeline.protocol import Contract, Pass, option


@dataclass(frozen=True)
class Terms(Pass):
    """What `neurons` and `heads` share."""

    contract = Contract.LOSSY
    calibrates = True
    strength = "share"

    share: float = option(0.25, "share of the units that goes")
    importance: Literal["magnitude", "activation", "second-order", "output"] = option(
        "second-order",
        "norms of weights, these times the size of activations, error after best repair, or the same at the outputs",
    )
    allocation: Literal["uniform", "error"] = option("error", "where it costs least, or the same share of each")
    repair: bool = option(True, "fit the layer behind to what it made in the original")
    damping: float = option(
        0.0, "share of the mean energy of the inputs that pulls towards the weights there are; 0 finds the best"
    )
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    multiple: int = option(1, "numbers of units that are left are multiples of this")
    samples: int = option(32, "samples of the calibration feeds that importance=output runs on; 0 for all")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and values to narrow; all when empty")

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share must be from 0 to below 1, and {self.share:g} is not")
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")
        if min(self.rows, self.samples) < 0 or self.multiple < 1:
            raise ValueError("rows and samples must not be negative, and multiple must be at least 1")

    @property
    def sees(self) -> bool:
        """Whether activations are asked for."""
        return self.repair or self.importance != "magnitude" or self.allocation != "uniform"
