"""Which values of the original model the results of layers stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.float_layers import FloatLayer
from graphopt.analysis.layer_fit import Distance
from graphopt.ir import Node, Variable
from graphopt.pipeline.protocol import Context

Array = np.ndarray[Any, Any]

_MOST_NAMES = 12  # of those that a value may stand for, the nearest by provenance come first


@dataclass(frozen=True)
class Target:
    """A value of the model as it was read; `apart` is how far the result was from it, as a share of its variance."""

    original: Original
    apart: float


def targets(layers: Sequence[FloatLayer], ctx: Context) -> dict[Node, Target | str]:
    """For the node of each layer the value of the original that its result stands for, or why it is not known.

    Of several that provenance gives, the nearest on the calibration feeds, which are run once. Channels that the
    result has no more (`Variable.kept`) do not count.
    """
    asked: dict[Node, dict[str, Observation]] = {}
    for layer in layers:
        result = layer.result
        kept = result.kept if isinstance(result, Variable) else {}
        asked[layer.node] = {
            name: Observation((result, Original(name)), Distance(kept)) for name in ctx.originals(result)[:_MOST_NAMES]
        }
    refused = ctx.calibration.observe([one for each in asked.values() for one in each.values()]).refused
    found: dict[Node, Target | str] = {}
    for node, each in asked.items():
        shares = {
            name: one.accumulator.share
            for name, one in each.items()
            if one not in refused and isinstance(one.accumulator, Distance)
        }
        best = min(shares, key=lambda name: shares[name], default=None)
        if best is None:
            why = next((refused[one] for one in each.values() if one in refused), "it stands for no value of it")
            found[node] = f"its result in the original is not known: {why}"
        elif not np.isfinite(shares[best]):
            found[node] = f"its result has not the shape of {best!r} of the original, or is no number"
        else:
            found[node] = Target(Original(best), shares[best])
    return found


def kept_channels(layer: FloatLayer, ctx: Context) -> Array | str | None:
    """Which channels of the original's result the layer still has, None for all; a clause where it lost others."""
    kept = layer.result.kept if isinstance(layer.result, Variable) else {}
    if not kept:
        return None
    axis = layer.axis
    if axis < 0:
        rank = ctx.shapes.rank(layer.result)
        if rank is None:
            return "the rank of its result is not known"
        axis += rank
    if set(kept) != {axis}:
        return "its result is narrower than the original's along another axis than its channels"
    return kept[axis]
