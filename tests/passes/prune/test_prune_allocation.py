"""Zeros shared out between layers: as many as are asked for, and with the least sum of errors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from passes.prune.allocation import SHARES, _convex, _curve, allocated

STEEP, FLAT = (0.1, 0.3, 0.7), (0.001, 0.003, 0.02)


@pytest.mark.parametrize("total", [0, 1, 17, 500, 1250, 2499, 2500, 9000])
def test_the_sum_is_exact(total: int) -> None:
    units = [1000, 37, 1463]
    found = allocated(units, [STEEP, FLAT, FLAT], total)
    assert sum(found) == min(total, 2500)
    assert all(0 <= one <= most for one, most in zip(found, units, strict=True))


def test_layers_that_are_alike_lose_the_same_share() -> None:
    for total in (300, 1500, 2700):
        found = allocated([1000, 1000, 1000], [FLAT, FLAT, FLAT], total)
        assert max(found) - min(found) <= 10


def test_who_errs_less_loses_more() -> None:
    steep, flat = allocated([1000, 1000], [STEEP, FLAT], 1000)
    assert flat > 700
    assert steep < 300


def total_error(units: Sequence[int], errors: Sequence[Sequence[float]], lost: Sequence[int]) -> float:
    curves = [_convex(_curve(one)) for one in errors]
    places = np.linspace(0, 1, len(curves[0]))
    return sum(float(np.interp(n / m, places, c)) for n, m, c in zip(lost, units, curves, strict=True))


def test_no_other_sharing_is_better() -> None:
    units, errors = [400, 200, 400], [STEEP, FLAT, (0.01, 0.02, 0.6)]
    best = total_error(units, errors, allocated(units, errors, 500))
    for one, two in itertools.product(range(0, 401, 20), range(0, 201, 20)):
        if 0 <= 500 - one - two <= 400:
            assert best <= total_error(units, errors, [one, two, 500 - one - two]) + 1e-3


def test_curves_pass_through_what_was_measured() -> None:
    curve = _curve(STEEP)
    assert [curve[round(share * 200)] for share in SHARES] == pytest.approx(STEEP)
    assert (np.diff(curve) >= 0).all()
    assert (np.diff(_convex(curve), 2) >= -1e-12).all()
    assert (_convex(curve) <= curve + 1e-12).all()


def test_errors_that_make_no_sense_are_survived() -> None:
    assert sum(allocated([10, 10], [(0.0, 0.0, 0.0), (5.0, 0.1, 9.0)], 10)) == 10
    assert allocated([], [], 5) == []
