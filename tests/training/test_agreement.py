"""Agreement: what counts as rounding, and what is refused."""

from __future__ import annotations

from typing import Any

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


CODES = """g (float[N, 64] x) => (float[N, 64] y) {
    h = MatMul(x, w)
    q = QuantizeLinear(h, s, z)
    d = DequantizeLinear(q, s, z)
    y = MatMul(d, w)
}"""


def coded() -> tuple[Program, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 64)).astype(np.float32)
    program = Program.of(model(CODES, w=w, s=np.float32(1e-3), z=np.array(0, np.int16)))
    x = rng.standard_normal((64, 64)).astype(np.float32)
    return program, x, w


def test_codes_that_flip_are_put_down_to_rounding() -> None:
    program, x, w = coded()
    codes = np.round(x.astype(np.float64) @ w.astype(np.float64) / 1e-3)
    near = np.abs(np.abs(codes - x.astype(np.float64) @ w / 1e-3) - 0.5).argmin()
    codes.flat[near] += 1  # as another order of the sum has it
    expected = (codes * 1e-3) @ w
    (found,) = disagreement(program, {"x": x}, {"y": expected.astype(np.float32)})
    assert found.within


def test_wrong_codes_are_not() -> None:
    program, x, w = coded()
    expected = (np.round(x @ w / 1e-3) + 300) * 1e-3 @ w
    (found,) = disagreement(program, {"x": x}, {"y": expected.astype(np.float32)})
    assert not found.within
