"""A few hundred elements of each value on each feed: enough to recognise it in another model.

A sketch takes the elements at places that depend on the shape alone, so that equal values have equal
sketches whatever they are called and whoever exported them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from graphopt.debug.taps import Model, Shape, Values, groups, tensor
from graphopt.errors import CouldNotTell
from graphopt.runtime.failure import WorkerFailure
from graphopt.validation.values import Array, kind_of

_ELEMENTS: Final = 384


@dataclass(frozen=True, eq=False)
class Sketch:
    """One value over all feeds: its kind and shapes, and the sampled elements (float64, rank 1).

    `telling` is False for a value that has nothing to recognise it by: few different elements.
    """

    kind: str
    shapes: tuple[Shape, ...]
    elements: Array
    telling: bool

    @property
    def bucket(self) -> tuple[str, tuple[Shape, ...]]:
        """What two values must share to be compared at all."""
        return (self.kind, self.shapes)


class _Part(NamedTuple):
    """What is kept of a value on one feed."""

    dtype: np.dtype[Any]
    shape: Shape
    elements: Array


def sketch(arrays: Sequence[Array]) -> Sketch:
    """The sketch of a value that was these arrays, one a feed."""
    kind = kind_of(arrays[0].dtype)
    shapes = tuple(array.shape for array in arrays)
    elements = np.concatenate([_elements(array) for array in arrays])
    return Sketch(kind, shapes, elements, _telling(kind, elements))


def _elements(array: Array) -> Array:
    """The sampled elements of one array, as finite numbers."""
    if kind_of(array.dtype) == "text":
        return np.zeros(0)
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    if flat.size > _ELEMENTS:
        flat = flat[np.random.default_rng(flat.size).choice(flat.size, _ELEMENTS, replace=False)]
    taken = flat.astype(np.float64)
    if array.dtype.kind not in "iub":
        np.nan_to_num(taken, copy=False, nan=0.0, posinf=1e300, neginf=-1e300)
    return np.clip(taken, -1e150, 1e150)


def sketches(model: Model, feeds: Sequence[Values], shapes: Mapping[str, tuple[Shape, ...]]) -> dict[str, Sketch]:
    """The sketch of every tensor of a model, in graph order; each feed is run once for each group."""
    found: dict[str, Sketch] = {}
    sizes = {name: model.size(name, shapes[name]) for name in model.tensors}
    try:
        for group in groups(model.tensors, sizes):
            parts: dict[str, list[_Part]] = {name: [] for name in group}
            with model.tap(group) as tap:
                for feed in feeds:
                    for name, value in tap.run(feed).items():
                        array = tensor(value)
                        parts[name].append(_Part(array.dtype, array.shape, _elements(array)))
            found.update({name: _joined(several) for name, several in parts.items()})
    except WorkerFailure as failure:
        raise CouldNotTell(f"{model.name} cannot be looked into: {failure}") from None
    return found


def closeness(a: Sketch, b: Sketch) -> float:
    """SQNR (dB) of `b` against `a` on the sampled elements; -inf for another kind or shape."""
    if a.bucket != b.bucket or a.elements.shape != b.elements.shape:
        return -math.inf
    return float(decibels(a.elements, b.elements[None])[0])


def decibels(reference: Array, candidates: Array) -> Array:
    """SQNR of each row of `candidates` against `reference`; 300 where equal."""
    if not reference.size:
        return np.full(len(candidates), 300.0)
    scale = float(np.max(np.abs(reference))) or 1.0
    gaps = np.sum(np.square((candidates - reference) / scale), axis=1)
    energy = float(np.sum(np.square(reference / scale)))
    with np.errstate(divide="ignore"):
        found = 10.0 * (np.log10(energy) - np.log10(gaps)) if energy else np.where(gaps > 0, -300.0, 300.0)
    return np.clip(np.where(gaps == 0.0, 300.0, found), -300.0, 300.0)


def _joined(several: Sequence[_Part]) -> Sketch:
    elements, kind = np.concatenate([one.elements for one in several]), kind_of(several[0].dtype)
    return Sketch(kind, tuple(one.shape for one in several), elements, _telling(kind, elements))


def _telling(kind: str, elements: Array) -> bool:
    """Whether it is no chance when another value has the same elements."""
    return kind != "text" and len(np.unique(elements)) > (3 if kind == "float" else 6)
