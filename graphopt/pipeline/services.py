"""What the session provides to passes; the pipeline knows only these signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from graphopt.pipeline.protocol import Calibration, Measure, Training

if TYPE_CHECKING:
    from graphopt.analysis.activations import Array, Observation, Observed
    from graphopt.analysis.changes import Change, Measured
    from graphopt.analysis.evaluated import Evaluated
    from graphopt.analysis.lesson import Learnt, Lesson
    from graphopt.analysis.shapes import Shapes, SharedShapes
    from graphopt.ir import Graph, Tensor


class Services(Protocol):
    """Facts that a pass may ask for, computed outside of it."""

    def shapes(self, graph: Graph) -> Shapes:
        """Dtypes and shapes of the graph as it is now, inferred from its inputs."""
        ...

    def evaluate(self, graph: Graph, values: Iterable[Tensor]) -> Evaluated:
        """The values that are computed from constants only, as far as limits allow."""
        ...

    def calibration(self, graph: Graph) -> Calibration:
        """What feeds say about the activations of the graph as it is when asked."""
        ...

    def measure(self, graph: Graph) -> Measure:
        """What changes of the graph as it is when asked would do to its outputs."""
        ...

    def training(self, graph: Graph) -> Training:
        """Training of the graph as it is when asked."""
        ...


class NoCalibration:
    """There are no feeds: every question is refused with the reason."""

    def __init__(self, why: str) -> None:
        self.why_not: str | None = why

    def observe(self, observations: Sequence[Observation]) -> Observed:
        from graphopt.analysis.activations import Observed

        return Observed(0, dict.fromkeys(observations, self.why_not or ""))

    def worked_out(
        self, question: str, given: Sequence[Array], make: Callable[[], Mapping[str, Array]]
    ) -> Mapping[str, Array]:
        return make()

    def changes(self, changes: Sequence[Change], samples: int = 0) -> Measured:
        from graphopt.analysis.changes import Measured

        return Measured(refused=dict.fromkeys(changes, self.why_not or ""))


class NoTraining:
    """Nothing can be trained: every lesson is refused with the reason."""

    def __init__(self, why: str) -> None:
        self.why_not: str | None = why

    def train(self, lesson: Lesson) -> Learnt | str:
        return self.why_not or ""


class NoServices:
    """Services of a pass that runs on its own, in this process: shapes by inference, and of the values
    those that leave no choice (see `graphopt.analysis.arithmetic`)."""

    def __init__(self) -> None:
        self._shapes: SharedShapes | None = None

    def shapes(self, graph: Graph) -> Shapes:
        from graphopt.analysis.shapes import SharedShapes

        if self._shapes is None:
            self._shapes = SharedShapes()
        return self._shapes.of(graph)

    def evaluate(self, graph: Graph, values: Iterable[Tensor]) -> Evaluated:
        from graphopt.analysis.evaluated import evaluate_here

        return evaluate_here(graph, values)

    def calibration(self, graph: Graph) -> Calibration:
        return NoCalibration("there is nothing that runs the model")

    def measure(self, graph: Graph) -> Measure:
        return NoCalibration("there is nothing that runs the model")

    def training(self, graph: Graph) -> Training:
        return NoTraining("there is nothing that runs the model")
