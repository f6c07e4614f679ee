"""What can be asked about activations: sums over all feeds of a model, none of which is kept.

An `Accumulator` sees the observed values of one feed at a time. A pass asks `ctx.calibration` with
`Observation`s, each of which ties an accumulator to values of the graph as it is now, or of the
model as it was read (`Original`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from graphopt.ir import Tensor

Array = np.ndarray[Any, Any]


class Accumulator(Protocol):
    """Sums up what one value (or several together) is over all feeds."""

    @property
    def key(self) -> str:
        """What it computes, in words that tell it from every other accumulator."""
        ...

    def update(self, *values: Array) -> None:
        """See the values of one feed. They are read-only and must not be kept."""
        ...


@dataclass(frozen=True)
class Original:
    """A value of the model as it was read, by its name in the main graph."""

    name: str


@dataclass(frozen=True, eq=False)
class Observation:
    """One question: what `accumulator` makes of `values`, which it is given together, feed by feed."""

    values: tuple[Tensor | Original, ...]
    accumulator: Accumulator


@dataclass
class Observed:
    """The end of a streamed run: accumulators hold their sums, but for those in `refused`.

    `refused` has a clause for each observation that could not be made; `feeds` counts what was seen.
    """

    feeds: int = 0
    refused: dict[Observation, str] = field(default_factory=dict)


class Extremes:
    """The smallest and largest value, in all (`axis` None) or for each index of an axis.

    `low` and `high` are float64 of shape () or (C,), infinite the wrong way round before anything was
    seen; NaN is ignored, and `finite` is False once a NaN or an infinity was seen.
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self.low: Array = np.asarray(np.inf)
        self.high: Array = np.asarray(-np.inf)
        self.finite = True

    @property
    def key(self) -> str:
        return f"extremes axis={self.axis}"

    def update(self, *values: Array) -> None:
        for value in values:
            if value.size == 0:
                continue
            others = None if self.axis is None else _others(value.ndim, self.axis)
            low = np.asarray(np.fmin.reduce(value, axis=others), np.float64)
            high = np.asarray(np.fmax.reduce(value, axis=others), np.float64)
            self.finite = self.finite and bool(np.isfinite(low).all() and np.isfinite(high).all())
            self.finite = self.finite and not bool(np.isnan(value).any())
            self.low, self.high = np.fmin(self.low, low), np.fmax(self.high, high)


class Histogram:
    """Counts of values in `bins` equal bins from `low` to `high`; what lies outside counts in the last ones."""

    def __init__(self, low: float, high: float, bins: int = 2048) -> None:
        self.low, self.high, self.bins = float(low), float(high), bins
        self.counts: Array = np.zeros(bins, np.int64)

    @property
    def key(self) -> str:
        return f"histogram {self.low!r} {self.high!r} {self.bins}"

    def update(self, *values: Array) -> None:
        width = (self.high - self.low) / self.bins or 1.0
        for value in values:
            flat = value.reshape(-1)
            flat = flat[np.isfinite(flat)]
            place = np.clip((flat - np.float32(self.low)) * np.float32(1 / width), 0, self.bins - 1)
            self.counts += np.bincount(place.astype(np.int64), minlength=self.bins)


class Moments:
    """Count, mean and mean square, in all or for each index of an axis: float64 () or (C,)."""

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self.count = 0
        self._sum: Array = np.asarray(0.0)
        self._squares: Array = np.asarray(0.0)

    @property
    def key(self) -> str:
        return f"moments axis={self.axis}"

    @property
    def mean(self) -> Array:
        return self._sum / max(self.count, 1)

    @property
    def mean_square(self) -> Array:
        return self._squares / max(self.count, 1)

    def update(self, *values: Array) -> None:
        for value in values:
            others = None if self.axis is None else _others(value.ndim, self.axis)
            self._sum = self._sum + np.sum(value, axis=others, dtype=np.float64)
            self._squares = self._squares + np.sum(np.square(value, dtype=np.float64), axis=others)
            self.count += value.size if self.axis is None else value.size // max(value.shape[self.axis], 1)


class Gram:
    """The sum of x xT over all vectors x along `axis` (float64 (K, K)), and how many there were."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis
        self.count = 0
        self.matrix: Array = np.zeros((0, 0))

    @property
    def key(self) -> str:
        return f"gram axis={self.axis}"

    def update(self, *values: Array) -> None:
        for value in values:
            rows = np.moveaxis(value, self.axis, -1).reshape(-1, value.shape[self.axis]).astype(np.float32, copy=False)
            found = (rows.T @ rows).astype(np.float64)
            self.matrix = found if self.count == 0 else self.matrix + found
            self.count += len(rows)


def _others(rank: int, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(rank) if i != axis % rank)
