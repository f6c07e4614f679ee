"""What quantizing a product costs, as a function of the factors that move range from data to weights.

The data of input channel k are divided by s_k and row k of the weights is multiplied by it. With data
rounded at a step that fits the widest channel, and weights at a step for each output, the expected
squared error of the result is

    step_x^2 / 12 * sum_k s_k^2 * sum_j w_kj^2  +  sum_j step_j^2 / 12 * sum_k E[x_k^2] / s_k^2

where step_x = (max_k high_k / s_k - min_k low_k / s_k) / 255 and step_j = max_k |w_kj| * s_k / 127. The
first term falls as channels get even, the second one rises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.resumable import Resumable

Array = np.ndarray[Any, Any]

_DATA_STEPS, _WEIGHT_STEPS = 255.0, 127.0
_ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_FLOORS = tuple(float(one) for one in np.geomspace(0.01, 1.0, 24))
_ROUNDS = 4  # searches that start where the last one ended
_WIDEST = 1e4  # factors stay within 1 / this and this


class ChannelRanges(Resumable):
    """Of the last axis, the low and high of each index in each feed, and the mean square: an accumulator.

    `low` and `high` are [feeds, K], `mean_square` [K].
    """

    sums = ("_low", "_high", "_squares", "count")

    def __init__(self) -> None:
        self._low: list[Array] = []
        self._high: list[Array] = []
        self._squares: Array = np.zeros(())
        self.count = 0

    @property
    def key(self) -> str:
        return "ranges of each feed and mean squares, axis=-1"

    @property
    def low(self) -> Array:
        return np.array(self._low, np.float64)

    @property
    def high(self) -> Array:
        return np.array(self._high, np.float64)

    @property
    def mean_square(self) -> Array:
        return self._squares / max(self.count, 1)

    def update(self, *values: Array) -> None:
        for value in values:
            if value.size == 0:
                continue
            rows = value.reshape(-1, value.shape[-1])
            self._low.append(rows.min(axis=0))
            self._high.append(rows.max(axis=0))
            self._squares = self._squares + np.sum(np.square(rows, dtype=np.float64), axis=0)
            self.count += len(rows)


@dataclass(frozen=True, eq=False)
class Demand:
    """What the factors are to be good for: weights [K, N], and the ranges of the data that they meet."""

    weights: Array
    low: Array
    high: Array
    mean_square: Array

    def divided(self, factors: Array) -> Demand:
        """The same after factors were moved."""
        return Demand(
            self.weights * factors[:, None].astype(np.float32),
            self.low / factors,
            self.high / factors,
            self.mean_square / factors**2,
        )

    def without(self, channels: Array) -> Demand:
        """The same for data and weights without some channels."""
        kept = np.delete(np.arange(len(self.mean_square)), channels)
        return Demand(self.weights[kept], self.low[:, kept], self.high[:, kept], self.mean_square[kept])

    @property
    def span(self) -> Array:
        """The largest magnitude of each channel."""
        found: Array = np.maximum(-self.low.min(axis=0), self.high.max(axis=0))
        return np.maximum(found, 0.0)

    def noise(self, factors: Array) -> float:
        """The expected squared error of a row of the result, summed over outputs."""
        low, high = self.low / factors, self.high / factors
        width = np.maximum(high.max(axis=1), 0.0) - np.minimum(low.min(axis=1), 0.0)
        data = float(np.mean(np.square(width / _DATA_STEPS))) / 12 * float(np.dot(factors**2, self._rows))
        steps = np.max(self._magnitudes * factors[:, None].astype(np.float32), axis=0).astype(np.float64)
        weights = float(np.sum(np.square(steps / _WEIGHT_STEPS))) / 12
        return data + weights * float(np.sum(self.mean_square / factors**2))

    @property
    def _rows(self) -> Array:
        found = self.__dict__.get("rows")
        if found is None:
            found = self.__dict__["rows"] = np.sum(np.square(self.weights, dtype=np.float64), axis=1)
        return np.asarray(found)

    @property
    def _magnitudes(self) -> Array:
        found = self.__dict__.get("magnitudes")
        if found is None:
            found = self.__dict__["magnitudes"] = np.abs(self.weights).astype(np.float32)
        return np.asarray(found)


def decibels(before: float, after: float) -> float:
    """By how many decibels an error fell."""
    if before <= 0 or after <= 0:
        return 0.0
    return 10 * float(np.log10(before / after))


def search(demand: Demand) -> Array:
    """Factors [K] with the least expected error: max(span, floor)^alpha / |w|^(1 - alpha), over a grid.

    Their geometric mean is 1. The search begins again from what it found until that gains nothing.
    """
    factors = np.ones(len(demand.mean_square))
    now, best = demand, demand.noise(factors)
    for _ in range(_ROUNDS):
        step, found = _best(now)
        if decibels(best, found) < 0.05:
            break
        factors, best = factors * step, found
        now = demand.divided(factors)
    return factors


def _best(demand: Demand) -> tuple[Array, float]:
    span, peaks = demand.span, np.max(np.abs(demand.weights), axis=1).astype(np.float64)
    widest = float(span.max())
    found = np.ones(len(span))
    least = demand.noise(found)
    if widest <= 0 or float(peaks.max()) <= 0:
        return found, least
    peaks = np.maximum(peaks, 1e-3 * float(peaks.max()))
    for alpha in _ALPHAS:
        for floor in _FLOORS:
            factors = np.maximum(span, floor * widest) ** alpha / peaks ** (1 - alpha)
            factors /= np.exp(np.mean(np.log(factors)))
            factors = np.clip(factors, 1 / _WIDEST, _WIDEST)
            noise = demand.noise(factors)
            if noise < least:
                found, least = factors, noise
    return found, least


@dataclass(frozen=True, eq=False)
class Choice:
    """Factors [K], the channels that are multiplied apart and count for nothing else, and the error that remains."""

    factors: Array
    apart: Array
    noise: float


def together(demand: Demand) -> Choice:
    """Factors for all channels."""
    factors = search(demand)
    return Choice(factors, np.zeros(0, np.int64), demand.noise(factors))


def apart(demand: Demand, most: int, worth: float) -> Choice:
    """As `together`, but the widest channels (up to `most`) may be left out where each lowers the error by
    `worth` decibels."""
    best = together(demand)
    order = np.argsort(-demand.span, kind="stable")
    for count in range(1, min(most, len(order) - 1) + 1):
        channels = np.sort(order[:count])
        rest = demand.without(channels)
        factors = search(rest)
        noise = rest.noise(factors)
        if decibels(best.noise, noise) >= worth * (count - len(best.apart)):
            best = Choice(np.insert(factors, channels - np.arange(count), 1.0), channels, noise)
    return best
