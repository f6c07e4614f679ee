"""Random numbers that belong to a name: a tensor gets the same ones whatever else draws some, and in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Distribution = Literal["uniform", "normal"]

VARIANCE: Final = {"uniform": 1.0 / 3.0, "normal": 1.0}
"""Of one number of each distribution: uniform ones lie from -1 to 1, normal ones have a deviation of one."""


def generator(name: str, seed: int) -> np.random.Generator:
    """The generator of one name. Other names, and other seeds, have independent ones."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest()
    return np.random.Generator(np.random.PCG64(np.frombuffer(digest, np.uint32).tolist()))


def noise(name: str, shape: Sequence[int], seed: int, distribution: Distribution = "normal") -> Array:
    """Independent numbers of mean zero, float32: from -1 to 1, or normal with a deviation of one."""
    drawing = generator(name, seed)
    if distribution == "normal":
        return drawing.standard_normal(tuple(shape), np.float32)
    found: Array = drawing.random(tuple(shape), np.float32) * np.float32(2) - np.float32(1)
    return found


def deviation(values: Array, axis: int | None) -> Array:
    """The root of the mean square of all values, or for each index of an axis; float64, of a shape that broadcasts."""
    others = None if axis is None else tuple(one for one in range(values.ndim) if one != axis)
    found: Array = np.sqrt(np.square(values, dtype=np.float64).mean(axis=others, keepdims=True))
    return found
