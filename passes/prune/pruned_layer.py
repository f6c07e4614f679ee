"""Prunes the weights of one layer, with what calibration says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.layer_fit import Sums
from graphopt.analysis.least_squares import LEAST, centred, decibels, matching_bias
from passes.prune.choosing import Choice
from passes.prune.influence_scores import Importance, by_activation, by_magnitude, by_second_order
from passes.prune.joint_search import improved, searched
from passes.prune.seen_layers import Job, Seen
from passes.prune.survivors import TRIED, damping_of, held, refitted

Array = np.ndarray[Any, Any]

_QUICK = 21  # rounds of the search where only the size of the error is asked for


@dataclass(frozen=True)
class Method:
    """How influence is measured, whether survivors make up for what is gone, and how far they are held where they
    are: a `damping` of 0 finds the best."""

    importance: Importance
    update: bool
    damping: float

    @property
    def needs_data(self) -> bool:
        return self.update or self.importance != "magnitude"


@dataclass(frozen=True)
class Pruned:
    """The weight as it is stored, its bias [groups, outputs] where that has moved, and how good they are in words."""

    values: Array
    bias: Array | None
    text: str


def pruned(job: Job, known: Seen | str, choice: Choice, method: Method) -> Pruned:
    """Zeros in place of the weights of least influence, and the others moved where that makes the error smaller."""
    weights, stored = job.matrices, job.weight.constant.values
    if isinstance(known, str):
        mask = choice.mask(by_magnitude(weights))
        return Pruned(_masked(job, stored, mask), None, f"by magnitude: {known}" if known else "")
    sums, bias = known.whole, job.bias()
    share = min(choice.count / max(weights.size, 1), 1.0) if choice.pattern is None else choice.mask(weights**2).mean()
    damping = method.damping
    if not damping and (method.update or method.importance == "second-order"):
        damping = damping_of(known.halves, weights, bias, job.has_bias, float(share), TRIED)
    try:
        mask, fitted = _solved(job, weights, sums, choice, method, max(damping, LEAST))
    except np.linalg.LinAlgError:
        mask = choice.mask(by_activation(weights, sums))
        fitted = None
    plain = _masked(job, stored, mask)
    alone = _error(job, plain, bias, sums)
    text = f"error {decibels(alone)} dB below its results"
    if fitted is None:
        return Pruned(plain, None, text)
    with np.errstate(over="ignore"):
        made = job.layout.stored(fitted).astype(stored.dtype)
    moved = matching_bias(sums, job.layout.matrices(made.astype(np.float64))) if job.has_bias else bias
    after = _error(job, made, moved, sums)
    if not after < alone:
        return Pruned(plain, None, f"{text}, and no smaller with others moved")
    text += f", {decibels(after)} dB with the others moved (damping {damping:g})"
    return Pruned(made, moved if job.has_bias else None, text)


def foreseen(job: Job, known: Seen, choices: Sequence[Choice], method: Method) -> list[float]:
    """The error with each of some choices, as a share of the results: fitted to one half of the samples, and seen on
    the other. What is no number is 1: nothing is left of the results."""
    weights, bias = job.matrices, job.bias()
    first, second = known.halves if None not in known.halves else (known.whole, known.whole)
    assert first is not None and second is not None, "one of them was replaced"
    damping = method.damping or damping_of(known.halves, weights, bias, job.has_bias, 0.5, TRIED)
    found = list[float]()
    for choice in choices:
        try:
            mask, fitted = _solved(job, weights, first, choice, method, max(damping, LEAST), _QUICK)
        except np.linalg.LinAlgError:
            return [1.0] * len(choices)
        values = np.where(mask, 0, weights) if fitted is None else fitted
        made = matching_bias(first, values) if job.has_bias and fitted is not None else bias
        error = second.error(np.concatenate([values, made[:, None]], axis=1))
        found.append(error if np.isfinite(error) else 1.0)
    return found


def _solved(
    job: Job, weights: Array, sums: Sums, choice: Choice, method: Method, damping: float, rounds: int = 60
) -> tuple[Array, Array | None]:
    """The mask of zeros, and the survivors moved if they are to be."""
    if method.importance == "magnitude":
        mask = choice.mask(by_magnitude(weights))
    elif method.importance == "activation":
        mask = choice.mask(by_activation(weights, sums))
    elif not method.update:
        mask = choice.mask(by_second_order(weights, sums, job.has_bias, damping))
    if not method.update:
        return mask, None
    gram, linear = held(*centred(sums, job.has_bias), weights, damping)
    if method.importance == "second-order":
        first = choice.mask(np.square(weights) * np.einsum("gkk->gk", gram)[:, :, None])
        joint = searched(gram, linear, weights, choice.mask, rounds)
        mask = improved(gram, linear, weights, [joint, first], choice.mask)
    return mask, refitted(gram, linear, mask, weights)


def _masked(job: Job, stored: Array, mask: Array) -> Array:
    return np.where(job.layout.stored(mask), np.zeros((), stored.dtype), stored)


def _error(job: Job, stored: Array, bias: Array, sums: Sums) -> float:
    values = job.layout.matrices(stored.astype(np.float64))
    found = sums.error(np.concatenate([values, bias[:, None]], axis=1))
    return found if np.isfinite(found) else np.inf
