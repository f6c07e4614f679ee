"""The normal equations of a layer: which weights make of its data now what the layer made in another model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.layer_inputs import Patches, Points, Rows, piecewise
from graphopt.analysis.resumable import Resumable
from graphopt.analysis.two_halves import TwoHalves

Array = np.ndarray[Any, Any]


@dataclass
class Sums:
    """Sums over `count` rows x of data and y of results, all float64.

    `gram` is that of (x, 1) (x, 1)' [groups, inputs + 1, inputs + 1], `cross` that of (x, 1) y'
    [groups, inputs + 1, outputs], `energy` that of y^2 [groups, outputs].
    """

    count: int
    gram: Array
    cross: Array
    energy: Array

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.count + other.count, self.gram + other.gram, self.cross + other.cross, self.energy + other.energy
        )

    def of_inputs(self, which: Array) -> Sums:
        """Those of a layer that reads only the inputs `which` of every group."""
        rows = np.append(which, self.gram.shape[1] - 1)
        return Sums(self.count, self.gram[:, rows[:, None], rows], self.cross[:, rows], self.energy)

    def of_outputs(self, which: Array) -> Sums:
        """Those of a layer that has only the outputs `which` of every group."""
        return Sums(self.count, self.gram, self.cross[:, :, which], self.energy[:, which])

    def scaled(self, scale: Array) -> Sums:
        """Those of results that are multiplied by `scale` [groups, outputs]."""
        return Sums(self.count, self.gram, self.cross * scale[:, None], self.energy * np.square(scale))

    def missed(self, weights: Array) -> float:
        """The sum of squares by which `weights` [groups, inputs + 1, outputs] miss y."""
        apart = float(self.energy.sum() + np.einsum("gko,gko->", weights, self.gram @ weights - 2 * self.cross))
        return max(apart, 0.0)

    def error(self, weights: Array) -> float:
        """The same as a share of the variance of y over the rows."""
        return self.missed(weights) / self.variance if self.variance > 0 else np.inf

    @property
    def variance(self) -> float:
        """The sum of squares of y less its mean, each output by itself."""
        mean = self.cross[:, -1] / max(self.count, 1)
        return float((self.energy - self.count * np.square(mean)).sum())

    @property
    def finite(self) -> bool:
        """Whether there were neither NaN nor infinities."""
        return bool(np.isfinite(self.gram).all() and np.isfinite(self.cross).all() and np.isfinite(self.energy).all())


class LayerFit(TwoHalves[Sums]):
    """Sums over rows of the data of a layer and what should come of them: given the data, then the results.

    At most `most` rows of a feed are looked at (0: all), spread evenly. Of results with more
    channels than the layer has outputs now, those with the indices `kept` count.
    """

    kind = Sums

    def __init__(self, rows: Rows, most: int = 0, kept: Array | None = None) -> None:
        super().__init__()
        self.rows, self.most, self.kept = rows, most, kept

    @property
    def key(self) -> str:
        kept = "" if self.kept is None else f" kept={self.kept.tolist()}"
        return f"layer fit {self.rows.key} most={self.most}{kept}"

    def of_inputs(self, which: Array) -> LayerFit:
        """What it would have seen of a layer that reads only the inputs `which` of every group."""
        return self._of([None if one is None else one.of_inputs(which) for one in self.halves])

    def scaled(self, scale: Array) -> LayerFit:
        """What it would have seen of results that are multiplied by `scale` [groups, outputs]."""
        return self._of([None if one is None else one.scaled(scale) for one in self.halves])

    def _of(self, halves: list[Sums | None]) -> LayerFit:
        made = LayerFit(self.rows, self.most, self.kept)
        made.halves, made.trouble = halves, self.trouble
        return made

    def update(self, *values: Array) -> None:
        data, results = values
        if self.trouble is None:
            self.trouble = self.rows.why_not(data) or self._why_not(data, results)
        if self.trouble is not None or data.size == 0:
            return
        width = int(self.rows.rows(data, np.zeros(1, np.int64)).size)
        places = self.rows.places(data)
        with np.errstate(over="ignore", invalid="ignore"):
            for which in piecewise(places, self.most, width):
                if data.shape[0] == 1:
                    self._add(self._turn, data, results, which)
                else:  # places are in the order of samples
                    middle = np.searchsorted(which, places // 2)
                    self._add(self._turn, data, results, which[:middle])
                    self._add(1 - self._turn, data, results, which[middle:])
        self._turn = 1 - self._turn

    @property
    def channel_axis(self) -> int:
        """The axis of the channels of the results."""
        return 1 if isinstance(self.rows, Patches | Points) else -1

    @property
    def _groups(self) -> int:
        return self.rows.groups if isinstance(self.rows, Patches | Points) else 1

    def _why_not(self, data: Array, results: Array) -> str | None:
        axis = self.channel_axis
        if data.size == 0:
            return None
        if self.kept is not None and self.kept.size and results.ndim and results.shape[axis] <= self.kept.max():
            return f"its results have shape {results.shape}, with fewer channels than are kept"
        if results.ndim < 2 or self._channels(results, axis) % self._groups:
            return f"its results have shape {results.shape}"
        if results.size // max(results.shape[axis], 1) != self.rows.places(data):
            return f"its results of shape {results.shape} do not fit data of shape {data.shape}"
        return None

    def _channels(self, results: Array, axis: int) -> int:
        return int(results.shape[axis]) if self.kept is None else int(self.kept.size)

    def _results(self, results: Array, which: Array) -> Array:
        """float32 [groups, places, outputs]."""
        axis = self.channel_axis
        flat = np.moveaxis(results, axis, -1).reshape(-1, results.shape[axis])[which]
        if self.kept is not None:
            flat = flat[:, self.kept]
        outputs = flat.shape[1] // self._groups  # -1 says nothing where there are no places
        return flat.reshape(len(which), self._groups, outputs).transpose(1, 0, 2).astype(np.float32)

    def _add(self, half: int, data: Array, results: Array, which: Array) -> None:
        if not len(which):
            return
        read, made = self.rows.rows(data, which), self._results(results, which)
        rows = np.concatenate([read, np.ones((*read.shape[:2], 1), np.float32)], axis=2)
        flat = rows.transpose(0, 2, 1)
        energy = np.einsum("gno,gno->go", made, made, dtype=np.float64)
        new = Sums(len(which), (flat @ rows).astype(np.float64), (flat @ made).astype(np.float64), energy)
        if any(one is not None and one.cross.shape != new.cross.shape for one in self.halves):
            self.trouble = "its data change in size from feed to feed"
            return
        old = self.halves[half]
        self.halves[half] = new if old is None else old + new


class Distance(Resumable):
    """How far the first of two values is from the second: sums of squares, and the variance of the second in all.

    Of a second value with more channels than the first, those with the indices `kept` of an axis count.
    """

    sums = ("apart", "_energy", "_sum", "_count")

    def __init__(self, kept: Mapping[int, Array] | None = None) -> None:
        self.kept = dict(kept or {})
        self.apart, self._energy, self._sum, self._count = 0.0, 0.0, 0.0, 0

    @property
    def key(self) -> str:
        return "distance" + "".join(f" kept[{axis}]={which.tolist()}" for axis, which in sorted(self.kept.items()))

    def update(self, *values: Array) -> None:
        one, other = values
        for axis, which in self.kept.items():
            if axis >= other.ndim or (which.size and other.shape[axis] <= which.max()):
                self.apart = np.inf
                return
            other = np.take(other, which, axis)
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
