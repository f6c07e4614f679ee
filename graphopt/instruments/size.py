"""What each pass did to the size of the model: nodes, initializers, bytes of weights."""

from __future__ import annotations

from graphopt.analysis.cost import Facts, facts
from graphopt.ir import Graph
from graphopt.pipeline.instrument import Instrument, Turn


class Size(Instrument):
    """Facts before the run, and after every turn that changed something."""

    def __init__(self) -> None:
        self.before: Facts | None = None
        self.after: dict[int, Facts] = {}

    def begins(self, graph: Graph) -> None:
        self.before = facts(graph)
        self.after.clear()

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        if turn.changed:
            self.after[turn.place.turn] = facts(graph)

    @property
    def last(self) -> Facts:
        """The facts after the last change; those before when nothing changed."""
        assert self.before is not None, "asked before the run began"
        return list(self.after.values())[-1] if self.after else self.before
