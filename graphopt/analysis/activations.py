"""What can be asked about activations: sums over all feeds of a model, none of which is kept.

An `Accumulator` sees the observed values of one feed at a time. A pass asks `ctx.calibration` with
`Observation`s, each of which ties an accumulator to values of the graph as it is now, or of the
model as it was read (`Original`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from graphopt.ir import Tensor

Array = np.ndarray[Any, Any]

_CHUNK: Final = 1 << 16  # elements that are summed up at a time: they stay in the cache
_ROWS: Final = 4096  # vectors whose products are summed in float32 before they are added in float64


class Accumulator(Protocol):
    """Sums up what one value (or several together) is over all feeds.

    A large feed may come in several pieces along its leading axis, and a value in a loop comes once for
    each round, so the sum must not depend on how the samples are cut.
    """

    @property
    def key(self) -> str:
        """What it computes, in words that tell it from every other accumulator."""
        ...

    def update(self, *values: Array) -> None:
        """See the values of one feed, or of some of its rows. They are read-only and must not be kept."""
        ...


@runtime_checkable
class Lasting(Protocol):
    """An accumulator whose sums can be written down: those of an earlier run are then used again."""

    def state(self) -> dict[str, Array]:
        """All that `update` has changed."""
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """Be as the accumulator of the same key was whose state this is. Raises LookupError or ValueError
        for what is none."""
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
            planes = _planes(value, self.axis)
            low, high = _reduced(np.minimum, planes), _reduced(np.maximum, planes)
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                self.finite = False
                low, high = _reduced(np.fmin, planes), _reduced(np.fmax, planes)
            shape = () if self.axis is None else (-1,)
            self.low, self.high = np.fmin(self.low, low.reshape(shape)), np.fmax(self.high, high.reshape(shape))

    def state(self) -> dict[str, Array]:
        return {"low": self.low, "high": self.high, "finite": np.asarray(self.finite)}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.low, self.high, self.finite = state["low"], state["high"], bool(state["finite"])


class Histogram:
    """Counts of values in `bins` equal bins from `low` to `high`; what lies outside counts in the last ones.

    Places are computed in float32: a value within a millionth of the range of a border may count on its
    other side. NaN and infinities do not count. With `most`, no more than so many elements of each piece
    of a feed are looked at, evenly spread.
    """

    def __init__(self, low: float, high: float, bins: int = 2048, most: int | None = None) -> None:
        self.low, self.high, self.bins, self.most = float(low), float(high), bins, most
        self.counts: Array = np.zeros(bins, np.int64)

    @property
    def key(self) -> str:
        return f"histogram {self.low!r} {self.high!r} {self.bins}{_limited(self.most)}"

    def update(self, *values: Array) -> None:
        width = (self.high - self.low) / self.bins or 1.0
        scale, last = np.float32(1 / width), np.float32(self.bins - 1)
        offset = np.float32(-self.low / width)
        scaled, places = np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.int64)
        for value in values:
            for chunk in _chunks(_some(value.reshape(-1), self.most)):
                low, high = chunk.min(), chunk.max()
                if not (np.isfinite(low) and np.isfinite(high)):
                    chunk = chunk[np.isfinite(chunk)]
                at = scaled[: len(chunk)]
                np.multiply(chunk, scale, out=at, casting="same_kind")
                at += offset
                np.clip(at, 0, last, out=at)
                place = places[: len(chunk)]
                place[...] = at
                self.counts += np.bincount(place, minlength=self.bins)

    def state(self) -> dict[str, Array]:
        return {"counts": self.counts}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.counts = _shaped(state["counts"], (self.bins,))


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
            if value.size == 0:
                continue
            planes = _planes(value, self.axis)
            if planes.dtype != np.float32:
                planes = planes.astype(np.float64)
            outer, indices, inner = planes.shape
            sums, squares = np.zeros(indices), np.zeros(indices)
            across = max(1, min(256, _CHUNK // max(indices, 1)))  # few enough to be summed in float32
            shape = () if self.axis is None else (-1,)
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite makes a mean that is not
                for start in range(0, inner, _CHUNK) if inner > 1 else (0,):
                    for first in range(0, outer, across):
                        part = planes[first : first + across, :, start : start + _CHUNK]
                        sums += _summed(part)
                        squares += _summed(np.square(part))
                self._sum, self._squares = self._sum + sums.reshape(shape), self._squares + squares.reshape(shape)
            self.count += outer * inner

    def state(self) -> dict[str, Array]:
        return {"count": np.asarray(self.count), "sum": self._sum, "squares": self._squares}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.count, self._sum, self._squares = int(state["count"]), state["sum"], state["squares"]


class Gram:
    """The sum of x xT over all vectors x along `axis` (float64 (K, K)), and how many there were.

    With `most`, no more than so many vectors of each piece of a feed are looked at, evenly spread.
    """

    def __init__(self, axis: int = -1, most: int | None = None) -> None:
        self.axis, self.most = axis, most
        self.count = 0
        self.matrix: Array = np.zeros((0, 0))

    @property
    def key(self) -> str:
        return f"gram axis={self.axis}{_limited(self.most)}"

    def update(self, *values: Array) -> None:
        for value in values:
            size = value.shape[self.axis]
            if self.matrix.shape != (size, size):
                self.matrix = np.zeros((size, size))
            for columns in _columns(value, self.axis, self.most):
                self.matrix += columns @ columns.T  # one triangle is computed, the other copied
                self.count += columns.shape[1]

    def state(self) -> dict[str, Array]:
        return {"count": np.asarray(self.count), "matrix": self.matrix}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.count, self.matrix = int(state["count"]), state["matrix"]


def _planes(value: Array, axis: int | None) -> Array:
    """The value as (what is before an axis, the axis, what is after it); all of it is after where there is none."""
    if axis is None or not value.ndim:
        return value.reshape(1, 1, -1)
    axis %= value.ndim
    before, size = int(np.prod(value.shape[:axis], dtype=np.int64)), value.shape[axis]
    return value.reshape(before, size, -1)


def _reduced(how: np.ufunc, planes: Array) -> Array:
    """A reduction for each index of the middle axis; along what lies together in memory first."""
    if planes.shape[2] > 1:
        planes = how.reduce(planes, axis=2, keepdims=True)
    return np.asarray(how.reduce(planes[:, :, 0], axis=0), np.float64)


def _summed(part: Array) -> Array:
    if part.shape[2] > 1:
        return np.asarray(part.sum(axis=2).sum(axis=0, dtype=np.float64))
    return np.asarray(part[:, :, 0].sum(axis=0), np.float64)


def _columns(value: Array, axis: int, most: int | None) -> Iterator[Array]:
    """The vectors along an axis as columns of float32 matrices (K, n), in parts."""
    planes = _planes(value, axis)
    outer, size, inner = planes.shape
    if inner >= size // 4 and inner > 1 and (most is None or outer * inner <= most):
        for plane in planes:  # as they lie in memory
            for start in range(0, inner, _ROWS):
                yield plane[:, start : start + _ROWS].astype(np.float32, copy=False)
        return
    rows = _some(planes.transpose(0, 2, 1).reshape(-1, size), most)
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS].astype(np.float32, copy=False).T


def _chunks(flat: Array) -> Iterator[Array]:
    for start in range(0, len(flat), _CHUNK):
        yield flat[start : start + _CHUNK]


def _some(rows: Array, most: int | None) -> Array:
    """At most so many rows, evenly spread."""
    return rows if most is None or len(rows) <= most else rows[:: -(-len(rows) // most)]


def _limited(most: int | None) -> str:
    return "" if most is None else f" most={most}"


def _shaped(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape != shape:
        raise ValueError(f"{array.shape} where {shape} belongs")
    return array
