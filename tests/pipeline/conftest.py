"""Little passes that the tests of this room write pipelines with."""

# No `from __future__ import annotations` here: the options of these classes must not depend on
# what the name `conftest` means in sys.modules while another folder's tests run.
import enum
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from graphopt.pipeline import Context, Contract, Pass, Registry, option


class Tone(enum.Enum):
    WARM = "warm"
    COLD = "ice cold"
    MUTE = 0


class Still(Pass):
    """A pass that changes nothing: pipelines are read here, not run."""

    def run(self, graph: Any, ctx: Context) -> None:
        return None


@dataclass(frozen=True)
class Sweep(Still):
    """Sweep the floor."""

    name = "sweep"
    contract = Contract.EXACT


@dataclass(frozen=True)
class Polish(Still):
    """Polish what was swept."""

    name = "polish"
    contract = Contract.ROUNDING
    rounds: int = option(3, "how often")


@dataclass(frozen=True)
class Paint(Still):
    """Paint over it."""

    name = "paint"
    contract = Contract.LOSSY
    wet: bool = option(False, "whether it is wet")
    coats: int = option(2, "number of coats")
    scale: float = option(0.5, "how thick")
    title: str = option("wall", "what it is")
    side: Literal["left", "right", "on top"] = option("left", "where")
    bits: Literal[4, 8, "auto", True] = option(8, "how fine")
    tone: Tone = option(Tone.WARM, "which tone")  # noqa: RUF009 - `option` returns a field
    skip_rooms: tuple[str, ...] = option((), "rooms to leave")
    widths: tuple[int, ...] = option((1, 2), "widths in cm")
    mix: tuple[float, ...] = option((), "shares")
    tones: tuple[Tone, ...] = option((), "all tones")
    switches: tuple[bool, ...] = option((), "switches")
    limit: int | None = option(None, "at most")
    ratio: float | None = option(0.25, "share")
    note: str | None = option("dry", "a remark")
    doors: tuple[str, ...] | None = option(("front",), "doors to paint")
    edge: Literal["none", "round"] | None = option("round", "kind of edge")

    def __post_init__(self) -> None:
        if self.coats < 0:
            raise ValueError(f"coats must not be negative, not {self.coats}")


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.of([Sweep, Polish, Paint], family="samples")
