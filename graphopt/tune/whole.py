"""Variants that cannot be put together node by node: one unit, which is the whole model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphopt.errors import CouldNotTell
from graphopt.tune.splice import Mixture, Splice, Unit
from graphopt.tune.variants import Variant


@dataclass
class Whole:
    """Like a `Splice`, with a single unit."""

    variants: Sequence[Variant]
    units: list[Unit] = field(init=False)

    def __post_init__(self) -> None:
        kinds: dict[bytes, int] = {}
        numbered = tuple(kinds.setdefault(one.data, len(kinds)) for one in self.variants)
        taken = tuple(one.taken for one in self.variants)
        nodes = tuple(dict.fromkeys(one.node for variant in taken for one in variant))
        self.units = [Unit(0, frozenset(), numbered, taken, nodes, "model", "model")]

    def everything(self, variant: int) -> dict[Unit, int]:
        """The mixture that is one of the variants."""
        return dict.fromkeys(self.units, variant)

    def mixed(self, mixture: Mixture) -> bytes:
        """The model that a mixture stands for."""
        return self.variants[mixture[self.units[0]]].data


def spliced(variants: Sequence[Variant]) -> tuple[Splice | Whole, str | None]:
    """The variants taken apart, and where that cannot be done node by node the reason."""
    try:
        return Splice(variants), None
    except CouldNotTell as error:
        return Whole(variants), str(error)
