"""How well predictions agree with what was measured: on some layers, in ranks and in decibels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphopt.tolerance.curve import decibels
from graphopt.tolerance.table import Checked, Row


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """The rank correlation, ties sharing their mean rank; NaN for fewer than three pairs or where all are equal."""
    if len(one) < 3:
        return math.nan
    first, second = (_ranks(values) for values in (one, other))
    if not (np.ptp(first) and np.ptp(second)):
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = np.asarray(values, np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[inverse]


def spread_out(rows: Sequence[Row], compression: str, count: int) -> list[str]:
    """Names of layers from the least to the most tolerant, evenly spread."""
    ranked = sorted((row for row in rows if compression in row.errors), key=lambda row: -row.errors[compression])
    count = min(count, len(ranked))
    places = [round(at * (len(ranked) - 1) / max(count - 1, 1)) for at in range(count)]
    return [ranked[place].name for place in dict.fromkeys(places)]


def checked(
    rows: Sequence[Row], tried: Sequence[Row], compressions: Sequence[str]
) -> tuple[list[Row], tuple[Checked, ...]]:
    """The rows with what was measured of them, and how well each compression was predicted."""
    measured = {row.name: row.measured for row in tried}
    made = [replace(row, measured=measured.get(row.name, row.measured)) for row in rows]
    return made, tuple(compared(made, one) for one in compressions)


def compared(rows: Sequence[Row], compression: str) -> Checked:
    """How well one compression was predicted, over the rows in which it was measured."""
    pairs = [(row.errors[compression], row.measured[compression]) for row in rows
             if compression in row.errors and compression in row.measured]  # fmt: skip
    off = [
        abs(decibels(one) - decibels(other))
        for one, other in pairs
        if 0.0 < min(one, other) <= max(one, other) < math.inf
    ]
    return Checked(
        compression,
        len(pairs),
        spearman([one for one, _ in pairs], [other for _, other in pairs]),
        float(np.median(off)) if off else math.nan,
    )


def predicted_errors(rows: Sequence[Row], compression: str) -> dict[str, float]:
    """The error that a compression of each layer alone is predicted to bring, by the names of weights and of nodes.

    Errors of different layers hardly correlate, so that their energies add up. Layers without the compression are
    not in it.
    """
    found: dict[str, float] = {}
    for row in rows:
        if compression in row.errors:
            for name in (row.name, *row.nodes):
                found[name] = max(found.get(name, 0.0), row.errors[compression])
    return found
