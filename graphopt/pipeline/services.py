"""What the session provides to passes; the pipeline knows only these signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from graphopt.analysis.shapes import Shapes
    from graphopt.ir import Graph


class Services(Protocol):
    """Facts that a pass may ask for, computed outside of it."""

    def shapes(self, graph: Graph) -> Shapes:
        """Dtypes and shapes of the graph as it is now, inferred from its inputs."""
        ...


class NoServices:
    """Services of a pass that runs on its own: shapes by inference in this process."""

    def shapes(self, graph: Graph) -> Shapes:
        from graphopt.analysis.shapes import infer

        return infer(graph)
