"""Large tensors get the same grids in parts as in one piece."""

from __future__ import annotations

import numpy as np
import pytest

from passes.quantize.grid import Array, Grid, asymmetric, spread, symmetric, why_no_grid
from passes.quantize.slabs import flat_blocks, grid_in_slabs

SINGLE = np.dtype(np.float32)


@pytest.mark.parametrize("make", [symmetric, asymmetric])
@pytest.mark.parametrize(
    ("shape", "axis", "block"),
    [
        ((50, 36), None, 0),
        ((50, 36), 0, 0),
        ((50, 36), 1, 0),
        ((50, 36), -1, 0),
        ((50, 36), 0, 8),
        ((50, 36), 1, 8),
        ((7, 11, 6), 1, 0),
        ((7, 11, 6), 1, 4),
        ((90,), 0, 8),
    ],
)
@pytest.mark.parametrize("most", [1, 100, 700])
def test_grids_of_parts_are_that_of_the_whole(
    make: type, shape: tuple[int, ...], axis: int | None, block: int, most: int
) -> None:
    values = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    sizes = []

    def grid_of(part: Array) -> Grid | str:
        sizes.append(part.size)
        grid: Grid = make(spread(part, axis, block), axis, SINGLE, 4, block=block)
        return grid

    whole = make(spread(values, axis, block), axis, SINGLE, 4, block=block)
    found = grid_in_slabs(values, axis, block, grid_of, most)
    assert isinstance(found, Grid)
    assert np.array_equal(found.scale, whole.scale)
    assert (found.zero is None) == (whole.zero is None)
    assert whole.zero is None or (found.zero is not None and np.array_equal(found.zero, whole.zero))
    assert (found.axis, found.block, found.low, found.high) == (whole.axis, whole.block, whole.low, whole.high)
    assert sum(sizes) == values.size
    assert len(sizes) > 1 or axis is None or most >= values.size


def test_a_reason_in_one_part_is_a_reason_for_all() -> None:
    values = np.ones((64, 8), np.float32)
    values[50, 3] = np.nan

    def grid_of(part: Array) -> Grid | str:
        found = spread(part, 0)
        return why_no_grid(found, SINGLE) or symmetric(found, 0, SINGLE)

    assert grid_in_slabs(values, 0, 0, grid_of, 64) == "it has a NaN"


def test_blocks_of_a_flattened_tensor_are_all_of_it() -> None:
    values = np.arange(35).reshape(5, 7)
    made = np.empty(35, np.int64)
    for place, part in flat_blocks(values, 8):
        made[place] = part
    assert np.array_equal(made.reshape(5, 7), values)
