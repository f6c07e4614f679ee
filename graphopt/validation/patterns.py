"""Fixed layouts for operands that describe shapes: axes, sizes, pads, repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from graphopt.validation.roles import Role
from graphopt.validation.values import Array

Pattern = Callable[[Role, int, dict[str, int], np.random.Generator], Array]


def laid_out(role: Role, shape: tuple[int, ...], sizes: dict[str, int], rng: np.random.Generator) -> Array:
    """The layout that `role.pattern` names, int64 or float64, in `shape`."""
    count = int(np.prod(shape, dtype=np.int64))
    laid: Array = np.asarray(_PATTERNS[role.pattern](role, count, sizes, rng))
    return laid.reshape(shape)


def _dims(role: Role, sizes: dict[str, int]) -> list[int]:
    return [sizes.get(dim, 1) if isinstance(dim, str) else dim for dim in role.dims]


def _flatten(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    """A Reshape target that fits any data: everything into the first axis."""
    return np.array([-1] + [1] * (count - 1), np.int64)[:count]


def _small_counts(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    return rng.integers(1, 3, count)


def _count_up(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    return np.arange(count)


def _same_dims(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    """The data's own dims, the last `count` of them."""
    dims = _dims(role, sizes)
    return np.array(dims[len(dims) - count :] if len(dims) >= count else [8] * count, np.int64)


def _unit_axes(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    """Axes of size 1, which is what Squeeze may take away."""
    units = [axis for axis, size in enumerate(_dims(role, sizes)) if size == 1]
    return np.array(units[:count] if len(units) >= count else range(count), np.int64)


def _parts(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    """Sizes that add up to the axis that Split cuts."""
    dims = _dims(role, sizes)
    if not dims or not count or not -len(dims) <= role.axis < len(dims):
        return np.ones(count, np.int64)
    share, rest = divmod(dims[role.axis], count)
    return np.array([share + (place < rest) for place in range(count)], np.int64)


def _pads(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    """One element at both ends of every axis that has two or more to reflect."""
    dims = _dims(role, sizes)
    wide = [int(size > 1) for size in dims] if count == 2 * len(dims) else [0] * (count // 2)
    return np.array([*wide, *wide], np.int64)


def _corners(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    """A region of interest that is the whole image."""
    return (np.arange(count) >= count // 2).astype(np.float64)


def _scales(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    """Batch and channels kept, the rest doubled."""
    return np.asarray(np.where(np.arange(count) < 2, 1.0, 2.0))


def _alternate(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    return (np.arange(count) + int(rng.integers(2))) % 2


def _total(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    """The length of past and new tokens together, as far as the names of the dims tell."""
    totals = [size for name, size in sizes.items() if "total" in name.lower()]
    tokens = [size for name, size in sizes.items() if "batch" not in name.lower()]
    return np.full(count, max(totals or tokens or [1]))


def _last(role: Role, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Array:
    last: Array = _total(role, count, sizes, rng) - 1
    return last.clip(min=0)


_PATTERNS: Final[dict[str, Pattern]] = {
    "flatten": _flatten,
    "small counts": _small_counts,
    "count up": _count_up,
    "dims": _same_dims,
    "unit axes": _unit_axes,
    "parts": _parts,
    "pads": _pads,
    "corners": _corners,
    "scales": _scales,
    "alternate": _alternate,
    "last position": _last,
    "total length": _total,
}
