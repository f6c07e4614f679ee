"""How far the channels of a value have moved from what they were: the mean of the difference."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.analysis.resumable import Resumable

Array = np.ndarray[Any, Any]

_ENOUGH = 32  # samples of a channel, for a mean


class Drift(Resumable):
    """Sums up value - original for each index of `axis`: of two values that are observed together."""

    sums = ("count", "alike", "_difference", "_squares", "_sum", "_energy")

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.count = 0
        self.alike = True
        self._difference: Array = np.zeros(0)
        self._squares: Array = np.zeros(0)
        self._sum: Array = np.zeros(0)
        self._energy: Array = np.zeros(0)

    @property
    def key(self) -> str:
        return f"drift axis={self.axis}"

    def update(self, *values: Array) -> None:
        now, before = values
        if now.shape != before.shape or now.ndim < 2:
            self.alike = False
            return
        others = tuple(i for i in range(now.ndim) if i != self.axis % now.ndim)
        difference = now.astype(np.float64) - before
        sums = [
            difference.sum(others),
            np.square(difference).sum(others),
            before.sum(others, dtype=np.float64),
            np.square(before, dtype=np.float64).sum(others),
        ]
        if self.count == 0:
            self._difference, self._squares, self._sum, self._energy = sums
        else:
            self._difference += sums[0]
            self._squares += sums[1]
            self._sum += sums[2]
            self._energy += sums[3]
        self.count += now.size // max(now.shape[self.axis], 1)

    @property
    def mean(self) -> Array:
        """The mean difference of each channel."""
        return self._difference / max(self.count, 1)

    @property
    def largest(self) -> float:
        """The largest mean difference of a channel, in standard deviations of that channel."""
        deviation = np.sqrt(np.maximum(self._variance(self._sum, self._energy), 1e-30))
        return float(np.max(np.abs(self.mean) / deviation, initial=0))

    def why_not(self) -> str | None:
        """Why the difference says nothing, in a clause; None when it does."""
        if not self.alike:
            return "the value of that name in the model as it was read has another shape"
        if self.count < _ENOUGH:
            return f"{self.count} samples of a channel are too few for a mean"
        if not np.isfinite(self._squares).all():
            return "it was not finite on all calibration feeds"
        noise, own = self._variance(self._difference, self._squares), self._variance(self._sum, self._energy)
        alive = own > 1e-12 * max(float(own.max(initial=0)), 1e-30)
        if alive.any() and float(np.median(noise[alive] / own[alive])) > 0.5:
            return "the value of that name in the model as it was read is another one"
        return None

    def _variance(self, sums: Array, squares: Array) -> Array:
        return np.maximum(squares / max(self.count, 1) - np.square(sums / max(self.count, 1)), 0.0)
