"""What closed-form machinery asks of the context of the pass that uses it; `pipeline.protocol.Context` is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from graphopt.analysis.activations import Observation, Observed
from graphopt.analysis.changes import Change, Measured
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Node, Tensor


class Observing(Protocol):
    """What is known about activations."""

    def observe(self, observations: Sequence[Observation]) -> Observed:
        """See `pipeline.protocol.Calibration`."""
        ...


class Measuring(Protocol):
    """What changes would do to the outputs."""

    def changes(self, changes: Sequence[Change], samples: int = 0) -> Measured:
        """See `pipeline.protocol.Measure`."""
        ...


class Asker(Protocol):
    """See `pipeline.protocol.Context`."""

    @property
    def shapes(self) -> Shapes: ...

    @property
    def calibration(self) -> Observing: ...

    @property
    def measure(self) -> Measuring: ...

    def originals(self, tensor: Tensor) -> tuple[str, ...]: ...

    def rewrite(self, rule: str, subject: Node | Tensor, detail: str = "") -> bool: ...

    def missed(self, rule: str, subject: Node | Tensor, why: str) -> None: ...
