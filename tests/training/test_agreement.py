"""Agreement: what counts as rounding, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import CouldNotTell
from graphopt.testing.text import model
from graphopt.training.agreement import Disagreement, disagreement, distance, require_agreement
from graphopt.training.program import Program

pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

DOUBLE = "g (float[N] x) => (float[N] y, int64[1] s) { y = Add(x, x)\n s = Shape(x) }"
X = np.array([1, -2, 3], np.float32)


def test_what_agrees_is_within() -> None:
    found = disagreement(Program.of(model(DOUBLE)), {"x": X}, {"y": 2 * X, "s": np.array([3])})
    assert [one.within for one in found] == [True, True]
    require_agreement(found)


def test_what_differs_is_refused_by_name() -> None:
    found = disagreement(Program.of(model(DOUBLE)), {"x": X}, {"y": 2.01 * X, "s": np.array([3])})
    with pytest.raises(CouldNotTell, match=r"at output 'y' by 0\.005"):
        require_agreement(found)


def test_integers_may_not_differ() -> None:
    assert not disagreement(Program.of(model(DOUBLE)), {"x": X}, {"s": np.array([4])})[0].within


def test_a_tolerance_can_be_given() -> None:
    found = disagreement(Program.of(model(DOUBLE)), {"x": X}, {"y": 2.01 * X}, tolerance=0.01)
    assert found[0].within
    assert str(found[0]) == "y: relative error 0.005 <= 0.01"


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1.0, np.nan], [1.0, np.nan], 0),
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([np.inf, 1.0], [np.inf, 2.0], 0.5),
        ([-np.inf, 1.0], [np.inf, 1.0], np.inf),
        ([], [], 0),
        ([0.0], [0.0], 0),
        ([1.0], [[1.0]], np.inf),
        ([True], [False], 1),
    ],
)
def test_distance(found: list[float], expected: list[float], error: float) -> None:
    assert distance(np.array(found), np.array(expected)) == error


def test_an_exact_match_is_within_no_tolerance() -> None:
    assert Disagreement("y", 0.0, 0.0).within
