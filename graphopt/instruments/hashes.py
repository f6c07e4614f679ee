"""The hash of the model after each pass, by which two runs are compared."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Graph, encode
from graphopt.pipeline.instrument import Instrument, Turn
from graphopt.storage.source import Source


@dataclass(frozen=True)
class Hashed:
    """SHA-256 (hex) of the canonical bytes of the model, weights inside, after one turn."""

    turn: int
    pass_name: str
    round: int
    sha256: str


class Hashes(Instrument):
    """One hash for each turn that changed something."""

    def __init__(self) -> None:
        self.seen: list[Hashed] = []

    def begins(self, graph: Graph) -> None:
        self.seen.clear()

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        if turn.changed:
            encoded = encode(graph)
            digest = Source(None, encoded.proto, encoded.store).sha256()
            self.seen.append(Hashed(turn.place.turn, turn.place.pass_.name, turn.place.round, digest))
