"""Scores that are more than a top-1: named as `module:function`, as any user's own metric would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.corpus_data.evidence import Array


def similarity(outputs: Mapping[str, Any], labels: Array) -> float:
    """Spearman correlation of the cosine of two sentence embeddings with the label.

    The token embeddings [2n, length, width] hold n first sentences, then n second ones; each is
    averaged over its mask. `labels` is [n, 1 + 2 * length]: the score, then the masks.
    """
    tokens = next(array for array in outputs.values() if getattr(array, "ndim", 0) == 3)
    length = (labels.shape[1] - 1) // 2
    masks = np.concatenate([labels[:, 1 : 1 + length], labels[:, 1 + length :]])[:, :, None]
    means = (tokens.astype(np.float64) * masks).sum(axis=1) / masks.sum(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    first, second = np.split(means, 2)
    return spearman((first * second).sum(axis=1), labels[:, 0])


def spearman(one: Array, other: Array) -> float:
    """Rank correlation, equal values sharing their mean rank."""
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def lines_unchanged(outputs: Mapping[str, Any], labels: Array) -> float:
    """Fraction of lines that are read exactly as `labels` say (class numbers, as `paths` gives them)."""
    said = paths({name: [array] for name, array in outputs.items()})
    return float(np.mean([mine == theirs for mine, theirs in zip(said, labels.tolist(), strict=True)]))


def paths(outputs: Mapping[str, Sequence[Any]]) -> list[str]:
    """The greedy CTC path of every line as class numbers: repeats joined, blanks (class 0) dropped."""
    found = []
    for value in next(iter(outputs.values())):
        for line in np.asarray(value):  # [steps, classes]
            best = line.argmax(axis=-1)
            kept = best[np.concatenate([[True], best[1:] != best[:-1]]) & (best != 0)]
            found.append(" ".join(map(str, kept.tolist())))
    return found


def spelled(path: str, charset: Sequence[str]) -> str:
    """A path in letters: class 1 is the first of the charset, the class after the last a space."""
    letters = [*charset, " "]
    return "".join(letters[int(number) - 1] for number in path.split())


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2)[inverse]
    return ranks
