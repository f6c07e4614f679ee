"""One generated feed: an array for each input, seeded by the input's name.

Every input has its own generator, so that adding or removing an input leaves the others' numbers as
they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import TensorProto

from graphopt.validation.patterns import laid_out
from graphopt.validation.roles import Role
from graphopt.validation.signature import Input
from graphopt.validation.values import Array, is_float

if TYPE_CHECKING:
    from graphopt.runtime.options import Value

_WORDS: Final = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "1", "2.5", "Example text")
_ABSENT: Final = 2  # the feed in which optional inputs are left out
_UNDECLARED: Final = ((), (8,), (2, 8), (2, 8, 16), (1, 3, 32, 32))  # shapes by rank
_LARGE: Final = 1 << 31


@dataclass(frozen=True)
class Recipe:
    """How to draw one feed.

    `style` is how free floats are spread: normal (mean 0, deviation 1), uniform (0 to 1), or
    wide (deviation 4, so that saturation is seen). `timid` replaces free integers by zeros and
    free floats by small positive ones, for models that reject the ordinary draw. `rank` is that
    of inputs that do not declare one.
    """

    sizes: dict[str, int]
    seed: int
    index: int
    style: str = "normal"
    timid: bool = False
    rank: int = 2


def draw(wanted: Input, role: Role, recipe: Recipe) -> Value:
    """A value for one input in its declared type, with the recipe's sizes."""
    rng = _generator(recipe, wanted.name)
    if wanted.form == "map":
        keys: list[Any] = list(_WORDS[:3]) if wanted.key == TensorProto.STRING else [0, 1, 2]
        entries: dict[Any, Any] = {key: _element(wanted, rng) for key in keys}
        return entries
    if wanted.form == "optional" and recipe.index == _ABSENT:
        return None
    shape = wanted.shape(recipe.sizes) if wanted.dims is not None else _UNDECLARED[recipe.rank]
    if wanted.form == "sequence" or (wanted.form == "optional" and wanted.inner == "sequence"):
        return [_tensor(wanted, role, recipe, rng, shape) for _ in range(3)]
    return _tensor(wanted, role, recipe, rng, shape)


def pinned(wanted: Input, given: Array, sizes: Mapping[str, int]) -> Array | None:
    """A value given by the user in the shape of the input, None where it does not fit."""
    array = given.astype(wanted.dtype)
    if wanted.dims is None:
        return array
    shape = wanted.shape(dict(sizes))
    if array.size == int(np.prod(shape, dtype=np.int64)) and array.size > 1:
        return array.reshape(shape)
    if array.size == 1:
        return np.full(shape, array.reshape(()), dtype=wanted.dtype)
    if shape and shape[-1] == array.size:
        return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), shape))
    return None


def _generator(recipe: Recipe, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{recipe.seed}\0{recipe.index}\0{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _tensor(wanted: Input, role: Role, recipe: Recipe, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    dtype = wanted.dtype
    if dtype == np.dtype(object):
        picks = rng.integers(0, len(_WORDS), shape)
        return np.asarray(np.array(_WORDS, dtype=object)[picks], dtype=object).reshape(shape)
    if dtype.kind == "c":
        pair = rng.standard_normal((2, *shape))
        return np.asarray((pair[0] + 1j * pair[1]).astype(dtype))
    numbers = _numbers(wanted, role, recipe, rng, shape)
    if not is_float(dtype):
        numbers = np.clip(numbers, *_range(dtype))
    return np.ascontiguousarray(numbers.astype(dtype)).reshape(shape)


def _numbers(wanted: Input, role: Role, recipe: Recipe, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """float64 or int64 numbers of the role, before the cast to the input's type."""
    kind = role.kind
    if kind in ("index", "position", "length"):
        limit = role.limit(recipe.sizes, 2)
        if recipe.timid and kind == "index":
            return np.zeros(shape, np.int64)
        return _bounded(kind, limit, shape, rng)
    if kind == "mask":
        return _mask(shape, rng)
    if kind == "fill":
        return np.full(shape, role.value)
    if kind == "switch":
        return np.full(shape, role.choices[recipe.index % len(role.choices)])
    if kind == "pattern":
        return laid_out(role, shape, recipe.sizes, rng)
    if kind == "positive":
        return rng.uniform(0.05, 1.0, shape)
    if kind == "unit":
        return rng.uniform(0.0, 1.0, shape)
    if kind == "nonzero":
        return rng.integers(1, 5, shape)
    if kind == "around" and not recipe.timid:
        chosen = rng.choice(np.asarray(role.choices), shape)
        return chosen * (1.0 + 0.2 * rng.standard_normal(shape)) + 0.1 * rng.standard_normal(shape)
    return _free(wanted.dtype, recipe, rng, shape)


def _free(dtype: np.dtype[Any], recipe: Recipe, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Numbers of which nothing is known but the type."""
    if is_float(dtype):
        if recipe.timid:
            return rng.uniform(0.1, 0.5, shape)
        if recipe.style == "uniform":
            return rng.uniform(0.0, 1.0, shape)
        return rng.standard_normal(shape) * (4.0 if recipe.style == "wide" else 1.0)
    if recipe.timid:
        return np.zeros(shape, np.int64)
    if dtype.kind == "b":
        count = int(np.prod(shape, dtype=np.int64))
        return np.full(shape, (recipe.index + 1) % 2) if count == 1 else rng.integers(0, 2, shape)
    low, high = _range(dtype)
    if high - low > 255:  # nothing says how large: small counts are the least surprising
        low, high = 0, 9
    return rng.integers(low, high + 1, shape)


def _bounded(kind: str, limit: int, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    limit = min(limit, _LARGE)
    if kind == "index":
        return rng.integers(0, limit, shape)
    if kind == "position":
        count = np.arange(shape[-1] if shape else 1) % limit
        return np.broadcast_to(count if shape else count[0], shape)
    lengths = rng.integers(max(1, limit // 2), limit + 1, shape) if limit > 1 else np.full(shape, limit)
    flat = np.sort(lengths.reshape(-1))[::-1].copy()  # longest first, as packed sequences have it
    if flat.size:
        flat[0] = limit
    return flat.reshape(shape)


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Ones, then zeros along the last axis: the first row full, the others at least half."""
    if not shape or 0 in shape:
        return np.ones(shape)
    width = shape[-1]
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    lengths = rng.integers((width + 1) // 2, width + 1, rows)
    lengths[0] = width
    return (np.arange(width) < lengths[:, None]).reshape(shape)


def _range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and largest value of an integer or boolean type, those of ml_dtypes too."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return int(info.min), int(info.max)
    import ml_dtypes

    small: Any = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return int(small.min), int(small.max)


def _element(wanted: Input, rng: np.random.Generator) -> Value:
    """One value of a map."""
    if wanted.dtype == np.dtype(object):
        return np.asarray(_WORDS[int(rng.integers(len(_WORDS)))], dtype=object)
    return np.asarray(rng.integers(0, 9) if wanted.dtype.kind in "iu" else rng.standard_normal(), dtype=wanted.dtype)
