"""Samples cut apart and put together: which are learned from, which are measured on, and their labels with them."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.testing import model
from graphopt.tune.samples import LEAST, MOST, Samples
from graphopt.validation.feed_files import Feed

FREE = model("g (float[N,2] x, float s) => (float[N,2] y) { y = Mul(x, s) }")
FIXED = model("g (float[1,2] x) => (float[1,2] y) { y = Relu(x) }")


def numbered(*counts: int) -> Samples:
    """Samples whose values say which they are, in feeds of so many."""
    feeds, at = [], 0
    for count in counts:
        rows = np.arange(at, at + count, dtype=np.float32)
        feeds.append(Feed({"x": np.stack([rows, rows], axis=1), "s": np.array(1.0, np.float32)}, "f"))
        at += count
    return Samples.of(feeds, FREE, np.arange(at))


def values(feeds: object) -> list[int]:
    return [int(value) for feed in feeds for value in np.asarray(feed["x"])[:, 0]]  # type: ignore[attr-defined]


def test_what_is_measured_on_was_not_learned_from() -> None:
    rung = numbered(5, 7, 64).rung(10_000)
    assert set(values(rung.learning)).isdisjoint(values(rung.measuring))
    assert sorted(values(rung.learning) + values(rung.measuring)) == list(range(76))


@pytest.mark.parametrize("rows", [1, 5, 17, 38])
def test_labels_go_with_their_samples(rows: int) -> None:
    rung = numbered(5, 7, 64).rung(rows)
    assert rung.labels is not None and rung.learned is not None
    assert values(rung.measuring) == rung.labels.tolist()
    assert values(rung.learning) == rung.learned.tolist()
    assert rung.rows == rows == len(rung.labels)


def test_samples_of_one_feed_stay_together_and_scalars_whole() -> None:
    rung = numbered(64, 64).rung(64)
    assert len(rung.learning) == 2
    assert 2 <= len(rung.measuring) <= 20
    assert all(feed["s"].shape == () for feed in rung.measuring)


def test_feeds_that_cannot_be_cut_are_samples() -> None:
    feeds = [Feed({"x": np.full((1, 2), number, np.float32)}, "f") for number in range(6)]
    samples = Samples.of(feeds, FIXED)
    assert samples.counts == (1,) * 6
    assert values(samples.rung(3).measuring) == [1, 3, 5]
    assert samples.first() is feeds[0].values


def test_rungs_grow_to_all_that_is_measured_on() -> None:
    assert numbered(1).rungs() == (1,)
    assert numbered(2 * LEAST).rungs() == (LEAST,)
    assert numbered(100).rungs() == (50,), "a rung of 25 would save nothing"
    assert numbered(4 * LEAST).rungs() == (LEAST, 2 * LEAST)
    assert numbered(400).rungs() == (50, 100, 200)
    assert numbered(*[64] * 100).rungs()[-1] == MOST // 2
    rows = numbered(*[64] * 100).rung(MOST)
    assert max(values(rows.measuring)) > 6000, "evenly taken, not the first ones"


def test_one_sample_is_learned_from_and_measured_on() -> None:
    rung = numbered(1).rung(1)
    assert values(rung.learning) == values(rung.measuring) == [0]


def test_the_fingerprint_sees_values_and_labels() -> None:
    one, other = numbered(8), numbered(8)
    assert one.fingerprint() == other.fingerprint()
    assert numbered(4, 4).fingerprint() != one.fingerprint()
    other.feeds[0]["x"][0, 0] = 9.0
    assert one.fingerprint() != other.fingerprint()
    assert Samples(one.feeds, one.counts, np.zeros(8)).fingerprint() != one.fingerprint()
    assert Samples(one.feeds, one.counts).fingerprint() != one.fingerprint()


def test_latency_is_measured_on_one_sample() -> None:
    assert np.asarray(numbered(64).first()["x"]).shape == (1, 2)
