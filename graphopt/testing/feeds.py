"""Feeds for the small models of tests: typed, seeded, at two bindings of the symbolic dims.

The first feed is drawn from ordinary numbers, the second at other sizes, and the third holds what
a rewrite may get wrong: zeros of both signs, infinities, NaN, subnormal and very large numbers,
the limits of integer types. Where an input means more than its type says (an index, a length),
tests give their own feeds.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
from onnx import ModelProto

from graphopt.validation.signature import Input, default_inputs, required_inputs

Array = np.ndarray[Any, Any]
Feeds = dict[str, Any]

SPECIAL = 2
"""Which of the feeds holds infinities, NaN and the like."""

_SIZES = ((2, 3, 5, 4, 6), (4, 1, 2, 7, 3))
_EXTREMES = (-0.0, np.inf, np.nan, 0.0, -np.inf, 1e-40, 1e30, -1e-40, 6e4, -0.5)
_WORDS = np.array(["", "a", "Ab", "12", "é"], dtype=object)


def feeds_for(proto: ModelProto) -> list[Feeds]:
    """Three feeds for the required inputs, and a fourth that overrides defaults where there are any."""
    wanted = required_inputs(proto)
    feeds = [
        _feeds(wanted, 0, sizes_of(proto, 0)),
        _feeds(wanted, 1, sizes_of(proto, 1)),
        _feeds(wanted, 2, sizes_of(proto, 0)),
    ]
    if overridable := default_inputs(proto):
        feeds.append(feeds[0] | _feeds(overridable, 3, sizes_of(proto, 0)))
    return feeds


def feeds_at(proto: ModelProto, sizes: dict[str, int]) -> Feeds:
    """Ordinary numbers for the required inputs, at the given sizes of the symbolic dims."""
    return _feeds(required_inputs(proto), 0, sizes)


def sizes_of(proto: ModelProto, binding: int) -> dict[str, int]:
    """The size of each symbolic dim of the inputs at binding 0 or 1; different symbols, different sizes."""
    symbols = dict.fromkeys(s for each in (*required_inputs(proto), *default_inputs(proto)) for s in each.symbols)
    row = _SIZES[binding]
    return {symbol: row[index % len(row)] for index, symbol in enumerate(symbols)}


def _feeds(wanted: tuple[Input, ...], index: int, sizes: dict[str, int]) -> Feeds:
    return {one.name: _value(one, index, sizes) for one in wanted}


def _value(wanted: Input, index: int, sizes: dict[str, int]) -> Any:
    shape = wanted.shape(sizes) if wanted.dims is not None else (2, 3)
    many = wanted.form == "sequence" or wanted.inner == "sequence"
    drawn = [one.copy() for one in _drawn(index, wanted.name, wanted.dtype, tuple(shape), 3 if many else 1)]
    return drawn if many else drawn[0]


@functools.lru_cache(maxsize=1024)
def _drawn(index: int, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], count: int) -> list[Array]:
    digest = hashlib.sha256(f"{index}\0{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    return [_tensor(dtype, shape, rng, index == SPECIAL) for _ in range(count)]


def _tensor(dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator, special: bool) -> Array:
    if dtype == np.dtype(object):
        return np.asarray(rng.choice(_WORDS, shape), dtype=object).reshape(shape)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        numbers = np.asarray(rng.integers(0 if dtype.kind == "u" else -3, 6, shape)).astype(dtype)
        return _mixed(numbers, np.array([0, info.max, info.min, 1], dtype), rng) if special else numbers
    if dtype.kind == "c":
        return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    numbers = np.asarray(rng.standard_normal(shape)).astype(dtype)
    with np.errstate(over="ignore"):
        extremes = np.array(_EXTREMES).astype(dtype)
    return _mixed(numbers, extremes, rng) if special else numbers


def _mixed(numbers: Array, extremes: Array, rng: np.random.Generator) -> Array:
    """`numbers` with extremes in random places: in half of them, but at least the first five extremes."""
    count = min(numbers.size, max(5, numbers.size // 2))
    flat = numbers.reshape(-1).copy()
    flat[rng.permutation(numbers.size)[:count]] = np.resize(extremes, count)
    return flat.reshape(numbers.shape)
