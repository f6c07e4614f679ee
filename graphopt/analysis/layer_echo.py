"""The normal equations of a layer whose results cannot be observed: they are what its weights make of its data."""

from __future__ import annotations

import hashlib

import numpy as np

from graphopt.analysis.layer_fit import Array, LayerFit
from graphopt.analysis.layer_inputs import Rows


class LayerEcho(LayerFit):
    """Sums over rows of the data of a layer, and over what `weights` [groups, inputs, outputs] make of them.

    For what LayerFit cannot be given results of: inner products of recurrent operators, transposed convolutions
    (whose products are summed up further), weights on the left, weights that several nodes read. It is given
    the data alone.
    """

    def __init__(self, rows: Rows, weights: Array, most: int = 0) -> None:
        super().__init__(rows, most)
        self.weights = np.ascontiguousarray(weights, np.float32)

    @property
    def key(self) -> str:
        return f"layer echo {super().key} of {hashlib.sha256(self.weights.tobytes()).hexdigest()}"

    def update(self, *values: Array) -> None:
        super().update(values[0], values[0])

    def _why_not(self, data: Array, results: Array) -> str | None:
        found = self.rows.rows(data, np.zeros(min(self.rows.places(data), 1), np.int64))
        if found.shape[::2] != self.weights.shape[:2]:
            return "its data are not as wide as its weight"
        return None

    def _results(self, results: Array, which: Array) -> Array:
        return self.rows.rows(results, which) @ self.weights
