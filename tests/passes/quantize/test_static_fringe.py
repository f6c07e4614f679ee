"""static-int8{min-products}: the first convolutions stay floating point where they sum few products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, model
from passes.quantize.static_int8 import StaticInt8

TEXT = """g (float[1, 3, 9, 9] x) => (float[1, 8, 7, 7] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, first)  b = HardSwish(a)  c = Conv<pads = [1, 1, 1, 1], group = 8>(b, deep)
    d = Conv(c, flat)  e = Conv(d, large)  f = HardSwish(e)  y = Conv(f, last) }"""
SHAPES = {
    "first": (8, 3, 3, 3),
    "deep": (8, 1, 3, 3),
    "flat": (8, 8, 1, 1),
    "large": (8, 8, 3, 3),
    "last": (8, 8, 1, 1),
}


def quantized(**options: Any) -> Applied:
    draw = np.random.default_rng(0)
    weights = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    feeds = [{"x": draw.standard_normal((1, 3, 9, 9)).astype(np.float32)}]
    return apply(StaticInt8(target="onnxruntime", **options), model(TEXT, **weights), feeds=feeds)


@pytest.mark.parametrize(
    ("least", "floats"),
    [
        (0, set()),
        (27, set()),  # the first sums 27, and the others come behind it
        (28, {"first", "deep", "flat"}),
        (64, {"first", "deep", "flat"}),  # the last sums 8 as well, but is behind one that is quantized
        (73, {"first", "deep", "flat", "large", "last"}),
    ],
)
def test_those_before_the_first_large_one_stay(least: int, floats: set[str]) -> None:
    done = quantized(min_products=least)
    assert {one.name for one in done.after.graph.initializer} & set(SHAPES) == floats
    assert len([one for one in done.missed if "it comes first and sums" in one.why]) == len(floats)


def test_the_reason_says_how_many() -> None:
    done = quantized(min_products=64)
    assert "it comes first and sums 9 products, fewer than min-products=64" in {one.why for one in done.missed}


def test_the_option_is_checked() -> None:
    with pytest.raises(ValueError, match="min-products"):
        StaticInt8(min_products=-1)
