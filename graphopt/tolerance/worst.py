"""What several outputs lose, as one number: that of the worst."""

from __future__ import annotations

import math
from collections.abc import Collection

from graphopt.validation.compare import Difference


def worst(found: Collection[Difference]) -> float:
    """The energy of the error of the worst floating-point output, relative to that output's own; infinite for a new
    NaN or infinity."""
    floats = [one for one in found if one.kind in ("float", "mixed")]
    if any(one.problem or one.nonfinite for one in floats):
        return math.inf
    return max((_relative(one) for one in floats), default=0.0)


def _relative(one: Difference) -> float:
    if one.noise == 0.0:
        return 0.0
    return one.noise / one.signal if one.signal > 0.0 else math.inf
