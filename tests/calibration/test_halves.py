"""The user's feeds in two halves, none of whose samples meet, and their labels with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.errors import UsageError
from graphopt.testing import model
from graphopt.validation.feeds import FeedSet, gather
from graphopt.validation.halves import ALONE
from graphopt.validation.plan import FeedPlan


def proto(inputs: str = "float[N,2] x") -> onnx.ModelProto:
    return model(f"g ({inputs}) => (float[A,B] y) {{ y = Identity(x) }}")


def rows(count: int, start: int = 0) -> np.ndarray[Any, Any]:
    return np.repeat(np.arange(start, start + count, dtype=np.float32)[:, None], 2, axis=1)


def half(which: Any, feeds: Any, inputs: str = "float[N,2] x", limit: int | None = None) -> FeedSet:
    return gather(FeedPlan(feeds, limit=limit, half=which), proto(inputs), lambda values: "")


def samples(feeds: FeedSet, name: str = "x") -> list[float]:
    return [float(row.flat[0]) for feed in feeds for row in feed.values[name]]  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [2, 3, 10, 63, 64, 65, 128, 200])
def test_one_array_is_cut_between_samples(count: int) -> None:
    first, second = (half(which, {"x": rows(count)}) for which in ("first", "second"))
    assert samples(first) == list(range(count // 2))
    assert samples(second) == list(range(count // 2, count))
    assert first.report.part == f"samples 1 to {count // 2} of {count}"
    assert len(first) == sum(1 for _ in first) and len(second) == sum(1 for _ in second)


def test_several_feeds_are_divided_feed_by_feed(tmp_path: Path) -> None:
    for index, size in enumerate((3, 1, 4)):
        np.savez(tmp_path / f"{index}.npz", x=rows(size, 10 * index))
    assert samples(half("first", tmp_path)) == [0, 1, 2]
    assert samples(half("second", tmp_path)) == [10, 20, 21, 22, 23]


def test_stacked_feeds_of_a_fixed_batch_are_divided() -> None:
    stacked = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    assert samples(half("first", {"x": stacked}, "float[2,2] x")) == [0, 2]
    assert samples(half("second", {"x": stacked}, "float[2,2] x")) == [4, 6, 8, 10]


def test_inputs_are_cut_alike_and_scalars_are_shared() -> None:
    inputs = "float[N,2] x, int64[N] length, float s"
    given = {"x": rows(4), "length": np.arange(4), "s": np.float32(7).reshape(())}
    second = half("second", given, inputs)
    assert samples(second) == samples(second, "length") == [2, 3]
    assert [feed.values["s"] for feed in second] == [7]


def test_only_the_first_feeds_count_where_they_are_limited() -> None:
    feeds = [{"x": rows(1, index)} for index in range(9)]
    assert samples(half("first", feeds, limit=4)) == [0, 1]
    assert samples(half("second", feeds, limit=4)) == [2, 3]


@pytest.mark.parametrize(
    ("feeds", "inputs"),
    [
        ({"x": rows(1)}, "float[N,2] x"),
        ({"x": rows(3)}, "float[3,2] x"),
        ({"x": rows(4), "state": np.zeros((2, 1), np.float32)}, "float[N,2] x, float[2,1] state"),
        ({"x": rows(4), "other": np.zeros((3, 1), np.float32)}, "float[N,2] x, float[M,1] other"),
    ],
)
def test_one_sample_is_both_halves_and_says_so(feeds: Any, inputs: str) -> None:
    first, second = (half(which, feeds, inputs) for which in ("first", "second"))
    assert samples(first) == samples(second) == samples(half("", feeds, inputs))
    assert ALONE in first.warnings and ALONE in second.warnings


def test_all_of_them_unless_a_half_is_asked_for() -> None:
    everything = half("", {"x": rows(5)})
    assert samples(everything) == list(range(5))
    assert everything.report.part == "" and everything.part is None


@pytest.mark.parametrize(("labels", "expected"), [(np.arange(10), range(5, 10)), (np.arange(20), range(10, 20))])
def test_labels_go_with_their_samples(labels: np.ndarray[Any, Any], expected: range) -> None:
    part = half("second", {"x": rows(10)}).part
    assert part is not None and part.labels(labels).tolist() == list(expected)


def test_labels_of_uneven_feeds() -> None:
    part = half("second", [{"x": rows(1)}, {"x": rows(2)}, {"x": rows(3)}]).part
    assert part is not None and part.labels(np.arange(6)).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [9, 3, 11])
def test_labels_that_cannot_be_divided_are_refused(count: int) -> None:
    part = half("second", {"x": rows(10)}).part
    assert part is not None
    with pytest.raises(UsageError, match=f"there are {count} labels for 10 samples.*give one for each sample"):
        part.labels(np.arange(count))
