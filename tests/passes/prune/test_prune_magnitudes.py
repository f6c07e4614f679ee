"""Theorems about cuts and groups: exact counts, the smallest and no other, ties by position."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from passes.prune import groups
from passes.prune.groups import Pattern, parse
from passes.prune.magnitudes import Array, Read, count_zeros, cut, has_nan, keys, share

DTYPES = (np.float32, np.float16, ml_dtypes.bfloat16, np.float64)


def reader(values: Array) -> Read:
    return lambda: values


def masks(tensors: list[Array], count: int) -> list[Array]:
    wide = any(one.dtype == np.float64 for one in tensors)
    found = cut([reader(one) for one in tensors], count, wide)
    return [found.mask(one, index) for index, one in enumerate(tensors)]


def by_sorting(tensors: list[Array], count: int) -> list[Array]:
    """The same by a stable sort of everything: a definition, not an algorithm."""
    everything = np.concatenate([np.abs(one.astype(np.float64)).ravel() for one in tensors])
    chosen = np.zeros(everything.size, np.bool_)
    chosen[np.argsort(everything, kind="stable")[:count]] = True
    ends = np.cumsum([one.size for one in tensors])[:-1]
    return [part.reshape(one.shape) for part, one in zip(np.split(chosen, ends), tensors, strict=True)]


def some(dtype: Any, seed: int) -> list[Array]:
    """Three tensors with many equal magnitudes, zeros of both signs, subnormal and huge numbers."""
    rng = np.random.default_rng(seed)
    made = []
    for shape in ((7, 9), (40,), (3, 1, 5)):
        values = np.round(rng.standard_normal(shape) * 4) / 4
        values[rng.random(shape) < 0.1] = -0.0
        values[rng.random(shape) < 0.1] = float(ml_dtypes.finfo(dtype).smallest_subnormal)
        values[rng.random(shape) < 0.05] = -float(ml_dtypes.finfo(dtype).max)
        values[rng.random(shape) < 0.03] = np.inf
        made.append(values.astype(dtype))
    return made


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(6))
def test_exactly_the_smallest_are_cut_and_ties_go_by_position(dtype: Any, seed: int) -> None:
    tensors = some(dtype, seed)
    total = sum(one.size for one in tensors)
    for count in (0, 1, 2, 17, total // 2, total - 1, total):
        found = masks(tensors, count)
        assert sum(int(one.sum()) for one in found) == count
        for ours, sorted_ in zip(found, by_sorting(tensors, count), strict=True):
            assert np.array_equal(ours, sorted_)


def test_tensors_of_several_types_are_compared_by_value() -> None:
    tensors = [np.array([1.0, 3.0], np.float16), np.array([2.0, 1 + 2**-40], np.float64), np.array([1.0], np.float32)]
    for count in range(6):
        for ours, sorted_ in zip(masks(tensors, count), by_sorting(tensors, count), strict=True):
            assert np.array_equal(ours, sorted_)


def test_ties_are_counted_across_pieces_of_a_large_tensor() -> None:
    values = np.ones((3, 1 << 20), np.float32)
    values[1, 5] = 0.5
    (found,) = masks([values], (1 << 20) + 3)
    assert found.sum() == (1 << 20) + 3
    assert found[1, 5] and found[0].all()
    assert np.flatnonzero(found.reshape(-1))[-2:].tolist() == [(1 << 20) + 1, (1 << 20) + 5]


def test_keys_are_ordered_as_magnitudes_are() -> None:
    for dtype in DTYPES:
        values = np.array([0, 1e-7, -0.1, 0.5, -3, 6e4, np.inf]).astype(dtype)
        assert (np.diff(keys(values).astype(np.float64)) > 0).all()
        assert keys(np.array([-0.0]).astype(dtype)) == keys(np.array([0.0]).astype(dtype)) == 0


def test_zeros_and_nans_are_seen() -> None:
    for dtype in DTYPES:
        values = np.array([[0.0, -0.0, 1.0], [2.0, 0.0, 3.0]]).astype(dtype)
        assert count_zeros(values) == 3
        assert not has_nan(values)
        values[1, 2] = np.nan
        assert has_nan(values)


@pytest.mark.parametrize(
    ("sparsity", "elements", "count"),
    [
        (0.5, 10, 5),
        (0.5, 11, 6),
        (0.5, 13, 7),
        (0.3, 10, 3),
        (0.7, 10, 7),
        (0.0, 5, 0),
        (1.0, 5, 5),
        (0.1, 4, 0),
        (0.9, 0, 0),
    ],
)
def test_a_share_is_to_the_nearest_half_up(sparsity: float, elements: int, count: int) -> None:
    assert share(sparsity, elements) == count


@pytest.mark.parametrize(("kept", "group"), [(2, 4), (1, 4), (3, 4), (1, 2), (4, 8), (2, 3)])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_group_keeps_its_largest(kept: int, group: int, axis: int, dtype: Any) -> None:
    rng = np.random.default_rng(kept * group + axis)
    shape = [3, 2, 5]
    shape[axis] = 3 * group
    values = (np.round(rng.standard_normal(shape) * 3) / 3).astype(dtype)
    found = groups.mask(values, axis, Pattern(kept, group))
    assert found.shape == values.shape
    for place in itertools.product(*(range(size) for i, size in enumerate(shape) if i != axis)):
        line = np.moveaxis(values, axis, -1)[place].astype(np.float64)
        gone = np.moveaxis(found, axis, -1)[place]
        for start in range(0, line.size, group):
            order = np.argsort(np.abs(line[start : start + group]), kind="stable")
            assert set(np.flatnonzero(gone[start : start + group])) == set(order[: group - kept])


@pytest.mark.parametrize("text", ["2:4", "1:2", "7:16"])
def test_patterns_are_read(text: str) -> None:
    found = parse(text)
    assert found is not None and str(found) == text
    assert found.sparsity == 1 - found.kept / found.group


def test_no_pattern_is_read() -> None:
    assert parse("unstructured") is None


@pytest.mark.parametrize("text", ["4:2", "2:2", "0:4", "2", "2:", "a:b", "", "2:4 ", "-1:4", "1:1000"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pattern must be unstructured, or such as 2:4"):
        parse(text)
