"""Gram matrices of what the weights of an operator multiply, summed up feed by feed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.analysis.layer_inputs import Rows, piecewise

Array = np.ndarray[Any, Any]


class LayerGram:
    """Sums x x' over the rows x of one value: `matrix` float64 [groups, inputs, inputs].

    Given two values, the second of which is what the first was in another model, it also sums
    x_first x_second' in `cross`. Of each sample of a feed (its leading axis) at most `most` rows are
    looked at (0: all), spread evenly. Products are float32, sums over pieces float64.
    """

    def __init__(self, rows: Rows, most: int = 0) -> None:
        self.rows, self.most = rows, most
        self.count = 0
        self.matrix: Array = np.zeros((0, 0, 0))
        self.cross: Array | None = None
        self.trouble: str | None = None

    @property
    def key(self) -> str:
        return f"layer gram {self.rows.key} most={self.most}"

    def update(self, *values: Array) -> None:
        data = values[0]
        if self.trouble is None:
            self.trouble = self.rows.why_not(data)
        if self.trouble is None and any(value.shape != data.shape for value in values):
            self.trouble = "its data had another shape in the original"
        if self.trouble is not None or data.size == 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            for which in piecewise(self.rows.places(data), self.most * data.shape[0], self._width(data)):
                self._add(*(self.rows.rows(value, which) for value in values))

    def state(self) -> dict[str, Array]:
        """What it has summed up, to be kept."""
        found = {"matrix": self.matrix, "count": np.array(self.count)}
        if self.cross is not None:
            found["cross"] = self.cross
        if self.trouble is not None:
            found["trouble"] = np.array(self.trouble)
        return found

    def restore(self, state: Mapping[str, Array]) -> None:
        """Be as one that had this state."""
        self.matrix, self.cross = state["matrix"], state.get("cross")
        self.count = int(state["count"])
        self.trouble = str(state["trouble"]) if "trouble" in state else None

    def _width(self, data: Array) -> int:
        return int(self.rows.rows(data, np.zeros(1, np.int64)).size)

    def _add(self, one: Array, other: Array | None = None) -> None:
        if self.count == 0:
            groups, _, size = one.shape
            self.matrix = np.zeros((groups, size, size))
            if other is not None:
                self.cross = np.zeros((groups, size, size))
        elif one.shape[::2] != self.matrix.shape[:2]:
            self.trouble = "its data change in size from feed to feed"
            return
        self.count += one.shape[1]
        flat = one.transpose(0, 2, 1)
        self.matrix += flat @ one
        if other is not None and self.cross is not None:
            self.cross += flat @ other
