"""Survivors that make up for what is gone, and the search for what is best to go."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from passes.prune.choosing import lowest, lowest_of_groups
from passes.prune.groups import Pattern
from passes.prune.joint_search import improved, searched
from passes.prune.survivors import held, refitted

Array = np.ndarray[Any, Any]


def problem(groups: int, inputs: int, outputs: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """H, l and w of layers with inputs that go together."""
    draw = np.random.default_rng(seed)
    mix = draw.standard_normal((groups, inputs, inputs)) * np.exp(-np.arange(inputs) / 4)[:, None]
    data = draw.standard_normal((groups, 200, inputs)) @ mix
    gram = data.transpose(0, 2, 1) @ data / 200 + 0.01 * np.eye(inputs)
    weights = draw.standard_normal((groups, inputs, outputs))
    return gram, gram @ weights, weights


def loss(gram: Array, linear: Array, values: Array) -> float:
    return float(np.einsum("gko,gko->", values, gram @ values - 2 * linear))


def test_each_output_is_the_least_squares_solution_of_its_own_weights() -> None:
    gram, linear, weights = problem(3, 20, 7)
    mask = np.random.default_rng(1).random(weights.shape) < 0.5
    found = refitted(gram, linear, mask, weights)
    assert (found[mask] == 0).all()
    for group, output in itertools.product(range(3), range(7)):
        kept = ~mask[group, :, output]
        exact = np.linalg.solve(gram[group][np.ix_(kept, kept)], linear[group, kept, output])
        best = -float(exact @ linear[group, kept, output])  # v' H v - 2 v' l, where H v = l
        one = found[group, :, output]
        assert one @ gram[group] @ one - 2 * one @ linear[group, :, output] <= best + 1e-6 * abs(best)


def test_nothing_gone_is_nothing_moved() -> None:
    gram, linear, weights = problem(2, 9, 5)
    assert np.allclose(refitted(gram, linear, np.zeros(weights.shape, np.bool_), weights), weights)
    assert not refitted(gram, linear, np.ones(weights.shape, np.bool_), weights).any()


def chosen(scores: Array) -> Array:
    """Half of each output."""
    rows = scores.transpose(0, 2, 1)
    low = lowest(rows.reshape(-1, rows.shape[2]), rows.shape[2] // 2).reshape(rows.shape)
    return np.asarray(low.transpose(0, 2, 1))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_found_is_near_the_best_there_is(seed: int) -> None:
    gram, linear, weights = problem(1, 10, 1, seed)
    first = chosen(np.square(weights) * np.einsum("gkk->gk", gram)[:, :, None])
    mask = improved(gram, linear, weights, [searched(gram, linear, weights, chosen), first], chosen)
    assert mask.sum() == 5
    nothing = loss(gram, linear, weights)

    def error(mask: Array) -> float:
        return loss(gram, linear, refitted(gram, linear, mask, weights)) - nothing

    every = []
    for gone in itertools.combinations(range(10), 5):
        other = np.zeros((1, 10, 1), np.bool_)
        other[0, list(gone)] = True
        every.append(error(other))
    assert error(mask) <= error(first) * (1 + 1e-4)
    assert error(mask) <= sorted(every)[12]  # of 252


def test_damping_pulls_towards_the_weights() -> None:
    gram, linear, weights = problem(2, 6, 4)
    ridge, wanted = held(gram, linear, weights, 0.5)
    assert np.allclose(np.linalg.solve(ridge, wanted), weights)
    ridge, wanted = held(gram, linear * 0, weights, 1e6)
    assert np.allclose(np.linalg.solve(ridge, wanted), weights, rtol=1e-4)
    assert np.linalg.eigvalsh(held(np.zeros((2, 6, 6)), linear * 0, weights, 0.1)[0]).min() > 0


@pytest.mark.parametrize("count", [0, 1, 5, 11, 12, 40])
def test_as_many_are_lowest_as_are_asked_for(count: int) -> None:
    rows = np.random.default_rng(0).integers(0, 4, (50, 12)).astype(np.float32)
    low = lowest(rows, count)
    assert (low.sum(1) == min(count, 12)).all()
    order = np.argsort(rows, axis=1, kind="stable")[:, :count]
    expected = np.zeros(rows.shape, np.bool_)
    np.put_along_axis(expected, order, True, axis=1)
    assert np.array_equal(low, expected)


@pytest.mark.parametrize("pattern", [Pattern(2, 4), Pattern(1, 4), Pattern(3, 8), Pattern(4, 16), Pattern(1, 2)])
def test_the_lowest_of_each_group(pattern: Pattern) -> None:
    scores = np.random.default_rng(0).integers(0, 5, (30, 3 * pattern.group)).astype(np.float32)
    low = lowest_of_groups(scores, pattern).reshape(-1, pattern.group)
    order = np.argsort(scores.reshape(-1, pattern.group), axis=1, kind="stable")
    expected = np.zeros(low.shape, np.bool_)
    np.put_along_axis(expected, order[:, : pattern.group - pattern.kept], True, axis=1)
    assert np.array_equal(low, expected)
