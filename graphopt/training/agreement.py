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
SWAYS, MOST, TRIES, SHORT = 4, 0.1, 2, 16
"""What is measured where that does not do: how often an output may move by what rounding of weights moves it by, the
largest error that is ever put down to rounding, the number of trials, and how long a tensor is that is a weight."""


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
    reference: Mapping[str, Any],
    tolerance: float | None = None,
) -> list[Disagreement]:
    """Run `program` on `feeds` and hold it against the `reference` values, by name (outputs or values inside).

    Without a `tolerance` it is what the type of each output rounds to, nothing for integers; where an output is
    further away than that, it is what the output moves by when weights and feeds move by one rounding each, a few
    times over: some models magnify rounding, and in those that compute with codes single codes flip.
    """
    import torch

    from graphopt.training.tensors import to_torch

    names = tuple(reference)
    given = {name: to_torch(np.asarray(array)) for name, array in feeds.items()}
    with torch.no_grad():
        made = {name: _arrays(one) for name, one in program(given, wanted=names, outputs=()).items()}
    found = []
    sway: dict[str, float] | None = None
    for name, expected in reference.items():
        error, allowed = distance(made[name], expected), tolerance
        if allowed is None:
            allowed = _tolerance(expected)
            if not error <= allowed:
                sway = _sway(program, given, made) if sway is None else sway
                allowed = max(allowed, min(SWAYS * sway[name], MOST))
        found.append(Disagreement(name, error, allowed))
    return found


def _sway(program: Program, given: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, float]:
    """How far values move when every weight and float feed moves by one rounding up or down."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def moved(tensors: Mapping[str, Any]) -> dict[str, Any]:
        # short tensors are scalars of formulas, and sizes, rather than weights
        long = {name: one for name, one in tensors.items() if one.is_floating_point() and one.numel() > SHORT}
        signs = {name: torch.randint(0, 2, one.shape, generator=generator) * 2 - 1 for name, one in long.items()}
        return {name: one * (1 + torch.finfo(one.dtype).eps * signs[name]).to(one.dtype) for name, one in long.items()}

    furthest = dict.fromkeys(made, 0.0)
    for _ in range(TRIES):
        with torch.no_grad():
            again = program({**given, **moved(given)}, tuple(made), moved(program.parameters), outputs=())
        for name, one in again.items():
            apart = distance(_arrays(one), made[name])
            furthest[name] = max(furthest[name], apart if np.isfinite(apart) else 0.0)
    return furthest


def _arrays(value: Any) -> Any:
    from graphopt.training.tensors import to_numpy

    return [to_numpy(one) for one in value] if isinstance(value, list) else to_numpy(value)


def distance(found: Any, expected: Any) -> float:
    """The largest difference over the largest finite value; infinite where shapes or non-finite values differ.

    Of two lists it is that of the parts that are furthest apart.
    """
    if isinstance(found, list) or isinstance(expected, list):
        if not isinstance(found, list) or not isinstance(expected, list) or len(found) != len(expected):
            return float("inf")
        return max((distance(one, other) for one, other in zip(found, expected, strict=True)), default=0.0)
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


def _tolerance(expected: Any) -> float:
    if isinstance(expected, list):
        return max((_tolerance(one) for one in expected), default=0.0)
    name = expected.dtype.name
    if name == "bfloat16":
        return 2.0**-4
    if name == "float16":
        return 2.0**-6
    if expected.dtype.kind != "f":
        return 0.0
    return float(np.finfo(expected.dtype).eps) * ROUNDINGS
