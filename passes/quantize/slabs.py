"""Large tensors in parts along an axis, none of which shares a scale with another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

from passes.quantize.grid import Array, Grid

SLAB = 1 << 25
"""Elements of a part: what is kept for each scale takes a multiple of the weights where many are tried."""


def grid_in_slabs(
    values: Array, axis: int | None, block: int, grid_of: Callable[[Array], Grid | str], most: int | None = None
) -> Grid | str:
    """What `grid_of` gives for `values`, with a scale in all (`axis` None), for each index of `axis` or each `block`
    along it, asked part by part where there are more than `most` (SLAB) elements. A clause is given as it is."""
    most = SLAB if most is None else most
    if axis is None or values.size <= most:
        return grid_of(values)
    axis %= values.ndim
    along = 0 if block else axis
    found = list[Grid]()
    for part in _parts(values, along, block if block and axis == along else 1, most):
        grid = grid_of(part)
        if isinstance(grid, str):
            return grid
        found.append(grid)
    place = along if block else 0
    scale = np.concatenate([one.scale for one in found], place)
    zeros = [one.zero for one in found if one.zero is not None]
    return dataclasses.replace(found[0], scale=scale, zero=np.concatenate(zeros, place) if zeros else None)


def _parts(values: Array, along: int, step: int, most: int) -> Iterator[Array]:
    size = values.shape[along]
    each = max(most * size // values.size // step * step, step)
    for start in range(0, size, each):
        yield values[(slice(None),) * along + (slice(start, start + each),)]


def flat_blocks(values: Array, most: int = 1 << 22) -> Iterator[tuple[slice, Array]]:
    """The flattened tensor in pieces, and where each is."""
    flat = values.reshape(-1)
    for start in range(0, math.prod(values.shape), most):
        yield slice(start, start + most), flat[start : start + most]
