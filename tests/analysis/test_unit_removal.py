"""The error that stays when inputs of a layer go is that of least squares on the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from graphopt.analysis.layer_fit import Distance, LayerFit
from graphopt.analysis.layer_inputs import Patches, Vectors
from graphopt.analysis.unit_removal import Array, Reading, Removal, reading, second_order, why_no_reading


def seen(inputs: int = 12, outputs: int = 5, seed: int = 0, noise: float = 0.1) -> tuple[LayerFit, Array]:
    """A layer on data whose inputs have much to do with each other, and its weights."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(inputs, inputs))
    data = (draw.normal(size=(400, inputs)) @ mixed).astype(np.float32)
    weights = draw.normal(size=(inputs, outputs))
    results = (data @ weights + 1 + noise * draw.normal(size=(400, outputs))).astype(np.float32)
    fit = LayerFit(Vectors())
    fit.update(data[None, :200], results[None, :200])
    fit.update(data[None, 200:], results[None, 200:])
    return fit, weights[None]


def least(fit: LayerFit, left: Array) -> float:
    """The error of least squares on the inputs that are left."""
    sums = fit.of_inputs(left).whole
    assert sums is not None
    made = np.linalg.lstsq(sums.gram[0], sums.cross[0], rcond=None)[0]
    return sums.error(made[None])


def told(fit: LayerFit, weights: Array, columns: Array) -> Reading:
    sums = fit.whole
    assert sums is not None
    return reading(sums, weights, True, columns, 1e-9)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_errors_are_those_of_least_squares(width: int) -> None:
    fit, weights = seen()
    columns = np.arange(12).reshape(-1, width)
    found = second_order([told(fit, weights, columns)])
    assert isinstance(found, Removal)
    whole = least(fit, np.arange(12))
    for count in range(len(found.order) + 1):
        left = np.setdiff1d(np.arange(12), columns[found.order[:count]].ravel())
        assert found.errors[count] == pytest.approx(least(fit, left) - whole, rel=1e-3, abs=1e-6)


def test_the_first_to_go_is_the_cheapest_of_all() -> None:
    fit, weights = seen(seed=3)
    found = second_order([told(fit, weights, np.arange(12)[:, None])])
    assert isinstance(found, Removal)
    errors = [least(fit, np.delete(np.arange(12), one)) for one in range(12)]
    assert found.order[0] == np.argmin(errors)
    assert sorted([*found.order, *np.setdiff1d(np.arange(12), found.order)]) == list(range(12))
    assert len(found.order) == 11 and len(found.errors) == 12


def test_of_two_inputs_that_say_the_same_one_goes_for_nothing() -> None:
    draw = np.random.default_rng(0)
    data = draw.normal(size=(1, 300, 6)).astype(np.float32)
    data[:, :, 4] = 2 * data[:, :, 1]
    weights = draw.normal(size=(6, 3))
    fit = LayerFit(Vectors())
    fit.update(data, (data @ weights).astype(np.float32))
    sums = fit.whole
    assert sums is not None
    found = second_order([reading(sums, weights[None], True, np.arange(6)[:, None], 1e-7)])
    assert isinstance(found, Removal)
    assert found.order[0] in (1, 4) and found.order[1] not in (1, 4)
    assert found.errors[1] < 1e-4 < 1e-2 < found.errors[2]


def test_layers_are_added() -> None:
    one, other = (told(*seen(seed=seed), np.arange(12)[:, None]) for seed in (1, 2))
    both = second_order([one, other])
    assert isinstance(both, Removal)
    alone = [second_order([each]) for each in (one, other)]
    assert all(isinstance(each, Removal) and both.errors[1] >= each.errors[1] for each in alone)


def test_a_judge_sees_weights_without_the_units() -> None:
    fit, weights = seen()
    lost = list[int]()

    def judge(values: Sequence[Array]) -> float:
        lost.append(int((~values[0].any(axis=1)).sum()))
        return float(lost[-1])

    found = second_order([told(fit, weights, np.arange(12)[:, None])], judge)
    assert isinstance(found, Removal)
    assert lost[0] == 0 and lost[-1] == 11
    np.testing.assert_allclose(found.errors, np.arange(12), atol=1e-9)


def test_what_tells_nothing_says_why() -> None:
    fit, weights = seen()
    assert why_no_reading(fit, weights) is None
    assert why_no_reading(fit, weights[:, :5]) == "no data of the size of its weight were seen"
    assert "NaN" in str(why_no_reading(fit, weights * np.nan))
    assert why_no_reading(LayerFit(Vectors()), weights) == "no data of the size of its weight were seen"


def test_fewer_inputs_are_as_if_only_they_had_been_seen() -> None:
    draw = np.random.default_rng(0)
    rows = Patches((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    data = draw.normal(size=(4, 6, 5, 5)).astype(np.float32)
    results = draw.normal(size=(4, 3, 5, 5)).astype(np.float32)
    kept = np.array([0, 2, 5])
    whole, part = LayerFit(rows), LayerFit(rows)
    whole.update(data, results)
    part.update(np.ascontiguousarray(data[:, kept]), results)
    columns = (kept[:, None] * 9 + np.arange(9)).ravel()
    ours, theirs = whole.of_inputs(columns).whole, part.whole
    assert ours is not None and theirs is not None
    np.testing.assert_allclose(ours.gram, theirs.gram, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(ours.cross, theirs.cross, rtol=1e-5, atol=1e-3)


def test_distance_of_the_channels_that_are_left() -> None:
    draw = np.random.default_rng(0)
    then = draw.normal(size=(2, 6, 4)).astype(np.float32)
    found = Distance({1: np.array([1, 4])})
    found.update(np.ascontiguousarray(then[:, [1, 4]]), then)
    assert found.share == 0
    wrong = Distance({1: np.array([1, 9])})
    wrong.update(np.ascontiguousarray(then[:, [1, 4]]), then)
    assert wrong.share == np.inf
