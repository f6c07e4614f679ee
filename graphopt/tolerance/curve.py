"""The error of the outputs as a function of how much of a layer's own energy is perturbed.

Both are energies relative to a signal's. Small perturbations add up linearly, so the error is the gain times the
perturbation; large ones saturate: outputs that share nothing with the original are at most about twice its energy off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_STRAIGHT: Final = 0.05  # errors below this part of the signal are taken to be in the linear range
_FLAT: Final = 0.5  # a slope below this is saturation
_LEAST: Final = 1e-30


@dataclass(frozen=True)
class Point:
    """One measurement: the energy of the perturbation, and that of the error of the worst output."""

    perturbation: float
    error: float


@dataclass(frozen=True)
class Curve:
    """Measured points by rising perturbation. `at` interpolates between them, both logarithms, and goes on from the
    first one with a slope of one (energy for energy), from the last one with the slope of the last stretch."""

    points: tuple[Point, ...]

    @classmethod
    def through(cls, points: Iterable[Point]) -> Curve:
        """The curve of some points; several of the same perturbation are averaged, and it never falls."""
        groups: dict[float, list[float]] = {}
        for one in points:
            if one.perturbation > 0.0:
                groups.setdefault(one.perturbation, []).append(one.error)
        rising, highest = [], 0.0
        for perturbation, errors in sorted(groups.items()):
            highest = max(highest, sum(errors) / len(errors))
            rising.append(Point(perturbation, highest))
        return cls(tuple(rising))

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return bool(self.points)

    @property
    def gain(self) -> float:
        """Error for each perturbation in the linear range: the geometric mean of the points in it, and of the
        first one in any case."""
        logs = [_log(one.error) - _log(one.perturbation) for one in self._straight()]
        return math.exp(sum(logs) / len(logs)) if logs and self.points[0].error > 0.0 else 0.0

    @property
    def slope(self) -> float:
        """Of the logarithm of the error over that of the perturbation's amplitude, in the linear range: two where
        errors add up in energy. NaN with fewer than two points in it."""
        return 2.0 * self._fit()[0]

    @property
    def fit(self) -> float:
        """How much of the spread of the logarithms the straight line explains (R squared); NaN for fewer than
        three points."""
        return self._fit()[1]

    @property
    def saturates_at(self) -> float | None:
        """The smallest measured perturbation from which on the error hardly grows; None where it always does."""
        for before, after in zip(self.points, self.points[1:], strict=False):
            if after.error > _STRAIGHT and _slope(before, after) < _FLAT:
                return before.perturbation
        return None

    def at(self, perturbation: float) -> float:
        """The error that a perturbation of this energy brings."""
        if perturbation <= 0.0 or not self.points or self.points[-1].error <= 0.0:
            return 0.0
        first, last = self.points[0], self.points[-1]
        if perturbation <= first.perturbation:
            return first.error * perturbation / first.perturbation
        for before, after in zip(self.points, self.points[1:], strict=False):
            if perturbation <= after.perturbation:
                part = (_log(perturbation) - _log(before.perturbation)) / (
                    _log(after.perturbation) - _log(before.perturbation)
                )
                return math.exp(_log(before.error) + part * (_log(after.error) - _log(before.error)))
        slope = min(1.0, max(0.0, _slope(self.points[-2], last))) if len(self.points) > 1 else 1.0
        return last.error * math.pow(perturbation / last.perturbation, slope)

    def reach(self, error: float) -> float:
        """The largest perturbation that keeps the error at or below `error`; infinite where every one does."""
        if not self.points or self.points[-1].error <= 0.0:
            return math.inf
        low, high = -60.0, 4.0  # exponents of e: from nothing at all to fifty times the layer's energy
        if self.at(math.exp(high)) <= error:
            return math.inf
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if self.at(math.exp(middle)) <= error else (low, middle)
        return math.exp(low)

    def _straight(self) -> list[Point]:
        found = [one for one in self.points if 0.0 < one.error <= _STRAIGHT]
        return found or list(self.points[:1])

    def _fit(self) -> tuple[float, float]:
        points = [(_log(one.perturbation), _log(one.error)) for one in self._straight() if one.error > 0.0]
        if len(points) < 2:
            return math.nan, math.nan
        x = sum(one for one, _ in points) / len(points)
        y = sum(one for _, one in points) / len(points)
        across = sum((one - x) ** 2 for one, _ in points)
        both = sum((one - x) * (other - y) for one, other in points)
        up = sum((other - y) ** 2 for _, other in points)
        slope = both / across if across > 0.0 else math.nan
        return slope, (both * both / (across * up) if across > 0.0 < up and len(points) > 2 else math.nan)


def decibels(error: float) -> float:
    """The SQNR that an error's relative energy stands for."""
    if error <= 0.0:
        return math.inf
    return -10.0 * math.log10(error) if error < math.inf else -math.inf


def _slope(before: Point, after: Point) -> float:
    return (_log(after.error) - _log(before.error)) / (_log(after.perturbation) - _log(before.perturbation))


def _log(value: float) -> float:
    return math.log(max(value, _LEAST))
