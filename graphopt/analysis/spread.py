"""How values are spread, in one run: extremes, and a histogram whose bins widen as larger values come.

A bin is a power of two wide and one begins at zero, so two neighbours make one of the next width exactly: what comes
out does not depend on the order in which values were seen, and no second run is needed once the range is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from graphopt.analysis.activations import Array, Extremes

_CHUNK: Final = 1 << 16  # elements at a time: they stay in the cache
_SMALLEST: Final = -100  # the exponent of the narrowest bins; float32 scales by no more


class Spread:
    """Extremes, and counts in `bins` bins (a power of two) of which half are for negative values.

    Bin i holds what is from `edge + i * width` on, and below the border of the next. At least a quarter of the bins
    lie between zero and the largest magnitude that was seen. NaN and infinities do not count. With `most`, no more
    than so many elements of each piece of a feed are counted, evenly spread; `low` and `high` are of all of them.
    """

    def __init__(self, bins: int = 8192, most: int | None = None) -> None:
        if bins < 4 or bins & (bins - 1):
            raise ValueError(f"the number of bins must be a power of two from 4 on, not {bins}")
        self.bins, self.most = bins, most
        self.counts: Array = np.zeros(bins, np.int64)
        self._exponent: int | None = None
        self._extremes = Extremes()

    @property
    def key(self) -> str:
        return f"spread {self.bins} {self.most}"

    @property
    def low(self) -> Array:
        return self._extremes.low

    @property
    def high(self) -> Array:
        return self._extremes.high

    @property
    def finite(self) -> bool:
        """False once a NaN or an infinity was seen."""
        return self._extremes.finite

    @property
    def width(self) -> float:
        """Of a bin."""
        return 2.0 ** (_SMALLEST if self._exponent is None else self._exponent)

    @property
    def edge(self) -> float:
        """Where the first bin begins."""
        return -self.width * self.bins / 2

    def between(self) -> tuple[float, float, Array]:
        """From where to where there are values, on borders of bins, and the counts of the bins between."""
        used = np.flatnonzero(self.counts)
        if not used.size:
            return 0.0, 0.0, self.counts[:0]
        first, stop = int(used[0]), int(used[-1]) + 1
        return self.edge + first * self.width, self.edge + stop * self.width, self.counts[first:stop]

    def update(self, *values: Array) -> None:
        for value in values:
            if value.size == 0:
                continue
            seen = Extremes()
            seen.update(value)
            self._extremes.update(seen.low, seen.high)
            self._extremes.finite = self._extremes.finite and seen.finite
            flat = value.reshape(-1)
            if self.most is not None and len(flat) > self.most:
                flat = flat[:: -(-len(flat) // self.most)]
            flat = flat.astype(np.float32, copy=False)
            if not seen.finite:
                flat = flat[np.isfinite(flat)]
                if not flat.size:
                    continue
                self._reach(float(np.abs(flat).max()))
            else:
                self._reach(max(abs(float(seen.low)), abs(float(seen.high))))
            self._count(flat)

    def _reach(self, largest: float) -> None:
        """Widen the bins until the largest magnitude is below the last border."""
        half = self.bins.bit_length() - 2  # the binary logarithm of half the bins
        needed = max(math.frexp(largest)[1] - half, _SMALLEST)
        while self._exponent is not None and self._exponent < needed:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros_like(self.counts)
            quarter = self.bins // 4
            self.counts[quarter : quarter + len(pairs)] = pairs
            self._exponent += 1
        if self._exponent is None:
            self._exponent = needed

    def _count(self, flat: Array) -> None:
        scale, middle = np.float32(1 / self.width), np.float32(self.bins / 2)
        scaled, places = np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.int64)
        for start in range(0, len(flat), _CHUNK):
            chunk = flat[start : start + _CHUNK]
            at, place = scaled[: len(chunk)], places[: len(chunk)]
            np.multiply(chunk, scale, out=at)
            np.floor(at, out=at)
            np.add(at, middle, out=place, casting="unsafe")
            self.counts += np.bincount(place, minlength=self.bins)

    def state(self) -> dict[str, Array]:
        exponent = _SMALLEST - 1 if self._exponent is None else self._exponent
        return {**self._extremes.state(), "counts": self.counts, "exponent": np.asarray(exponent)}

    def restore(self, state: Mapping[str, Array]) -> None:
        if state["counts"].shape != (self.bins,):
            raise ValueError(f"{state['counts'].shape} counts where {self.bins} belong")
        self._extremes.restore(state)
        exponent = int(state["exponent"])
        self._exponent = None if exponent < _SMALLEST else exponent
        self.counts = state["counts"]
