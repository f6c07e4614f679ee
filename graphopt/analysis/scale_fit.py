"""A factor and an offset for each channel that bring a value nearest to another, as normalizations can have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.two_halves import TwoHalves

Array = np.ndarray[Any, Any]

PULL: Final = (0.0, 0.01, 0.1, 1.0, 10.0)
"""Shares of the variance of a channel that pull its factor towards 1: the best one on other samples is taken."""


@dataclass
class Channels:
    """Sums over rows of a value x and what it should be, y, one of each for each channel: float64 [channels]."""

    count: int
    x: Array
    y: Array
    xx: Array
    xy: Array
    yy: Array

    def __add__(self, other: Channels) -> Channels:
        return Channels(
            self.count + other.count,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
        )

    def fitted(self, pull: float) -> tuple[Array, Array]:
        """The factor and the offset of each channel."""
        mean, wanted = self.x / self.count, self.y / self.count
        spread = np.maximum(self.xx / self.count - mean**2, 0.0)
        together = self.xy / self.count - mean * wanted
        more = pull * spread + 1e-12 * (spread.mean() + 1e-300)
        factor = (together + more) / (spread + more)
        return factor, wanted - factor * mean

    def missed(self, factor: Array, offset: Array) -> float:
        """The sum of squares by which factor * x + offset misses y."""
        apart = (
            self.yy
            + factor**2 * self.xx
            + offset**2 * self.count
            - 2 * factor * self.xy
            - 2 * offset * self.y
            + 2 * factor * offset * self.x
        )
        return max(float(apart.sum()), 0.0)

    @property
    def variance(self) -> float:
        """The sum of squares of y less its mean."""
        return float((self.yy - self.y**2 / max(self.count, 1)).sum())


class ScaleFit(TwoHalves[Channels]):
    """Sums up `Channels` along the last axis, given the value and what it should be, in two `halves` in turn."""

    kind = Channels

    def __init__(self, kept: Array | None = None) -> None:
        super().__init__()
        self.kept = kept

    @property
    def key(self) -> str:
        return "scale fit" + ("" if self.kept is None else f" kept={self.kept.tolist()}")

    def update(self, *values: Array) -> None:
        value, wanted = values
        if self.kept is not None and wanted.ndim and wanted.shape[-1] > self.kept.max(initial=-1):
            wanted = wanted[..., self.kept]
        if value.shape != wanted.shape or not value.ndim:
            self.trouble = self.trouble or f"it has shape {value.shape}, and {wanted.shape} in the original"
        if self.trouble is not None or not value.size:
            return
        middle = (value.shape[0] + 1) // 2 if value.ndim > 1 and value.shape[0] > 1 else len(value)
        self._add(self._turn, value[:middle], wanted[:middle])
        self._add(1 - self._turn, value[middle:], wanted[middle:])
        self._turn = 1 - self._turn

    def _add(self, half: int, value: Array, wanted: Array) -> None:
        if not value.size:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            x = value.reshape(-1, value.shape[-1]).astype(np.float64)
            y = wanted.reshape(-1, wanted.shape[-1]).astype(np.float64)
            new = Channels(len(x), x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0), (y * y).sum(0))
        old = self.halves[half]
        if old is not None and old.x.shape != new.x.shape:
            self.trouble = "its channels change in number from feed to feed"
            return
        self.halves[half] = new if old is None else old + new

    def best(self) -> tuple[Array, Array] | str:
        """The factor and offset of each channel, or a clause on why there are none better than 1 and 0."""
        whole, (first, second) = self.whole, self.halves
        if self.trouble is not None or whole is None:
            return self.trouble or "nothing was seen"
        if not np.isfinite(whole.yy + whole.xx + whole.xy).all():
            return "it has NaN or infinities"
        pull = PULL[-1]
        if first is not None and second is not None:
            one, other = first, second
            pull = min(PULL, key=lambda p: other.missed(*one.fitted(p)) + one.missed(*other.fitted(p)))
        factor, offset = whole.fitted(pull)
        if not whole.missed(factor, offset) < whole.missed(np.ones_like(factor), np.zeros_like(offset)):
            return "its error on the calibration feeds would not get smaller"
        return factor, offset
