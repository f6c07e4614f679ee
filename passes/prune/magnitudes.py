"""Magnitudes as integers that sort alike, and the exact count of the smallest ones.

The bits of a float without its sign, read as an unsigned integer, are ordered as its magnitude is.
The k-th smallest of all is then found digit by digit, with a histogram of 65,536 counts over all
tensors for each digit, so that one tensor at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.ir.shelf import scratch

Array = np.ndarray[Any, Any]
Read = Callable[[], Array]
"""Gives the values of one tensor; asked for again in each round."""

_BLOCK = 1 << 20  # elements worked on together
_DIGIT = 16


def keys(values: Array) -> Array:
    """An unsigned integer for each element, of the same shape, ordered as the magnitudes are.

    uint64 for float64, uint32 for float32, float16 and bfloat16 (whose values float32 holds). Zeros
    of both signs have key 0; NaN have larger keys than infinities.
    """
    if values.dtype == np.float64:
        return np.abs(values).view(np.uint64)
    return np.abs(values.astype(np.float32)).view(np.uint32)


def blocks(values: Array) -> Iterator[tuple[int, Array]]:
    """The flattened tensor in pieces: (where the piece starts, the piece)."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        yield start, flat[start : start + _BLOCK]


def count_zeros(values: Array) -> int:
    """How many elements are zero, of either sign."""
    return sum(block.size - int(np.count_nonzero(block)) for _, block in blocks(values))


def zeroed(values: Array, mask: Array) -> Array:
    """`values` with zeros where the mask says so, in its shape."""
    made = scratch(values.shape, values.dtype)
    flat, gone = made.reshape(-1), mask.reshape(-1)
    for start, block in blocks(values):
        part = slice(start, start + block.size)
        flat[part] = np.where(gone[part], np.zeros((), values.dtype), block)
    return made


def has_nan(values: Array) -> bool:
    """Whether any element is a NaN."""
    return any(bool(np.isnan(block).any()) for _, block in blocks(values))


def all_finite(values: Array) -> bool:
    """Whether no element is a NaN or an infinity."""
    return all(bool(np.isfinite(block).all()) for _, block in blocks(values))


def share(sparsity: float, elements: int) -> int:
    """How many of `elements` a sparsity asks for: to the nearest, half up."""
    return min(elements, int(np.floor(sparsity * elements + 0.5)))


@dataclass(frozen=True)
class Cut:
    """Where the smallest magnitudes end: all with a key below `key` (in `wide` bits), and of those
    with that very key the first few. `ties[i]` says how many in tensor i: the first in tensor 0, and
    so on, until there are enough."""

    key: int
    wide: bool
    ties: tuple[int, ...]

    def mask(self, values: Array, index: int) -> Array:
        """Which elements of tensor `index` are among the smallest: bool of its shape."""
        made = scratch((values.size,), np.bool_)
        left = self.ties[index]
        for start, block in blocks(values):
            found = _keys(block, self.wide)
            piece = found < self.key
            if left:
                equal = np.flatnonzero(found == self.key)[:left]
                piece[equal] = True
                left -= equal.size
            made[start : start + block.size] = piece
        return made.reshape(values.shape)


def cut(tensors: Sequence[Read], count: int, wide: bool) -> Cut:
    """The cut below which exactly `count` elements of all tensors together lie, ties by position.

    `wide` asks for keys of float64, which tensors of that type need. The tensors have no NaN and at
    least `count` elements; each is read once for each 16 bits of the key, and once more.
    """
    if count == 0:
        return Cut(0, wide, (0,) * len(tensors))
    width = 64 if wide else 32
    prefix, left = 0, count  # of the elements whose key starts with `prefix`, `left` are wanted
    for shift in range(width - _DIGIT, -1, -_DIGIT):
        counts = _histogram((read() for read in tensors), wide, prefix, shift)
        below = np.cumsum(counts)
        digit = int(np.searchsorted(below, left))
        left -= int(below[digit - 1]) if digit else 0
        prefix = prefix << _DIGIT | digit
    ties = []
    for read in tensors:
        equal = sum(int(np.count_nonzero(_keys(block, wide) == prefix)) for _, block in blocks(read()))
        ties.append(min(equal, left))
        left -= ties[-1]
    return Cut(prefix, wide, tuple(ties))


def _histogram(tensors: Iterable[Array], wide: bool, prefix: int, shift: int) -> Array:
    """How many keys that start with `prefix` have each next digit, the one that `shift` leaves last."""
    counts = np.zeros(1 << _DIGIT, np.int64)
    first = shift == (64 if wide else 32) - _DIGIT
    for values in tensors:
        for _, block in blocks(values):
            digits = _keys(block, wide) >> shift
            if not first:
                digits = digits[digits >> _DIGIT == prefix]
            counts += np.bincount((digits & 0xFFFF).astype(np.int64), minlength=1 << _DIGIT)
    return counts


def _keys(values: Array, wide: bool) -> Array:
    return keys(values.astype(np.float64) if wide else values)
