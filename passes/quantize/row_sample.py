"""A bounded sample of the rows of a value, spread evenly over all that were seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.analysis.resumable import Resumable

Array = np.ndarray[Any, Any]

_GOLDEN = (5**0.5 - 1) / 2


class RowSample(Resumable):
    """At most `most` rows of the last axis, float32 [rows, K]: an accumulator.

    Row i has the key frac(i * golden ratio), and the rows of the smallest keys are kept. These keys fill the
    unit interval evenly, however many rows there are, so the sample is spread over all of them, and
    the same in each run.
    """

    sums = ("_kept", "_keys", "_seen")

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: Array = np.zeros((0, 0), np.float32)
        self._keys: Array = np.zeros(0)
        self._seen = 0

    @property
    def key(self) -> str:
        return f"sample of {self.most} rows, axis=-1"

    @property
    def rows(self) -> Array:
        """The rows that were kept."""
        return self._kept

    def update(self, *values: Array) -> None:
        for value in values:
            if value.size == 0:
                continue
            rows = value.reshape(-1, value.shape[-1])
            keys = np.modf(np.arange(self._seen, self._seen + len(rows)) * _GOLDEN)[0]
            self._seen += len(rows)
            chosen = np.argsort(keys, kind="stable")[: self.most]
            kept = rows[chosen].astype(np.float32)
            if len(self._keys):
                kept, keys = np.concatenate([self._kept, kept]), np.concatenate([self._keys, keys[chosen]])
            else:
                keys = keys[chosen]
            order = np.argsort(keys, kind="stable")[: self.most]
            self._kept, self._keys = kept[order], keys[order]
