"""Pairs of values from sketches alone: what names, the record and the values themselves are worth."""

from __future__ import annotations

import numpy as np

from graphopt.debug.matching import match
from graphopt.debug.sketches import Sketch, closeness, sketch

_RNG = np.random.default_rng(5)


def _value(shape: tuple[int, ...] = (4, 5)) -> np.ndarray:
    return _RNG.standard_normal(shape).astype(np.float32)


def _sketches(**values: np.ndarray) -> dict[str, Sketch]:
    return {name: sketch([value]) for name, value in values.items()}


def _pairs(old: dict[str, Sketch], new: dict[str, Sketch], **options: object) -> dict[str, tuple[str, str]]:
    found = match(old, new, outputs=((), ()), **options)  # type: ignore[arg-type]
    return {one.reference: (one.candidate, one.why) for one in found}


def test_values_are_found_under_other_names_and_by_kind_and_shape() -> None:
    a, b = _value(), _value()
    old = _sketches(a=a, b=b, c=_value((3,)))
    new = _sketches(x=b * np.float32(1 + 1e-6), y=a, z=a.astype(np.float64).reshape(5, 4))
    assert _pairs(old, new) == {"a": ("y", "value"), "b": ("x", "value")}


def test_a_name_is_followed_though_the_values_differ() -> None:
    old, new = _sketches(a=_value(), b=_value()), _sketches(a=_value(), b=_value())
    assert _pairs(old, new) == {"a": ("a", "name"), "b": ("b", "name")}


def test_a_name_gives_way_to_a_value() -> None:
    first, second = _value(), _value()
    # as when a normalization is folded into the node before it, which keeps its name
    old, new = _sketches(conv=first, bn=second, z=first * 2), _sketches(conv=second, z=first * 2)
    assert _pairs(old, new) == {"bn": ("conv", "value"), "z": ("z", "name")}


def test_names_that_mean_something_else_are_not_believed() -> None:
    values = [_value() for _ in range(4)]
    old = {str(number): sketch([value]) for number, value in enumerate(values)}
    new = {str((number + 1) % 4): sketch([value]) for number, value in enumerate(values[:3])}
    new["0"] = sketch([_value()])
    assert _pairs(old, new) == {"0": ("1", "value"), "1": ("2", "value"), "2": ("3", "value")}


def test_the_record_leads_to_the_old_name_that_is_nearest() -> None:
    a, b = _value(), _value()
    old, new = _sketches(a=a, b=b), _sketches(fused=b + np.float32(0.1))
    assert _pairs(old, new, origins={"fused": ("a", "b")}) == {"b": ("fused", "record")}


def test_values_that_tell_nothing_are_not_matched_by_value() -> None:
    old, new = _sketches(mask=np.ones((4, 5), np.float32)), _sketches(other=np.ones((4, 5), np.float32))
    assert _pairs(old, new) == {}


def test_outputs_belong_together_by_position_where_no_name_is_shared() -> None:
    old, new = _sketches(y=_value()), _sketches(z=_value())
    (one,) = match(old, new, outputs=(("y",), ("z",)))
    assert (one.reference, one.candidate, one.why) == ("y", "z", "output")


def test_closeness_is_in_decibels_and_infinite_for_other_shapes() -> None:
    a = _value((64, 64))
    assert 55 < closeness(sketch([a]), sketch([a * np.float32(1.001)])) < 65
    assert closeness(sketch([a]), sketch([a])) == 300.0
    assert closeness(sketch([a]), sketch([a[:32]])) == -np.inf
    assert closeness(sketch([np.full((3,), np.nan)]), sketch([np.full((3,), np.nan)])) == 300.0
