"""The curve of errors: gain, slope, saturation, and what it says between and beyond its points."""

from __future__ import annotations

import math

import pytest

from graphopt.tolerance.agreement import compared, predicted_errors, spearman, spread_out
from graphopt.tolerance.curve import Curve, Point, decibels
from graphopt.tolerance.table import Row

STRAIGHT = Curve.through(Point(x, 3 * x) for x in (1e-6, 1e-5, 1e-4, 1e-3))
BENT = Curve.through([Point(1e-4, 2e-4), Point(1e-2, 2e-2), Point(0.1, 0.9), Point(1.0, 1.1), Point(2.0, 1.2)])


def test_errors_that_add_up_have_a_slope_of_two_and_fit() -> None:
    assert STRAIGHT.gain == pytest.approx(3.0)
    assert STRAIGHT.slope == pytest.approx(2.0)
    assert STRAIGHT.fit == pytest.approx(1.0)
    assert STRAIGHT.saturates_at is None


def test_saturation_is_found_and_kept_out_of_the_gain() -> None:
    assert BENT.gain == pytest.approx(2.0)
    assert BENT.slope == pytest.approx(2.0)
    assert BENT.saturates_at == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("at", "error"),
    [(0.0, 0.0), (1e-8, 2e-8), (1e-4, 2e-4), (1e-3, 2e-3), (1.0, 1.1), (math.sqrt(2.0), math.sqrt(1.32))],
)
def test_between_points_logarithms_are_straight(at: float, error: float) -> None:
    assert BENT.at(at) == pytest.approx(error)


def test_beyond_the_last_point_it_goes_on_as_it_did() -> None:
    assert STRAIGHT.at(1e-2) == pytest.approx(3e-2)
    assert 1.2 < BENT.at(4.0) < 1.32


def test_what_is_reached_is_what_it_stands_for() -> None:
    for error in (1e-7, 1e-3, 0.5, 1.1):
        assert BENT.at(BENT.reach(error)) == pytest.approx(error, rel=1e-6)
    assert STRAIGHT.reach(1e6) == math.inf


def test_a_curve_of_nothing_and_one_of_no_error() -> None:
    nothing, dead = Curve(()), Curve.through([Point(1e-4, 0.0), Point(1e-2, 0.0)])
    for one in (nothing, dead):
        assert one.gain == 0.0
        assert one.at(0.1) == 0.0
        assert one.reach(1e-9) == math.inf
        assert math.isnan(one.slope)
    assert dead.known
    assert not nothing.known


def test_several_draws_are_averaged_and_curves_never_fall() -> None:
    curve = Curve.through([Point(0.1, 0.3), Point(0.1, 0.5), Point(0.2, 0.1), Point(0.0, 9.0)])
    assert curve.points == (Point(0.1, 0.4), Point(0.2, 0.4))


def test_infinite_errors_stay_infinite() -> None:
    curve = Curve.through([Point(1e-4, 1e-4), Point(1e-2, math.inf)])
    assert curve.at(1e-2) == math.inf
    assert curve.reach(1e-5) == pytest.approx(1e-5)
    assert decibels(math.inf) == -math.inf


def test_the_rank_correlation_shares_ranks_of_ties() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 2, 2, 4], [1, 3, 3, 9]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 1, 2]) == pytest.approx(-0.5)
    assert math.isnan(spearman([1, 2], [1, 2]))
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def row(name: str, predicted: float, measured: float | None = None) -> Row:
    known = {} if measured is None else {"int8-channel": measured}
    return Row(name, "MatMul", (f"node {name}",), (4, 4), STRAIGHT, Curve(()), {}, {"int8-channel": predicted}, known)


def test_predictions_are_compared_with_what_was_measured() -> None:
    rows = [row("a", 1e-4, 1e-4), row("b", 1e-3, 2e-3), row("c", 1e-2, 1e-2), row("d", 1.0)]
    found = compared(rows, "int8-channel")
    assert found.count == 3
    assert found.spearman == pytest.approx(1.0)
    assert found.off_db == 0.0
    assert compared(rows, "channels-25").count == 0


def test_layers_to_verify_are_spread_over_the_ranks() -> None:
    rows = [row(str(at), 10.0**-at) for at in range(9)]
    assert spread_out(rows, "int8-channel", 3) == ["0", "4", "8"]
    assert spread_out(rows, "int8-channel", 99) == [str(at) for at in range(9)]
    assert spread_out(rows, "channels-25", 3) == []


def test_predicted_errors_go_by_weights_and_nodes() -> None:
    rows = [row("a", 1e-4), row("b", 1e-3)]
    assert predicted_errors(rows, "int8-channel") == {"a": 1e-4, "node a": 1e-4, "b": 1e-3, "node b": 1e-3}
    assert predicted_errors(rows, "sparse-50") == {}


def test_bits_and_noise_that_keep_a_target() -> None:
    errors = {f"int{bits}-channel": 10.0 ** (-(6.0 * bits) / 10.0) for bits in range(2, 9)}
    one = Row("a", "Conv", (), (4,), STRAIGHT, Curve(()), {}, errors)
    assert one.bits_for(30.0) == 5
    assert one.bits_for(48.1) is None
    assert one.eps_for(30.0) == pytest.approx(math.sqrt(1e-3 / 3))
