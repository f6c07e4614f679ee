"""Rows that stand for others: the nearest of those that are kept, and centres of those that are not."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_TOGETHER = 1 << 22  # distances that are computed together
_ROUNDS = 10


def nearest(rows: Array, choices: Array) -> Array:
    """For each row the index of the nearest choice, of equally near ones the first: int64."""
    found = np.empty(len(rows), np.int64)
    sizes = np.einsum("ck,ck->c", choices, choices)
    step = max(_TOGETHER // max(len(choices), 1), 1)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        found[start : start + step] = (sizes - 2 * (part @ choices.T)).argmin(axis=1)
    return found


def centres(rows: Array, count: int) -> Array:
    """At most `count` means of rows that are near to one another (k-means, Lloyd 1982), from rows evenly spread over
    them by their distance from the mean. Of one it is the mean."""
    mean = rows.mean(axis=0, keepdims=True)
    count = min(count, len(rows))
    if count == 1:
        return np.asarray(mean)
    far = np.argsort(np.square(rows - mean).sum(axis=1), kind="stable")
    made = rows[far[np.linspace(0, len(rows) - 1, count).astype(np.int64)]]
    for _ in range(_ROUNDS):
        member = nearest(rows, made)
        sizes = np.bincount(member, minlength=count)
        order = np.argsort(member, kind="stable")
        taken = np.flatnonzero(sizes)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])[taken]
        made = made.copy()
        made[taken] = np.add.reduceat(rows[order], starts, axis=0) / sizes[taken, None]
    return np.asarray(made)
