"""One ulp up or down: the smallest change of a float array, in a seeded random direction."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from graphopt.validation.values import Array

_CHUNK: Final = 1 << 20
# dtype name -> bits of the exponent field, in place; fp8 and narrower are left alone, since there
# one ulp is a tenth of the value and no rounding noise
_EXPONENTS: Final = {
    "float16": 0x7C00,
    "bfloat16": 0x7F80,
    "float32": 0x7F80_0000,
    "float64": 0x7FF0_0000_0000_0000,
}


def can_nudge(dtype: np.dtype[Any]) -> bool:
    """Whether the type is one whose ulp is rounding noise: float16, bfloat16, float32, float64."""
    return dtype.name in _EXPONENTS


def nudge(array: Array, rng: np.random.Generator) -> Array:
    """A copy with every element moved by one ulp, up or down at random.

    Zeros, subnormals, infinities and NaN stay, and no element becomes one of them.
    """
    exponents = _EXPONENTS[array.dtype.name]
    words = np.dtype(f"u{array.dtype.itemsize}")
    mask, one = words.type(exponents), words.type(1)
    moved = np.array(array, order="C", copy=True)
    bits = moved.reshape(-1).view(words)
    for start in range(0, bits.size, _CHUNK):
        part = bits[start : start + _CHUNK]
        up = rng.integers(0, 2, part.size, dtype=np.uint8).astype(bool)
        with np.errstate(over="ignore"):
            changed = np.where(up, part + one, part - one)
        normal = _normal(part, mask) & _normal(changed, mask)
        part[:] = np.where(normal, changed, part)
    return moved


def structural(array: Array) -> bool:
    """Whether every element is a whole number or a power of two.

    Such a constant is part of the formula (the 1 of `1 - mask`, a scale of 0.125) rather than
    the result of training: it is exact, and moving it would make noise that no rounding makes.
    """
    return _exact(array.reshape(-1)[:4096]) and (array.size <= 4096 or _exact(array.reshape(-1)))


def binary(array: Array) -> bool:
    """Whether every element is 0 or 1, as in a mask."""
    return bool(np.all((array == 0) | (array == 1)))


def _exact(flat: Array) -> bool:
    with np.errstate(all="ignore"):
        numbers = flat.astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        return bool(np.all((finite == np.round(finite)) | (np.abs(np.frexp(finite)[0]) == 0.5)))


def _normal(bits: Array, mask: Any) -> Array:
    exponent = bits & mask
    return np.asarray((exponent != 0) & (exponent != mask))
