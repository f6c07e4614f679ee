"""Which value of the model as it was read a value stands for: of those that provenance gives, the nearest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.analysis.activations import Observation
from graphopt.analysis.layer_fit import Distance


def nearest(asked: Mapping[str, Observation], refused: Mapping[Observation, str]) -> tuple[str, float] | str:
    """The name whose value is nearest, and how far it is as a share of its variance; a clause where none is known.

    `asked` has a `Distance` for each name, observed already; `refused` says which could not be.
    """
    shares = {
        name: one.accumulator.share
        for name, one in asked.items()
        if one not in refused and isinstance(one.accumulator, Distance)
    }
    best = min(shares, key=lambda name: shares[name], default=None)
    if best is None:
        why = next((refused[one] for one in asked.values() if one in refused), "it stands for no value of it")
        return f"its result in the original is not known: {why}"
    if not np.isfinite(shares[best]):
        return f"its result has not the shape of {best!r} of the original, or is no number"
    return best, shares[best]
