"""What was learned once is not learned again, and what is in a folder may be anything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import Asking, Kept

from graphopt import Pipeline
from graphopt.analysis.activations import Extremes, Gram, Histogram, Moments, Observation, Original
from graphopt.calibration import cache
from graphopt.calibration.cache import SHARED, Statistics, check_folder, default_folder
from graphopt.calibration.stream import Stream
from graphopt.errors import UsageError
from graphopt.session.job import Job
from graphopt.session.run import run
from graphopt.storage.read import from_proto
from graphopt.testing import model
from graphopt.validation.budget import parse_budgets
from graphopt.validation.plan import FeedPlan

TEXT = "g (float[N,4] x) => (float[N,3] y) { a = MatMul(x, w)  b = Relu(a)  y = Exp(b) }"
WEIGHT = np.random.default_rng(0).normal(0, 0.3, (4, 3)).astype(np.float32)
ROWS = np.random.default_rng(1).normal(0, 1, (12, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def passes_over_feeds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many values were asked for in each run over the feeds; nothing is known at first."""
    SHARED.clear()
    seen = list[int]()
    original = Stream._pass

    def counted(self: Stream, group: Any, *rest: Any) -> None:
        seen.append(len(group))
        original(self, group, *rest)

    monkeypatch.setattr(Stream, "_pass", counted)
    yield seen
    SHARED.clear()


def ask(folder: Path | None = None, rows: Any = ROWS, weight: Any = WEIGHT) -> Asking:
    asked = Asking(model(TEXT, w=weight), [{"x": rows}])
    asked.data.folder = folder
    return asked


def states(asked: Asking, name: str = "a") -> list[dict[str, Any]]:
    accumulators: list[Any] = [Extremes(), Extremes(1), Histogram(-2, 2, 64), Moments(), Gram()]
    answer = asked.observe(*(Observation((asked.value(name),), one) for one in accumulators))
    assert not answer.refused and answer.feeds == 1
    return [one.state() for one in accumulators]


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(np.array_equal(a[name], b[name]) for a, b in pairs for name in (*a, *b))


def test_the_same_question_is_answered_from_memory(passes_over_feeds: list[int]) -> None:
    first, again = states(ask()), states(ask())
    assert passes_over_feeds == [5] and same(first, again)


@pytest.mark.parametrize(
    "other",
    [
        {"rows": ROWS + 1},
        {"rows": ROWS[::-1]},
        {"weight": WEIGHT * 2},
    ],
)
def test_other_feeds_and_other_weights_are_other_questions(passes_over_feeds: list[int], other: Any) -> None:
    first, again = states(ask()), states(ask(**other))
    assert passes_over_feeds == [5, 5] and not same(first, again)


def test_another_value_another_graph_and_the_model_as_it_was(passes_over_feeds: list[int]) -> None:
    states(ask())
    states(ask(), "b")
    changed = ask()
    relu = next(node for node in changed.graph.nodes if node.op == "Relu")
    relu.op = "Neg"
    states(changed, "b")
    assert passes_over_feeds == [5, 5, 5]
    for _ in range(2):
        low = Extremes()
        changed.observe(Observation((Original("b"),), low))
        assert low.low == 0
    assert passes_over_feeds == [5, 5, 5, 1]


def test_only_what_is_not_known_is_run(passes_over_feeds: list[int]) -> None:
    asked = ask()
    asked.observe(Observation((asked.value("a"),), Extremes()))
    both = [Observation((asked.value(name),), Extremes()) for name in ("a", "b")]
    asked.observe(*both)
    assert passes_over_feeds == [1, 1]


def test_an_accumulator_that_has_seen_something_goes_on_from_there(passes_over_feeds: list[int]) -> None:
    asked, twice = ask(), Moments()
    for _ in range(2):
        asked.observe(Observation((asked.value("a"),), twice))
    assert twice.count == 2 * ROWS.shape[0] * 3
    assert passes_over_feeds == [1, 1]


def test_what_is_kept_does_not_change_with_its_accumulator() -> None:
    asked, one = ask(), Gram()
    asked.observe(Observation((asked.value("a"),), one))
    expected = one.matrix.copy()
    one.matrix += 1
    again = Gram()
    asked.observe(Observation((asked.value("a"),), again))
    assert np.array_equal(again.matrix, expected)
    again.matrix += 1
    third = Gram()
    asked.observe(Observation((asked.value("a"),), third))
    assert np.array_equal(third.matrix, expected)


