"""Shapes that are only inferred when somebody asks."""

from __future__ import annotations

from graphopt.analysis.dims import Dim
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Tensor
from graphopt.pipeline.protocol import Context


class Facts:
    """The shapes of one model as they are at the first question. Edits that keep what values mean leave
    the answers right; of values that come later nothing is known."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._shapes: Shapes | None = None

    def dims(self, tensor: Tensor) -> tuple[Dim, ...] | None:
        """The dims as expressions, see `Shapes.dims`."""
        return self._known().dims(tensor)

    def rank(self, tensor: Tensor) -> int | None:
        """How many dims, None when unknown."""
        return self._known().rank(tensor)

    def _known(self) -> Shapes:
        if self._shapes is None:
            self._shapes = self._ctx.shapes
        return self._shapes
