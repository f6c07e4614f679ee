"""Tensors seen as lines of blocks, and worked on piece by piece.

A tensor with one scale in all, one for each index of an axis, or one for each block of an axis is
the same thing seen from the scales: an array [before, steps, run, after] beside scales
[1 or before, steps or 1, 1, 1 or after]. A piece is a part of it that fits a processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_SHORT = 1024
_PIECE = 1 << 16  # elements worked on together: 256 KiB of float32


def steps_shape(shape: tuple[int, ...], axis: int | None, block: int = 0) -> tuple[int, ...]:
    """The shape of the scales of a tensor: (), that of `axis`, or the tensor's with `axis` in blocks."""
    if axis is None:
        return ()
    axis %= len(shape)
    if not block:
        return (shape[axis],)
    return (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])


def pieces(shape: tuple[int, ...], axis: int | None, block: int = 0) -> Iterator[tuple[Piece, Piece]]:
    """The parts of a tensor of `shape`, each with the part of the scales that belongs to it."""
    for face in _faces(shape, axis, block):
        yield from face.cut()


def is_short(part: Array, steps: Array) -> bool:
    """Whether the elements that share a scale are many short runs in memory, over which loops are slow."""
    return bool(part.shape[3] == 1 and 1 < part.shape[2] <= _SHORT and steps.shape[:2] == part.shape[:2])


def upright(part: Array) -> Array:
    """A part of short runs [before, steps, run, 1] as one of long ones, [1, 1, run, before * steps]."""
    return np.ascontiguousarray(part.reshape(-1, part.shape[2]).T)[None, None]


class Piece:
    """How to take a four-dimensional part out of an array: the range along `axis`, a shape, an index."""

    def __init__(self, axis: int | None, span: slice, shape: tuple[int, ...], place: tuple[slice, ...]) -> None:
        self.axis, self.span, self.shape, self.place = axis, span, shape, place

    def of(self, array: Array) -> Array:
        """The part of `array`, a view where its memory allows that."""
        if self.axis is not None:
            array = array[(slice(None),) * self.axis + (self.span,)]
        return array.reshape(self.shape)[self.place]


class _Face:
    """The whole blocks of a tensor, or the last one where it is shorter."""

    def __init__(self, values: Piece, scales: Piece) -> None:
        self.values, self.scales = values, scales

    def cut(self) -> Iterator[tuple[Piece, Piece]]:
        """Pieces in the order in which elements lie in memory: what is read once is not read again for the next."""
        shape = self.values.shape
        along = next(i for i in range(len(shape)) if math.prod(shape[i + 1 :]) <= _PIECE)
        count = -(-shape[along] * math.prod(shape[along + 1 :]) // _PIECE)
        width = max(-(-shape[along] // max(count, 1)), 1)
        for outer in np.ndindex(*shape[:along]):
            before = tuple(slice(one, one + 1) for one in outer)
            for start in range(0, shape[along], width):
                place = (*before, slice(start, start + width))
                yield _part(self.values, place), _part(self.scales, place)


def _part(whole: Piece, place: tuple[slice, ...]) -> Piece:
    own = tuple(slice(None) if size == 1 else one for size, one in zip(whole.shape, place, strict=False))
    return Piece(whole.axis, whole.span, whole.shape, own)


def _faces(shape: tuple[int, ...], axis: int | None, block: int) -> list[_Face]:
    everything = slice(None)
    if axis is None:
        return [
            _Face(Piece(None, everything, (1, 1, math.prod(shape), 1), ()), Piece(None, everything, (1, 1, 1, 1), ()))
        ]
    axis %= len(shape)
    before, size, after = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    if not block:
        return [
            _Face(Piece(None, everything, (before, size, 1, after), ()), Piece(None, everything, (1, size, 1, 1), ()))
        ]
    whole, rest = divmod(size, block)
    faces = []
    for first, count, run in ((0, whole, block), (whole, 1, rest)):
        if count and run:
            span = slice(first * block, first * block + count * run)
            values = Piece(axis, span, (before, count, run, after), ())
            scales = Piece(axis, slice(first, first + count), (before, count, 1, after), ())
            faces.append(_Face(values, scales))
    return faces
