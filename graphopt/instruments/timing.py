"""Wall time of every run of every pass."""

from __future__ import annotations

import time
from collections import defaultdict

from graphopt.ir import Graph
from graphopt.pipeline.instrument import Instrument, Place, Turn


class Timing(Instrument):
    """Seconds by turn and by pass name; time of instruments is not counted."""

    def __init__(self) -> None:
        self.turns: dict[int, float] = {}
        self.passes: dict[str, float] = defaultdict(float)
        self._start = 0.0

    def begins(self, graph: Graph) -> None:
        self.turns.clear()
        self.passes.clear()

    def before_pass(self, place: Place, graph: Graph) -> None:
        self._start = time.perf_counter()

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        seconds = time.perf_counter() - self._start
        self.turns[turn.place.turn] = seconds
        self.passes[turn.place.pass_.name] += seconds
