"""Views: dims behind reshapes, targets that are right in every run, and what is a permutation."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.analysis import views
from graphopt.analysis.dims import symbol
from graphopt.ir import Constant, Node, Variable

N, M = symbol("N"), symbol("M")
BATCH = symbol("B", low=1)


def node(op: str, values: list[int] | None = None, **attrs: object) -> Node:
    held = [] if values is None else [Constant("c", np.array(values, np.int64))]
    return Node(op, "", attrs, [Variable("x"), *held], [Variable("y")])


@pytest.mark.parametrize(
    ("made", "dims"),
    [
        (node("Reshape", [0, -1]), (N, 8)),
        (node("Reshape", [-1, 4]), (2 * N, 4)),
        (node("Reshape", [-1, 0, 4]), (N, 2, 4)),
        (node("Reshape", [-1, 3]), None),
        (node("Reshape", [0, 0, 0, 0]), None),
        (node("Reshape", [0, 8], allowzero=1), (0, 8)),
        (node("Flatten", axis=-1), (2 * N, 4)),
        (node("Unsqueeze", [-1, 0]), (1, N, 2, 4, 1)),
        (node("Unsqueeze", [0, -5]), None),
        (node("Squeeze", [5]), None),
        (node("Transpose", perm=[2, 0, 1]), (4, N, 2)),
        (node("Transpose"), (4, 2, N)),
    ],
)
def test_dims_behind_a_view(made: Node, dims: views.Dims | None) -> None:
    assert views.viewed(made, (N, 2, 4)) == dims


@pytest.mark.parametrize(
    ("source", "wanted", "found"),
    [
        ((N, 2, 4), (N, 8), [[0, 8], [-1, 8]]),
        ((2, N), (N, 2), [[-1, 2]]),
        ((N, M), (1, N, M), []),
        ((N, M, 1), (N, 1, M), []),
        ((BATCH, M, 1), (BATCH, 1, M), [[0, 1, -1]]),
        ((0, 3), (3, 0), []),
        ((0, 3), (0, 1, 3), [[0, 1, 3], [-1, 1, 3]]),
    ],
)
def test_targets(source: views.Dims, wanted: views.Dims, found: list[list[int]]) -> None:
    assert views.targets(source, wanted) == found


def test_new_axes() -> None:
    assert views.new_axes((N, M), (1, N, M, 1)) == [0, 3]
    assert views.new_axes((1, N), (1, 1, N)) == [1]
    assert views.new_axes((N, M), (M, N)) is None
    assert views.new_axes((N, M), (N, M)) is None


def test_permutations() -> None:
    assert views.as_permutation((N, 1, M), (N, M, 1)) == [0, 2, 1]
    assert views.as_permutation((N, 1, M), (M, N, 1)) is None
    assert views.as_permutation((N, M), (N, M, 1)) is None
    assert views.composed([2, 0, 1], views.inverse([2, 0, 1])) == [0, 1, 2]
    assert views.moves_only_ones([1, 0, 2], (N, 1, M)) and not views.moves_only_ones([1, 0], (N, M))
