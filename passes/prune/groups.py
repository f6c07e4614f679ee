"""Patterns of zeros: N:M neighbours along the axis that an operator sums over, or whole blocks.

N:M keeps, of every M neighbours, at most N. A block RxC is R neighbouring outputs by C neighbouring inputs (of a
convolution: channels under one place of the kernel) that stay or go together.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from graphopt.ir.shelf import scratch
from passes.prune.magnitudes import Array, keys

_GROUPS = re.compile(r"([0-9]{1,3}):([0-9]{1,3})")
_BLOCKS = re.compile(r"([0-9]{1,3})x([0-9]{1,3})")
_PIECE = 1 << 18  # groups ranked together


@dataclass(frozen=True)
class Pattern:
    """At most `kept` of each `group` neighbours may be other than zero."""

    kept: int
    group: int

    @property
    def sparsity(self) -> float:
        """The share of zeros that the pattern asks for."""
        return 1 - self.kept / self.group

    def __str__(self) -> str:
        return f"{self.kept}:{self.group}"


@dataclass(frozen=True)
class Blocks:
    """Each block of `outputs` by `inputs` is zero, or stays."""

    outputs: int
    inputs: int

    @property
    def size(self) -> int:
        return self.outputs * self.inputs

    def __str__(self) -> str:
        return f"{self.outputs}x{self.inputs}"

    def sums(self, values: Array, axes: tuple[int, int]) -> Array:
        """The sum over each block of a tensor whose outputs and inputs lie along `axes`: [blocks, blocks, rest]."""
        lined = np.moveaxis(values, axes, (0, 1))
        outputs, inputs = lined.shape[:2]
        cut = lined.reshape(outputs // self.outputs, self.outputs, inputs // self.inputs, self.inputs, -1)
        return np.asarray(cut.sum(axis=(1, 3)))

    def sums_of_squares(self, values: Array, axes: tuple[int, int]) -> Array:
        """The same of the squares, in float64, for some rows of blocks at a time."""
        lined = np.moveaxis(values, axes[0], 0)
        inputs = axes[1] + (axes[1] < axes[0])
        each = max(_PIECE * self.outputs * 4 // max(values.size // max(len(lined), 1), 1) // self.outputs, 1)
        each *= self.outputs
        parts = [
            self.sums(np.square(lined[start : start + each].astype(np.float64)), (0, inputs))
            for start in range(0, len(lined), each)
        ]
        return np.concatenate(parts)

    def spread(self, blocks: Array, shape: tuple[int, ...], axes: tuple[int, int]) -> Array:
        """What is said of each block, for each element of a tensor of `shape`: the way back from `sums`."""
        rest = [size for axis, size in enumerate(shape) if axis not in axes]
        wide = np.repeat(np.repeat(blocks, self.outputs, axis=0), self.inputs, axis=1)
        return np.moveaxis(wide.reshape(*wide.shape[:2], *rest), (0, 1), axes)


def parse(text: str) -> Pattern | Blocks | None:
    """The pattern that "unstructured" (None) or a text such as "2:4" or "4x1" stands for. Raises ValueError."""
    if text == "unstructured":
        return None
    blocks = _BLOCKS.fullmatch(text)
    if blocks is not None and int(blocks[1]) * int(blocks[2]) > 1:
        return Blocks(int(blocks[1]), int(blocks[2]))
    found = _GROUPS.fullmatch(text)
    if found is None or not 0 < int(found[1]) < int(found[2]):
        raise ValueError(
            "pattern must be unstructured, or such as 2:4 (of each 4 neighbours 2 may stay), or such as 4x1 (blocks of "
            f"4 outputs and 1 input), and {text!r} is none of these"
        )
    return Pattern(int(found[1]), int(found[2]))


def mask(values: Array, axis: int, pattern: Pattern) -> Array:
    """The smallest magnitudes of each group along `axis`, whose length is a multiple of the group: bool.

    Of equal magnitudes the first along the axis count as smaller.
    """
    axis %= values.ndim
    made = scratch(values.shape, np.bool_)
    inner = math.prod(values.shape[axis + 1 :])
    shape = (-1, pattern.group, inner)
    cut, into = (np.asarray(one, order="C").reshape(shape) for one in (values, made))
    wide = max(_PIECE // max(inner, 1), 1)
    for start in range(0, len(cut), wide):
        for along in range(0, inner, _PIECE):
            part = (slice(start, start + wide), slice(None), slice(along, along + _PIECE))
            into[part] = _smallest(keys(cut[part]), pattern)
    return made


def _smallest(found: Array, pattern: Pattern) -> Array:
    """Which keys [groups, members, rest] are among the smallest of their group; of equal ones the first."""
    gone = pattern.group - pattern.kept
    if pattern.group > 8:
        made = np.zeros(found.shape, np.bool_)
        np.put_along_axis(made, np.argsort(found, axis=1, kind="stable")[:, :gone], True, axis=1)
        return made
    rank = np.zeros(found.shape, np.int8)  # comparing every two of few is faster than sorting
    for one in range(pattern.group):
        for other in range(one + 1, pattern.group):
            later = found[:, other] < found[:, one]
            rank[:, one] += later
            rank[:, other] += ~later
    return np.asarray(rank < gone)
