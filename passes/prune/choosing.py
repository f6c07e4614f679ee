"""Which weights of a layer become zero: those of the lowest scores, in the pattern that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.weight_matrices import Layout
from graphopt.analysis.weights import Weight
from passes.prune.candidates import channel_axis, input_axis
from passes.prune.groups import Blocks, Pattern
from passes.prune.magnitudes import share

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Choice:
    """How the weights of one layer compete, all as [groups, inputs, outputs].

    `zero` are those that are zero already: they stay so, and count. `count` is how many elements (or blocks) are to
    be zero in all; with `by_row` the same share of each output's. N:M patterns know their own count.
    """

    layout: Layout
    zero: Array
    count: int
    by_row: bool = False
    pattern: Pattern | Blocks | None = None
    axes: tuple[int, int] = (0, 0)

    def mask(self, scores: Array) -> Array:
        """What is to be zero, where `scores` are not negative and the lowest go; ties in order."""
        scores = np.where(self.zero, -1, scores)
        if isinstance(self.pattern, Pattern):
            stored = np.moveaxis(self.layout.stored(scores), self.axes[1], -1)
            low = lowest_of_groups(stored, self.pattern)
            return self.layout.matrices(np.moveaxis(low, -1, self.axes[1])) | self.zero
        if isinstance(self.pattern, Blocks):
            return self._blocks(self.pattern, scores) | self.zero
        if not self.by_row:
            return lowest(scores.reshape(1, -1), self.count).reshape(scores.shape) | self.zero
        rows = scores.transpose(0, 2, 1)
        count = share(self.count / max(scores.size, 1), rows.shape[2])
        low = lowest(rows.reshape(-1, rows.shape[2]), count).reshape(rows.shape)
        return np.asarray(low.transpose(0, 2, 1)) | self.zero

    def units(self, scores: Array) -> Array:
        """The scores of what competes: of elements, or of whole blocks; zero for those that are zero already."""
        scores = np.where(self.zero, 0, scores)
        if isinstance(self.pattern, Blocks):
            return self.pattern.sums(self.layout.stored(scores), self.axes)
        return scores

    def _blocks(self, blocks: Blocks, scores: Array) -> Array:
        stored = self.layout.stored(scores)
        sums = blocks.sums(np.maximum(stored, 0), self.axes)
        whole = blocks.sums(stored < 0, self.axes) == blocks.size
        low = lowest(np.where(whole, -1, sums).reshape(1, -1), self.count).reshape(sums.shape)
        return self.layout.matrices(blocks.spread(low, stored.shape, self.axes))


def choice_of(
    weight: Weight,
    layout: Layout,
    sparsity: float,
    by_row: bool,
    pattern: Pattern | Blocks | None,
    count: int | None = None,
) -> Choice:
    """How the weights compete for `sparsity`, or for being `count` elements or blocks."""
    zero = layout.matrices(weight.constant.values == 0)
    axes = (0, 0)
    if isinstance(pattern, Blocks):
        axes = channel_axis(weight), input_axis(weight)
    elif isinstance(pattern, Pattern):
        axes = 0, input_axis(weight)
    if count is None:
        units = zero.size // pattern.size if isinstance(pattern, Blocks) else zero.size
        count = share(sparsity, units)
    return Choice(layout, zero, count, by_row, pattern, axes)


def lowest(rows: Array, count: int) -> Array:
    """The `count` lowest of each row; of equal ones the first."""
    if count <= 0:
        return np.zeros(rows.shape, np.bool_)
    if count >= rows.shape[1]:
        return np.ones(rows.shape, np.bool_)
    last = np.partition(rows, count - 1, axis=1)[:, count - 1 : count]
    below, equal = rows < last, rows == last
    left = count - np.count_nonzero(below, axis=1)
    if np.array_equal(np.count_nonzero(equal, axis=1), left):
        return np.asarray(below | equal)
    equal &= np.cumsum(equal, axis=1) <= left[:, None]
    return np.asarray(below | equal)


def lowest_of_groups(scores: Array, pattern: Pattern) -> Array:
    """All but the highest `kept` of each group along the last axis; of equal ones the first count as lower."""
    cut = scores.reshape(*scores.shape[:-1], -1, pattern.group)
    if pattern.group > 8:
        order = np.argsort(cut, axis=-1, kind="stable")[..., : pattern.group - pattern.kept]
        made = np.zeros(cut.shape, np.bool_)
        np.put_along_axis(made, order, True, axis=-1)
        return made.reshape(scores.shape)
    rank = np.zeros(cut.shape, np.int8)  # comparing every two of few is faster than sorting
    for one in range(pattern.group):
        for other in range(one + 1, pattern.group):
            later = cut[..., other] < cut[..., one]
            rank[..., one] += later
            rank[..., other] += ~later
    return np.asarray(rank < pattern.group - pattern.kept).reshape(scores.shape)
