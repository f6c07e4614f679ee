"""Feeds for models under test: typed, seeded, at two sizes, with the numbers that break things."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphopt.testing import model
from graphopt.testing.feeds import SPECIAL, feeds_for, sizes_of


def test_symbols_are_bound_by_name_and_differ() -> None:
    proto = model("g (float[N, M] x, float[M, 3] w) => (float[N, 3] y) { y = MatMul(x, w) }")
    first, second, third = feeds_for(proto)
    assert first["x"].shape == (2, 3) and first["w"].shape == (3, 3)
    assert second["x"].shape == (4, 1) and second["w"].shape == (1, 3)
    assert third["x"].shape == first["x"].shape
    assert sizes_of(proto, 0) == {"N": 2, "M": 3}


def test_the_same_model_gets_the_same_feeds() -> None:
    proto = model("g (float[N] x, float[N] z) => (float[N] y) { y = Add(x, z) }")
    one, two = feeds_for(proto), feeds_for(proto)
    for a, b in zip(one, two, strict=True):
        assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    assert one[0]["x"].tobytes() != one[0]["z"].tobytes()


def test_special_numbers_are_in_one_feed_only() -> None:
    feeds = feeds_for(model("g (float[2, 4] x) => (float[2, 4] y) { y = Relu(x) }"))
    special = feeds[SPECIAL]["x"].ravel()
    assert np.isnan(special).any() and np.isposinf(special).any() and np.isneginf(special).any()
    assert (np.signbit(special) & (special == 0)).any()
    for index in (0, 1):
        assert np.isfinite(feeds[index]["x"]).all()


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("float16", np.float16),
        ("double", np.float64),
        ("bfloat16", ml_dtypes.bfloat16),
        ("int8", np.int8),
        ("uint64", np.uint64),
        ("int64", np.int64),
        ("bool", np.bool_),
        ("string", np.object_),
        ("complex64", np.complex64),
    ],
)
def test_dtypes_and_ranks(text: str, dtype: type) -> None:
    proto = model(f"g ({text}[N, 2] x, {text} s) => ({text}[N, 2] y) {{ y = Identity(x) }}")
    for feed in feeds_for(proto):
        assert feed["x"].dtype == dtype and feed["x"].ndim == 2
        assert np.asarray(feed["s"]).dtype == dtype and np.asarray(feed["s"]).shape == ()


def test_sequences() -> None:
    feeds = feeds_for(model("g (seq(float[N]) x) => (seq(float[N]) y) { y = Identity(x) }"))
    assert [one.shape for one in feeds[0]["x"]] == [(2,)] * 3


def test_defaults_are_overridden_in_a_feed_of_their_own() -> None:
    proto = model("g (float[N] x, float[1] d) => (float[N] y) { y = Add(x, d) }", d=np.ones(1, np.float32))
    feeds = feeds_for(proto)
    assert ["d" in feed for feed in feeds] == [False, False, False, True]
    assert feeds[3]["x"].tobytes() == feeds[0]["x"].tobytes()
