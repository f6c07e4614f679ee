"""How far one value lies from its reference, how much of that is born in its own nodes, and what is noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import TensorProto

from graphopt.debug.matching import Match
from graphopt.runtime.elements import dtype_of
from graphopt.validation.compare import CHUNK, Difference, compare
from graphopt.validation.values import Array, is_float, kind_of

MARGIN_DB: Final = 18.0  # a value may lie 8 times further from its reference than its own noise
LEAST_DB: Final = 30.0  # however noisy a model is, values further apart than this are different
# the noise of a value in which nothing but the last bit moves
_BEST_DB: Final[dict[int, float]] = {TensorProto.FLOAT16: 66.0, TensorProto.BFLOAT16: 48.0}
_BYTES: Final = (TensorProto.INT8, TensorProto.UINT8)


@dataclass
class Reading:
    """One pair of values over all feeds.

    `total` compares candidate and reference, `noise` the reference with itself when only rounding
    differs. `born` compares the reference with the candidate's nodes run on the reference's values,
    `inherited` these with the candidate; both None where the nodes could not be run on their own.
    `from_weights` is the part of the born difference that goes when the reference's weights are put
    back, `beside_weights` what stays then; `weights` says how they were changed, "" where they were not.
    `element` is ONNX's element type of the reference.
    """

    match: Match
    op: str
    element: int
    total: Difference = field(default_factory=Difference)
    noise: Difference = field(default_factory=Difference)
    born: Difference | None = None
    inherited: Difference | None = None
    from_weights: Difference | None = None
    beside_weights: Difference | None = None
    weights: str = ""

    def limit_db(self, asked: float | None) -> float:
        """The SQNR below which the pair counts as diverging: as asked, else from the reference's own noise."""
        if asked is not None:
            return asked
        own = self.noise.sqnr_db if self.noise.elements else math.inf
        return max(LEAST_DB, min(own, _BEST_DB.get(self.element, 120.0)) - MARGIN_DB)

    def differs(self, asked: float | None, difference: Difference | None = None) -> bool:
        """Whether a difference, the total one unless given, is more than rounding."""
        found = self.total if difference is None else difference
        if found.problem or found.nonfinite > 8 * self.noise.nonfinite:
            return True
        if found.kind == "float":
            return found.sqnr_db < self.limit_db(asked)
        if self.element in _BYTES and found.peak <= 1.0 and found.differing <= 0.02 * found.elements:
            return False  # quantized, and a few rounded to the other side
        if found.kind == "integer" and (asked is not None or self.noise.decided):
            return found.sqnr_db < self.limit_db(asked)
        return found.decided > 8 * self.noise.decided

    @property
    def is_born(self) -> bool:
        """Whether at least half of the difference is of this value's own nodes."""
        if self.born is None or self.total.problem:
            return True
        if self.born.problem or self.born.nonfinite or self.inherited is None:
            return True
        if self.total.kind != "float":
            return self.born.differing * 2 >= self.total.differing
        return self.born.noise >= self.inherited.noise


def difference(reference: Any, candidate: Any) -> Difference:
    """Compare two tensors; floats of different types are compared in the reference's."""
    left, right = np.asarray(reference), np.asarray(candidate)
    if left.dtype != right.dtype and left.shape == right.shape and is_float(left.dtype) and is_float(right.dtype):
        with np.errstate(over="ignore"):
            right = right.astype(left.dtype)
    if _equal(left, right):  # most pairs are, and need no statistics but the energy
        return _nothing(left)
    return compare(left, right)


def _equal(left: Array, right: Array) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape or left.dtype.hasobject or left.dtype.itemsize > 8:
        return False
    word = np.dtype(f"u{left.dtype.itemsize}")
    return np.array_equal(np.ascontiguousarray(left).view(word), np.ascontiguousarray(right).view(word))


def _nothing(array: Array) -> Difference:
    kind, size = kind_of(array.dtype), int(array.size)
    if kind != "float":
        return Difference(kind, size, rows=size, agreeing=size)
    flat = array.reshape(-1)
    usable = np.isfinite(flat)
    if not usable.all():
        flat = np.where(usable, flat, flat.dtype.type(0))
    energy = float(np.dot(flat, flat)) if flat.dtype in (np.float32, np.float64) else 0.0
    energy = energy if math.isfinite(energy) else 0.0
    return Difference(kind, size, finite=int(np.count_nonzero(usable)), signal=energy, dot=energy, energy=energy)


def as_element(array: Array, element: int) -> Array:
    """The array in another element type, as a value that is put in another's place needs it."""
    wanted = dtype_of(element)
    if array.dtype == wanted:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(wanted)


@dataclass(frozen=True)
class Histogram:
    """Errors by size: `edges` are powers of ten of |error| over the RMS of the reference.

    `counts[0]` counts elements without any error, `counts[1]` those below the first edge, and so on;
    the last counts what is above the last edge or not a number.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]

    def __add__(self, other: Histogram) -> Histogram:
        """Both together."""
        return Histogram(self.edges, tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))


EDGES: Final = tuple(range(-8, 2))


def histogram(reference: Any, candidate: Any) -> Histogram:
    """The errors of a candidate; all in the last bin where shape or kind differ."""
    left, right = np.asarray(reference), np.asarray(candidate)
    empty = [0] * (len(EDGES) + 2)
    if left.shape != right.shape or "O" in (left.dtype.kind, right.dtype.kind) or left.dtype.kind == "c":
        empty[-1] = int(right.size)
        return Histogram(EDGES, tuple(empty))
    a, b = np.ascontiguousarray(left).reshape(-1), np.ascontiguousarray(right).reshape(-1)
    with np.errstate(all="ignore"):
        rms = _rms(a) or 1.0
        for start in range(0, a.size, CHUNK):
            x, y = (one[start : start + CHUNK].astype(np.float64) for one in (a, b))
            gap = np.abs(x - y) / rms
            same = (gap == 0) | (np.isnan(x) & np.isnan(y)) | (x == y)
            bins = np.searchsorted(EDGES, np.log10(gap[~same]), side="right")
            found = (int(same.sum()), *np.bincount(bins, minlength=len(EDGES) + 1).tolist())
            empty = [one + other for one, other in zip(empty, found, strict=True)]
    return Histogram(EDGES, tuple(empty))


def _rms(flat: Array) -> float:
    """The RMS of the elements that are finite; 1 where none is."""
    energy, count = 0.0, 0
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK].astype(np.float64)
        part = part[np.isfinite(part)]
        energy, count = energy + float(np.dot(part, part)), count + part.size
    return math.sqrt(energy / count) if count else 1.0
