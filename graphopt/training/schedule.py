"""How long the steps are, and which samples each takes: both depend on the number of the step alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def rate_at(progress: float, warm_up: float) -> float:
    """The share of the full step size at a progress from 0 to 1: it rises as a line over `warm_up`, and then
    falls to zero as half a cosine."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < warm_up:
        return progress / warm_up
    if warm_up >= 1:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def found_rate(loss: float) -> float:
    """A step size for a loss to begin with: what is far from its teacher has far to go. Weights of which a share of
    the energy is wrong are off by the root of that, and the steps of a schedule add up to some such lengths."""
    return min(max(0.02 * math.sqrt(max(loss, 0.0)), 1e-4), 0.02)


def drawn(indices: Sequence[int], step: int, batch: int, seed: int) -> list[int]:
    """The samples of a step, counted from 0: all of them come by once, in an order that is drawn anew, before any
    comes by again."""
    count = len(indices)
    batch = min(batch, count)
    first = step * batch
    found = list[int]()
    while len(found) < batch:
        place = first + len(found)
        order = np.random.default_rng((seed, place // count)).permutation(count)
        found += [indices[int(at)] for at in order[place % count :][: batch - len(found)]]
    return found


def held_out(count: int, share: float) -> tuple[list[int], list[int]]:
    """Samples to train on and samples to measure on, evenly spaced: at least one each of two or more."""
    held = min(max(1, round(count * share)), count - 1) if count > 1 else 0
    chosen = {(2 * at + 1) * count // (2 * held) for at in range(held)} if held else set()
    return [at for at in range(count) if at not in chosen], sorted(chosen)
