"""What would become of the outputs if values of a graph were others: questions to `ctx.measure`, and its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphopt.ir import Tensor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Affine:
    """A value computed from another one: `of`, multiplied by `kernel`, times `factors`, plus `offset`.

    `kernel` is a matrix [inputs, outputs] for the last axis, or the kernel of a convolution that keeps the shape
    [outputs, inputs, 1, ...]; `factors` and `offset` are broadcast against the value. What is None is left out.
    Where `of` is the value that is replaced, it stands for what that was: so single channels can be scaled, or
    masked with zeros.
    """

    of: Tensor
    kernel: Array | None = None
    factors: Array | None = None
    offset: Array | None = None


Replacement = Tensor | Array | Affine


@dataclass(frozen=True, eq=False)
class Change:
    """A trial: everything that reads the first of each pair would read the second.

    That is another value of the graph, an array that is broadcast to the shape of the first (of an initializer: of
    its own shape), or something computed from another value.
    """

    replaced: tuple[tuple[Tensor, Replacement], ...]


@dataclass(frozen=True)
class Effect:
    """What a change does to one output, over all feeds.

    `error` is the energy of the difference as a share of the energy of what it is compared with; of integers,
    booleans and text the share of elements that differ. Infinite where shapes or types differ, or other
    elements are finite. `flips` is the share of rows along the last axis whose largest entry is another one, 0 where
    rows have a single entry.
    """

    error: float
    flips: float = 0.0


@dataclass(frozen=True)
class Effects:
    """What a change does to each output of the model, by name."""

    outputs: Mapping[str, Effect]

    @property
    def error(self) -> float:
        """The largest error of an output."""
        return max((one.error for one in self.outputs.values()), default=0.0)

    @property
    def flips(self) -> float:
        """The largest share of rows of an output whose largest entry is another one."""
        return max((one.flips for one in self.outputs.values()), default=0.0)

    @property
    def text(self) -> str:
        """The error in words."""
        flips = f", {self.flips:.1%} of the rows with another largest entry" if self.flips else ""
        return f"{in_decibels(self.error)}{flips}"


def in_decibels(error: float) -> str:
    """A share of the energy of a signal as decibels below it, in words."""
    if error == 0:
        return "no error"
    if not np.isfinite(error):
        return "no finite error"
    level = round(-10 * float(np.log10(error)), 1)
    return f"an error {abs(level):.1f} dB {'below' if level >= 0 else 'above'} the outputs"


@dataclass
class Measured:
    """Answers of `ctx.measure.changes`.

    `now` is how far the graph as it is is from the model as it was read; `original` and `present` are, for each
    change, how far the changed graph would be from the model as it was read and from the graph as it is.
    `refused` has a clause for each change that could not be tried. `samples` were run.
    """

    samples: int = 0
    now: Effects = field(default_factory=lambda: Effects({}))
    original: dict[Change, Effects] = field(default_factory=dict)
    present: dict[Change, Effects] = field(default_factory=dict)
    refused: dict[Change, str] = field(default_factory=dict)


class Comparison:
    """Sums up how far outputs are from others, feed by feed."""

    def __init__(self) -> None:
        self._apart: dict[str, float] = {}
        self._energy: dict[str, float] = {}
        self._rows: dict[str, int] = {}
        self._flips: dict[str, int] = {}

    def update(self, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """See the outputs of one feed."""
        for name, one in expected.items():
            if name in found:
                apart, energy = _apart(one, found[name])
                rows, flips = _flipped(one, found[name])
                for sums, more in ((self._apart, apart), (self._energy, energy)):
                    sums[name] = sums.get(name, 0.0) + more
                for counts, count in ((self._rows, rows), (self._flips, flips)):
                    counts[name] = counts.get(name, 0) + count

    @property
    def effects(self) -> Effects:
        """What was seen."""
        return Effects(
            {
                name: Effect(_share(apart, self._energy[name]), self._flips[name] / max(self._rows[name], 1))
                for name, apart in self._apart.items()
            }
        )


def _share(apart: float, energy: float) -> float:
    if apart == 0:
        return 0.0
    share = apart / energy if energy > 0 else np.inf
    return float(share) if np.isfinite(share) else float(np.inf)


def _apart(expected: Any, found: Any) -> tuple[float, float]:
    """Energies of the difference and of what is expected; counts of elements where there are no floats."""
    if not isinstance(expected, np.ndarray):
        return float(not _same(expected, found)), 1.0
    if not isinstance(found, np.ndarray) or found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf, 1.0
    if not is_real(expected):
        return float(np.count_nonzero(expected != found)), float(expected.size)
    one, other = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)):
        return np.inf, 1.0
    with np.errstate(over="ignore"):
        return float(np.square(one[finite] - other[finite]).sum()), float(np.square(one[finite]).sum())


def _flipped(expected: Any, found: Any) -> tuple[int, int]:
    """Rows, and those of which the largest entry is another one."""
    if not isinstance(expected, np.ndarray) or not is_real(expected) or not expected.size:
        return 0, 0
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return 0, 0
    rows = expected.size // expected.shape[-1]
    if not isinstance(found, np.ndarray) or found.shape != expected.shape or not is_real(found):
        return rows, rows
    one, other = (array.astype(np.float32).argmax(axis=-1) for array in (expected, found))
    return rows, int(np.count_nonzero(one != other))


def is_real(array: Array) -> bool:
    """Whether an array is of floating point, narrow types included."""
    return array.dtype.kind == "f" or array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and bool(np.array_equal(one, other))
    return type(one) is type(other) and bool(one == other)
