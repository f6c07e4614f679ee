"""Whether a program computes what another runtime computed: asked before the first step of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import CouldNotTell

if TYPE_CHECKING:
    from graphopt.training.program import Program

Array = np.ndarray[Any, Any]

ROUNDINGS = 2048
"""How many roundings of its own type, of the largest value, an output may be away from the reference."""


@dataclass(frozen=True)
class Disagreement:
    """How far one output is from the reference: `error` is the largest difference over the largest value."""

    output: str
    error: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the two agree as far as rounding lets them."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        sign = "<=" if self.within else ">"
        return f"{self.output}: relative error {self.error:.2g} {sign} {self.tolerance:.2g}"


def disagreement(
    program: Program,
    feeds: Mapping[str, Array],
    reference: Mapping[str, Array],
    tolerance: float | None = None,
) -> list[Disagreement]:
    """Run `program` on `feeds` and hold it against the `reference` values, by name (outputs or values inside).

    Without a `tolerance` it is what the type of each output rounds to; for integers nothing may differ.
    """
    import torch

    from graphopt.training.tensors import to_numpy, to_torch

    with torch.no_grad():
        given = {name: to_torch(np.asarray(array)) for name, array in feeds.items()}
        made = program(given, wanted=tuple(reference), outputs=())
    return [
        Disagreement(
            name, distance(to_numpy(made[name]), expected), _tolerance(expected) if tolerance is None else tolerance
        )
        for name, expected in reference.items()
    ]


def distance(found: Array, expected: Array) -> float:
    """The largest difference over the largest finite value; infinite where shapes or non-finite values differ."""
    if found.shape != expected.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(b[finite]).max())
    error = float(np.abs(a[finite] - b[finite]).max())
    return error / scale if scale > 0 else error


def require_agreement(found: Sequence[Disagreement]) -> None:
    """Raise CouldNotTell, naming the worst output, where one is further away than rounding explains."""
    worst = max((one for one in found if not one.within), key=lambda one: one.error, default=None)
    if worst is not None:
        raise CouldNotTell(
            f"the model cannot be trained: its torch computation differs from onnxruntime's at output {worst.output!r} "
            f"by {worst.error:.2g} of the largest value, where rounding explains {worst.tolerance:.2g}"
        )


def _tolerance(expected: Array) -> float:
    name = expected.dtype.name
    if name == "bfloat16":
        return 2.0**-4
    if name == "float16":
        return 2.0**-6
    if expected.dtype.kind != "f":
        return 0.0
    return float(np.finfo(expected.dtype).eps) * ROUNDINGS
