"""How far two values lie apart: bits, scaled error, SQNR, cosine, top-1.

Everything is computed in float64 over chunks, so that outputs of any size need a constant
amount of memory. Definitions, with a the reference and b the candidate:
scaled error = max|a-b| / RMS(a); SQNR = 10 log10(sum a^2 / sum (a-b)^2) decibels, infinite when
equal; cosine = sum ab / sqrt(sum a^2 sum b^2). Elements that are not finite are kept out of
these and counted on their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np

from graphopt.validation.values import Array, is_float, kind_of, pairs

if TYPE_CHECKING:
    from graphopt.runtime.options import Value

CHUNK: Final = 1 << 20  # elements looked at together


@dataclass(frozen=True)
class Difference:
    """How one value differs from its reference: plain sums, so that several can be added.

    `differing` counts elements whose bits differ (NaN payloads aside); `decided` those of them
    that are not floating point; `nonfinite` floating-point elements that are NaN, Inf or -Inf in
    one and something else in the other. `rows` and `agreeing` count rows of the last axis and those with
    the same top-1 (for other types: elements, equal elements). `problem` is a clause on how type,
    shape or structure differ, "" if they do not.
    """

    kind: str = "empty"
    elements: int = 0
    differing: int = 0
    decided: int = 0
    nonfinite: int = 0
    finite: int = 0
    peak: float = 0.0
    signal: float = 0.0
    noise: float = 0.0
    dot: float = 0.0
    energy: float = 0.0
    rows: int = 0
    agreeing: int = 0
    problem: str = ""

    def __add__(self, other: Difference) -> Difference:
        """The two together, as if their elements were one value's."""
        summed = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name not in ("kind", "peak", "problem")
        }
        kinds = {self.kind, other.kind} - {"empty"}
        kind = kinds.pop() if len(kinds) == 1 else ("mixed" if kinds else "empty")
        return Difference(
            kind=kind, peak=_larger(self.peak, other.peak), problem=self.problem or other.problem, **summed
        )

    @property
    def scaled(self) -> float:
        """max|a-b| / RMS(a); infinite where a is all zero and b is not, or squares overflow."""
        if self.peak == 0.0:
            return 0.0
        rms = math.sqrt(self.signal / self.finite)
        return self.peak / rms if 0.0 < rms < math.inf else math.inf

    @property
    def sqnr_db(self) -> float:
        """10 log10 of the reference's energy over the difference's; inf when equal."""
        if self.noise == 0.0:
            return math.inf
        if self.signal == 0.0:
            return -math.inf
        ratio = self.signal / self.noise
        return 10.0 * math.log10(ratio) if ratio > 0.0 else -math.inf

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two; 1 when equal, 0 when only one is all zero."""
        if self.noise == 0.0:
            return 1.0
        length = math.sqrt(self.signal) * math.sqrt(self.energy)
        return self.dot / length if length > 0.0 else 0.0

    @property
    def agreement(self) -> float | None:
        """Fraction of rows whose top-1 agrees; None where there are no such rows."""
        return self.agreeing / self.rows if self.rows else None


@dataclass(frozen=True)
class Summary:
    """One output over several feeds: the sum, and the worst feed of each ratio."""

    total: Difference
    scaled: float
    worst_sqnr_db: float
    worst_cosine: float

    @classmethod
    def of(cls, differences: Iterable[Difference]) -> Summary:
        """Sum the feeds up; with no feeds at all everything is equal."""
        total, scaled, sqnr, cosine = Difference(), 0.0, math.inf, 1.0
        for one in differences:
            total = total + one
            scaled, sqnr, cosine = _larger(scaled, one.scaled), min(sqnr, one.sqnr_db), min(cosine, one.cosine)
        return cls(total, scaled, sqnr, cosine)


def compare(reference: Value, candidate: Value) -> Difference:
    """Compare two values of any ONNX type, element by element."""
    found, problem = pairs(reference, candidate)
    total = Difference(problem=problem)
    for left, right in found:
        total = total + _tensor(left, right)
    return total


def unsettled(reference: Value, candidate: Value) -> Array | None:
    """Where the two disagree on a decision: positions (int64, rank 1) counted over all tensors in order.

    A decision is the value of an element that is not floating point, or whether one that is
    is NaN, Inf or -Inf. None where type, shape or structure differ, which settles nothing.
    """
    found, problem = pairs(reference, candidate)
    if problem:
        return None
    start, parts = 0, [np.zeros(0, np.int64)]
    for left, right in found:
        for first, a, b in _chunks(left, right):
            differ = _classes_differ(_real(a), _real(b)) if is_float(left.dtype) else _bits_differ(a, b)
            parts.append(np.flatnonzero(differ).astype(np.int64) + (start + first))
        start += _flat(left).size
    return np.concatenate(parts)


def same_bits(reference: Value, candidate: Value) -> bool:
    """Whether the two are equal bit for bit, NaN payloads aside."""
    found, problem = pairs(reference, candidate)
    return not problem and all(
        not _bits_differ(a, b).any() for left, right in found for _, a, b in _chunks(left, right)
    )


def _tensor(left: Array, right: Array) -> Difference:
    """Two tensors of the same type and shape."""
    kind = kind_of(left.dtype)
    total = Difference(kind=kind)
    for _, a, b in _chunks(left, right):
        differ = _bits_differ(a, b)
        count = int(np.count_nonzero(differ))
        if kind == "float":
            part = _floats(_real(a), _real(b), count)
        elif kind == "integer":
            part = _integers(a, b, count)
        else:
            part = Difference(kind, a.size, count, count, rows=a.size, agreeing=a.size - count)
        total = total + part
    if kind == "float" and left.dtype.kind != "c" and left.ndim and left.shape[-1] > 1:
        rows, agreeing = top1(left, right) if total.differing else (left.size // left.shape[-1],) * 2
        total = total + Difference(kind, rows=rows, agreeing=agreeing)
    return total


def _floats(x: Array, y: Array, differing: int) -> Difference:
    """Statistics of two float64 vectors."""
    usable = np.isfinite(x) & np.isfinite(y)
    finite = int(np.count_nonzero(usable))
    if finite < x.size:
        nonfinite = int(np.count_nonzero(_classes_differ(x, y)))
        x, y = np.where(usable, x, 0.0), np.where(usable, y, 0.0)
    else:
        nonfinite = 0
    with np.errstate(over="ignore", invalid="ignore"):
        signal = float(np.dot(x, x))
        if differing == 0:
            return Difference("float", x.size, 0, 0, 0, finite, 0.0, signal, 0.0, signal, signal)
        gap = x - y
        return Difference(
            "float", x.size, differing, 0, nonfinite, finite,
            peak=float(np.max(np.abs(gap), initial=0.0)),
            signal=signal, noise=float(np.dot(gap, gap)), dot=float(np.dot(x, y)), energy=float(np.dot(y, y)),
        )  # fmt: skip


def _integers(a: Array, b: Array, differing: int) -> Difference:
    """Statistics of two integer vectors, as numbers and as decisions."""
    numbers = _floats(_real(a), _real(b), differing)
    agreed = Difference("integer", decided=differing, rows=a.size, agreeing=a.size - differing)
    return Difference("integer") + _with_kind(numbers, "integer") + agreed


def _with_kind(difference: Difference, kind: str) -> Difference:
    values = {field.name: getattr(difference, field.name) for field in fields(difference)}
    return Difference(**{**values, "kind": kind})


def top1(left: Array, right: Array) -> tuple[int, int]:
    """Rows of the last axis, and those where the candidate's top-1 is a top-1 of the reference.

    A tie in the reference may be broken either way.
    """
    width = left.shape[-1]
    a, b = left.reshape(-1, width), right.reshape(-1, width)
    step, agreeing = max(1, CHUNK // width), 0
    for start in range(0, a.shape[0], step):
        x, y = a[start : start + step].astype(np.float64), b[start : start + step].astype(np.float64)
        rows = np.arange(x.shape[0])
        mine, theirs = x.argmax(axis=1), y.argmax(axis=1)
        agreeing += int(np.count_nonzero((mine == theirs) | (x[rows, mine] == x[rows, theirs])))
    return a.shape[0], agreeing


def _chunks(left: Array, right: Array) -> Iterator[tuple[int, Array, Array]]:
    a, b = _flat(left), _flat(right)
    for start in range(0, a.size, CHUNK):
        yield start, a[start : start + CHUNK], b[start : start + CHUNK]


def _flat(array: Array) -> Array:
    """Rank 1; complex numbers as pairs of their parts."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _real(array: Array) -> Array:
    return array.astype(np.float64, copy=False)


def _bits_differ(a: Array, b: Array) -> Array:
    """Element-wise: other bits, a NaN counting as equal to any NaN; -0.0 is not 0.0."""
    if not is_float(a.dtype):
        unequal: Array = np.asarray(a != b)
        return unequal
    words = np.dtype(f"u{a.dtype.itemsize}")
    differ = a.view(words) != b.view(words)
    if differ.any():
        differ &= ~(np.isnan(_real(a)) & np.isnan(_real(b)))
    return np.asarray(differ)


def _classes_differ(x: Array, y: Array) -> Array:
    """Element-wise, float64: NaN, Inf or -Inf in one and anything else in the other."""
    nan = np.isnan(x) != np.isnan(y)
    infinite = (np.isinf(x) | np.isinf(y)) & (x != y) & ~np.isnan(x) & ~np.isnan(y)
    return np.asarray(nan | infinite)


def _larger(one: float, other: float) -> float:
    """The larger of two, NaN counting as larger than anything."""
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)
