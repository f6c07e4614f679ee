"""Values too large to be compared are left out before they are read, and the search goes on around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphopt.debug import readings, taps
from graphopt.debug.localize import localize
from graphopt.debug.profile import profile
from graphopt.debug.readings import EDGES, histogram
from graphopt.debug.taps import Model
from graphopt.limits import Limits, limited
from graphopt.storage.read import from_proto
from graphopt.testing import model
from graphopt.testing.running import shared_worker

TEXT = """g (float[N,3] x) => (float y) <int64[2] s = {5, 1}> {
    a = Tanh(x)  e = Tile(a, s)  b = Add(e, k)  y = ReduceMean<keepdims=0>(b)
}"""
FEEDS = [{"x": np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)} for seed in range(3)]


def models(folder: Path) -> tuple[Model, Model]:
    """Two models of one constant each, whose values `e` and `b` take 240 bytes and the others less."""
    made = [model(TEXT, k=np.float32(value)) for value in (1.0, 1.5)]
    one, other = (Model(from_proto(proto), shared_worker(), folder, "the model") for proto in made)
    return one, other


def test_what_is_larger_than_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taps.Tap, "run", _checked(taps.Tap.run, 100))
    with limited(Limits(value_bytes=100)):
        found = localize(*models(tmp_path), FEEDS)
    assert found.first is not None
    assert found.first.value == "y"
    assert found.first.nodes_before == ("Tile 'e'", "Add 'b'", "ReduceMean 'y'")
    assert found.warnings == [
        "2 values of the model cannot be compared, the largest 'b' with 0.00024 MB where 100 bytes are allowed; "
        "--max value-bytes=N moves it"
    ] * 2  # fmt: skip


def test_within_the_limit_they_are(tmp_path: Path) -> None:
    with limited(Limits(value_bytes=240)):
        found = localize(*models(tmp_path), FEEDS)
    assert found.first is not None
    assert (found.first.value, found.warnings) == ("b", [])


def test_a_profile_has_the_others(tmp_path: Path) -> None:
    with limited(Limits(value_bytes=100)):
        found = profile(*models(tmp_path), FEEDS)
    assert [one.match.reference for one in found.readings] == ["a", "y"]
    assert len(found.warnings) == 2


def test_an_output_is_compared_however_large(tmp_path: Path) -> None:
    with limited(Limits(value_bytes=0)):
        found = localize(*models(tmp_path), FEEDS)
    assert found.first is not None
    assert found.first.value == "y"


@pytest.mark.parametrize(("most", "feeds"), [(1 << 30, 3), (1600, 3), (1200, 2), (900, 1), (0, 1)])
def test_many_bytes_are_looked_at_on_fewer_feeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, feeds: int
) -> None:
    monkeypatch.setattr(taps, "ALL_BYTES", most)  # a feed makes 532 bytes of values
    found = localize(*models(tmp_path), FEEDS)
    assert found.first is not None
    assert found.first.value == "b"
    assert found.first.reading.total.elements == 60 * feeds
    assert len(found.warnings) == (feeds < 3)
    if feeds < 3:
        assert found.warnings[0].startswith(f"compared on {feeds} of the 3 feeds, because the values take more than ")


def test_the_limit_keeps_a_search_within_what_is_promised() -> None:
    quarter = 1 << 28  # 256 MB in one value, which several copies of would be more than 1.5 GB
    assert Limits().value_bytes < quarter


def test_a_histogram_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    left = rng.standard_normal((37, 11)).astype(np.float32)
    right = left * (1 + np.float32(10.0) ** rng.uniform(-9, 1, left.shape)).astype(np.float32)
    right[3], left[5, 5], right[5, 5], left[6, 6], right[7, 7] = left[3], np.nan, np.nan, np.inf, np.nan
    whole = histogram(left, right)
    monkeypatch.setattr(readings, "CHUNK", 50)
    assert histogram(left, right) == whole
    assert sum(whole.counts) == left.size
    assert whole.counts[0] >= 12, "a row that is equal, and a NaN that is one in both"
    assert len(whole.counts) == len(EDGES) + 2


def _checked(run, most):  # type: ignore[no-untyped-def]
    def checked(self, *given):  # type: ignore[no-untyped-def]
        found = run(self, *given)
        assert all(np.asarray(one).nbytes <= most for one in found.values())
        return found

    return checked