def test_an_accumulator_without_a_state_is_run_each_time(passes_over_feeds: list[int]) -> None:
    for _ in range(2):
        asked, kept = ask(), Kept()
        asked.observe(Observation((asked.value("a"),), kept))
        assert kept.all().shape == (12, 3)
    assert passes_over_feeds == [1, 1]


def test_a_folder_keeps_it_for_other_processes(tmp_path: Path, passes_over_feeds: list[int]) -> None:
    first = states(ask(tmp_path))
    SHARED.clear()
    again = states(ask(tmp_path))
    assert passes_over_feeds == [5] and same(first, again)
    assert len(list(tmp_path.glob("*.npz"))) == 5 and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", [b"", b"PK", b"not a file", None])
def test_what_others_left_in_the_folder_is_not_believed(
    tmp_path: Path, passes_over_feeds: list[int], content: bytes | None
) -> None:
    first = states(ask(tmp_path))
    for path in tmp_path.glob("*.npz"):
        if content is None:
            np.savez(path, nothing=np.zeros(3))
        else:
            path.write_bytes(content)
    SHARED.clear()
    again = states(ask(tmp_path))
    assert passes_over_feeds == [5, 5] and same(first, again)


def test_files_that_are_gone_are_made_again(tmp_path: Path, passes_over_feeds: list[int]) -> None:
    states(ask(tmp_path))
    next(tmp_path.glob("*.npz")).unlink()
    SHARED.clear()
    states(ask(tmp_path))
    assert passes_over_feeds == [5, 1] and len(list(tmp_path.glob("*.npz"))) == 5


def test_a_folder_that_fills_up_is_a_note_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes_over_feeds: list[int]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    asked = ask(tmp_path)
    states(asked)
    assert asked.data.notes == [f"statistics could not be kept in {str(tmp_path)!r} (no space left on device)"]
    assert list(tmp_path.iterdir()) == []


def test_many_may_write_at_once(tmp_path: Path) -> None:
    state = {"a": np.arange(1000)}
    threads = [threading.Thread(target=cache.write_state, args=(tmp_path / "x.npz", state)) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    found = cache.read_state(tmp_path / "x.npz")
    assert found is not None and np.array_equal(found["a"], state["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_memory_holds_what_was_used_last() -> None:
    held = Statistics(most=100)
    for index in range(5):
        held.put(str(index), {"a": np.zeros(5)})  # 40 bytes
        held.get("0")
    assert [held.get(str(index)) is not None for index in range(5)] == [True, False, False, False, True]
    held.put("large", {"a": np.zeros(50)})
    assert all(held.get(key) is None for key in ("0", "4", "large"))


def test_a_whole_run_goes_on_where_another_was(tmp_path: Path, passes_over_feeds: list[int]) -> None:
    wide = np.random.default_rng(0).normal(0, 1, (4, 300)).astype(np.float32)
    proto = model("g (float[N,4] x) => (float[N,300] y) { a = MatMul(x, w)  y = Relu(a) }", w=wide)
    budget = parse_budgets(("sqnr_db>=0",))
    job = Job(Pipeline.parse("static-int8"), None, budget, FeedPlan({"x": ROWS}), cache_dir=tmp_path / "kept")
    made = [run(from_proto(proto), job).to_proto()]
    seen = len(passes_over_feeds)
    assert seen > 0
    for again in (job, replace(job, cache_dir=None), job):
        made.append(run(from_proto(proto), again).to_proto())
        assert len(passes_over_feeds) == seen
    SHARED.clear()
    made.append(run(from_proto(proto), replace(job, cache_dir=tmp_path / "kept")).to_proto())
    assert len(passes_over_feeds) == seen
    assert len({one.SerializeToString(deterministic=True) for one in made}) == 1


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--cache-dir .*file' cannot be used .it is a file.; name a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(UsageError, match=r"--cache-dir .* cannot be used"):
        check_folder(tmp_path / "file" / "below")
    check_folder(tmp_path / "new" / "deep")
    assert (tmp_path / "new" / "deep").is_dir()


def test_the_user_s_folder_of_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "graphopt" / "calibration"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "graphopt" / "calibration"
