"""The normal equations of a layer: which weights make of its data now what the layer made in another model."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.analysis.layer_inputs import Patches, Points, Rows, piecewise

Array = np.ndarray[Any, Any]


class LayerFit:
    """Sums over rows x of the data of a layer and what should come of them, y: given the data, then the results.

    `gram` is the sum of (x, 1) (x, 1)' [groups, inputs + 1, inputs + 1], `cross` that of (x, 1) y'
    [groups, inputs + 1, outputs], `energy` that of y^2 [groups, outputs], all float64; `count` rows were seen.
    At most `most` rows of a feed are looked at (0: all), spread evenly.
    """

    def __init__(self, rows: Rows, most: int = 0) -> None:
        self.rows, self.most = rows, most
        self.count = 0
        self.gram: Array = np.zeros((0, 0, 0))
        self.cross: Array = np.zeros((0, 0, 0))
        self.energy: Array = np.zeros((0, 0))
        self.trouble: str | None = None

    @property
    def key(self) -> str:
        return f"layer fit {self.rows.key} most={self.most}"

    def update(self, *values: Array) -> None:
        data, results = values
        if self.trouble is None:
            self.trouble = self.rows.why_not(data) or self._why_not(data, results)
        if self.trouble is not None or data.size == 0:
            return
        width = int(self.rows.rows(data, np.zeros(1, np.int64)).size)
        with np.errstate(over="ignore", invalid="ignore"):
            for which in piecewise(self.rows.places(data), self.most, width):
                self._add(self.rows.rows(data, which), self._results(results, which))

    @property
    def _groups(self) -> int:
        return self.rows.groups if isinstance(self.rows, Patches | Points) else 1

    def _why_not(self, data: Array, results: Array) -> str | None:
        axis = 1 if isinstance(self.rows, Patches) else -1
        if data.size == 0:
            return None
        if results.ndim < 2 or results.shape[axis] % self._groups:
            return f"its results have shape {results.shape}"
        if results.size // max(results.shape[axis], 1) != self.rows.places(data):
            return f"its results of shape {results.shape} do not fit data of shape {data.shape}"
        return None

    def _results(self, results: Array, which: Array) -> Array:
        """float32 [groups, places, outputs]."""
        axis = 1 if isinstance(self.rows, Patches) else -1
        flat = np.moveaxis(results, axis, -1).reshape(-1, results.shape[axis])[which]
        return flat.reshape(len(which), self._groups, -1).transpose(1, 0, 2).astype(np.float32)

    def _add(self, data: Array, results: Array) -> None:
        rows = np.concatenate([data, np.ones((*data.shape[:2], 1), np.float32)], axis=2)
        flat = rows.transpose(0, 2, 1)
        gram, cross = flat @ rows, flat @ results
        energy = np.einsum("gno,gno->go", results, results, dtype=np.float64)
        if self.count == 0:
            self.gram, self.cross, self.energy = gram.astype(np.float64), cross.astype(np.float64), energy
        elif gram.shape != self.gram.shape or cross.shape != self.cross.shape:
            self.trouble = "its data change in size from feed to feed"
            return
        else:
            self.gram += gram
            self.cross += cross
            self.energy += energy
        self.count += rows.shape[1]

    def error(self, weights: Array) -> float:
        """The sum of squares by which `weights` [groups, inputs + 1, outputs] miss y, as a share of the
        variance of y over the rows."""
        missed = float(self.energy.sum() + np.einsum("gko,gko->", weights, self.gram @ weights - 2 * self.cross))
        return max(missed, 0.0) / self.variance if self.variance > 0 else np.inf

    @property
    def variance(self) -> float:
        """The sum of squares of y less its mean, each output by itself."""
        mean = self.cross[:, -1] / max(self.count, 1)
        return float((self.energy - self.count * np.square(mean)).sum())


class Distance:
    """How far the first of two values is from the second: sums of squares, and the variance of the second in all."""

    key = "distance"

    def __init__(self) -> None:
        self.apart, self._energy, self._sum, self._count = 0.0, 0.0, 0.0, 0

    def update(self, *values: Array) -> None:
        one, other = values
        if one.shape != other.shape or one.dtype.kind != "f" or other.dtype.kind != "f":
            self.apart = np.inf
            return
        with np.errstate(over="ignore", invalid="ignore"):
            self.apart += float(np.square(one - other, dtype=np.float64).sum())
            self._energy += float(np.square(other, dtype=np.float64).sum())
            self._sum += float(other.sum(dtype=np.float64))
        self._count += other.size

    @property
    def share(self) -> float:
        """The squared distance as a share of the variance; infinite where nothing is known."""
        variance = self._energy - self._sum**2 / max(self._count, 1)
        share = self.apart / variance if variance > 0 else np.inf
        return float(share) if np.isfinite(share) else np.inf
