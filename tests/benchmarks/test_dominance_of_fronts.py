"""Fronts against the points of other tools."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.dominance import Point, compared, covered, front_of, main, markdown, records_of, sentence, unbeaten
from benchmarks.judged import LOSSLESS_DB
from benchmarks.record import Record
from benchmarks.suites.quantization import contenders
from graphopt.errors import UsageError
from graphopt.pipeline.recipe import Recipe
from graphopt.tune.trial import KEPT, Candidate, Ratio, Trial, Tuned

AXES = ("bytes", "sqnr_db")


def lines(path: Path, *records: Record) -> Path:
    path.write_text("".join(json.dumps(one.to_json()) + "\n" for one in records))
    return path


def record(contender: str, size: float, sqnr: float, drop: float | None = None, ratio: float = 1.0) -> Record:
    figures = {"bytes": size, "sqnr_db": sqnr, "latency_ratio": ratio}
    if drop is not None:
        figures |= {"metric_before": 0.9, "metric_after": 0.9 - drop}
    return Record("quantization", "m", contender, "1", figures)


def trial(name: str, size: int, sqnr: float, ratio: float = 1.0) -> Trial:
    return Trial(
        Candidate(name, "dead-nodes", "int8"), 1, 10, KEPT, bytes=size,
        latency=Ratio(ratio, ratio, ratio), reached={"sqnr_db": sqnr, "top1_drop": 0.002},
    )  # fmt: skip


def searched(path: Path, *trials: Trial, front: tuple[int, ...] | None = None) -> Path:
    places = tuple(range(len(trials))) if front is None else front
    original = Trial(Candidate("original", "", ""), 1, 10, KEPT, bytes=400)
    tuned = Tuned("m.onnx", "size", (), original, trials, places, None, AXES)
    path.write_text(json.dumps(tuned.to_json()))
    return path


def test_a_point_is_covered_by_what_is_no_worse_in_both_axes() -> None:
    front = [Point("small", 100, 20), Point("good", 200, 40)]
    points = [Point("equal", 100, 20), Point("worse", 250, 39), Point("between", 150, 21), Point("tiny", 90, 5)]
    found = covered(front, points)
    assert [None if one.by is None else one.by.name for one in found] == ["small", "good", None, None]
    assert all(one.beats == () for one in found)


def test_a_point_that_beats_one_of_the_front_is_said_to() -> None:
    front = [Point("small", 100, 20), Point("good", 200, 40)]
    (one,) = covered(front, [Point("better", 190, 40)])
    assert one.by is None
    assert [point.name for point in one.beats] == ["good"]
    assert "good are beaten" in sentence([one])
    assert "not for better" in sentence([one])


def test_what_counts_as_equal_neither_beats_nor_escapes() -> None:
    (one,) = covered([Point("ours", 1.02, 30.0)], [Point("theirs", 1.0, 30.05)], ratio=0.03, slack=0.1)
    assert one.by is not None
    assert one.beats == ()


def test_dominance_is_the_definition_on_random_points() -> None:
    draw = random.Random(3)

    def points(count: int) -> list[Point]:
        return [Point(str(at), draw.randint(1, 6), draw.randint(1, 6)) for at in range(count)]

    for _ in range(200):
        front, others = points(4), points(4)
        for one in covered(front, others):
            assert (one.by is None) == all(
                ours.cost > one.point.cost or ours.quality < one.point.quality for ours in front
            )
            if one.beats:
                assert all(one.point.cost <= ours.cost and one.point.quality >= ours.quality for ours in one.beats)
                assert all((one.point.cost, one.point.quality) != (ours.cost, ours.quality) for ours in one.beats)


def test_a_search_against_a_results_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # the trial that is not on the front would cover nncf's point, and does not count
    front = searched(tmp_path / "t.json", trial("a", 100, 30.0), trial("b", 90, 60.0), front=(0,))
    results = lines(
        tmp_path / "r.jsonl", record("onnxruntime:dynamic", 110, 29.0), record("nncf:static", 95, 50.0),
        record("graphopt:int8-static", 10, 90.0), Record("quantization", "m", "broken", "1", failure="it fell over"),
    )  # fmt: skip
    assert main([str(front), str(results), "--model", "m"]) == 1
    said = capsys.readouterr().out
    assert "| onnxruntime:dynamic | 110 | 29 | a | 100 | 30 |" in said
    assert "| nncf:static | 95 | 50 | **nothing** |" in said
    assert "for 1 of 2 points of other tools (not for nncf:static)" in said
    assert "graphopt:int8-static" not in said
    assert "broken" not in said


def test_our_contenders_of_a_results_file_are_a_front(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = lines(tmp_path / "r.jsonl", record("nncf:static", 95, 30.0), record("graphopt:int8-static", 90, 30.0))
    assert main([str(results), str(results), "--model", "m"]) == 0
    assert "for 1 of 1 points" in capsys.readouterr().out


def test_points_that_keep_no_budget_are_left_out(tmp_path: Path) -> None:
    front = searched(tmp_path / "t.json", trial("a", 100, 30.0))
    results = lines(tmp_path / "r.jsonl", record("x:ruined", 10, 1.0, 0.3), record("x:held", 110, 20.0, 0.004))
    assert [one.point.name for one in compared(front, results, "m", AXES, 0.005, 0.0)] == ["x:held"]
    assert len(compared(front, results, "m", AXES, None, 0.0)) == 2


def test_latency_is_equal_within_the_noise_of_two_runs(tmp_path: Path) -> None:
    front = searched(tmp_path / "t.json", trial("a", 100, 30.0, ratio=0.51))
    results = lines(tmp_path / "r.jsonl", record("x:a", 1, 30.0, ratio=0.5), record("x:b", 1, 30.0, ratio=0.48))
    first, second = compared(front, results, "m", ("latency", "sqnr_db"), None, 0.0)
    assert first.by is not None
    assert second.by is None


def test_the_metric_counts_as_its_change(tmp_path: Path) -> None:
    results = lines(tmp_path / "r.jsonl", record("x:a", 100, 1.0, 0.01), record("graphopt:b", 100, 1.0, 0.0))
    point, *_ = front_of(results, "m", ("bytes", "metric"))
    assert (point.name, point.quality, point.drop) == ("graphopt:b", 0.0, 0.0)
    (one,) = compared(results, results, "m", ("bytes", "metric"), None, 0.0)
    assert one.point.quality == pytest.approx(-0.01)
    assert "| x:a | 100 | -0.01 | graphopt:b | 100 | 0 |" in markdown([one], ("bytes", "metric"))


def test_a_metric_that_rose_is_chance_and_counts_as_kept(tmp_path: Path) -> None:
    results = lines(tmp_path / "r.jsonl", record("x:lucky", 100, 1.0, -0.01), record("graphopt:b", 100, 1.0, 0.0))
    (one,) = compared(results, results, "m", ("bytes", "metric"), None, 0.0)
    assert one.by is not None
    assert one.beats == ()


def test_the_original_belongs_to_the_front(tmp_path: Path) -> None:
    lossless = Record("quantization", "m", "x:idle", "1", {"bytes": 400.0, "sqnr_db": LOSSLESS_DB})
    smaller = Record("quantization", "m", "x:smaller", "1", {"bytes": 399.0, "sqnr_db": LOSSLESS_DB})
    results = lines(tmp_path / "r.jsonl", lossless, smaller)
    first, second = compared(searched(tmp_path / "t.json", trial("a", 100, 30.0)), results, "m", AXES, None, 0.0)
    assert first.by is not None
    assert first.by.name == "the original"
    assert second.by is None
    assert [point.name for point in second.beats] == ["the original"]


def test_what_another_of_the_front_beats_is_no_part_of_it() -> None:
    points = [Point("a", 3, 3), Point("b", 2, 3), Point("c", 1, 1), Point("d", 2, 3), Point("e", 4, 4)]
    assert [one.name for one in unbeaten(points)] == ["c", "b", "e"]
    assert unbeaten([]) == []


@pytest.mark.parametrize(
    ("front", "results", "said"),
    [
        ("none.json", "r.jsonl", r"none\.json cannot be read \(No such file"),
        ("t.json", "none.jsonl", r"none\.jsonl cannot be read \(No such file"),
        ("t.json", "bad.jsonl", r"bad\.jsonl is no results file of a benchmark: line 2 is no record"),
        ("t.json", "empty.jsonl", r"empty\.jsonl is no results file of a benchmark: it has no records"),
        ("t.json", "bytes.jsonl", r"bytes\.jsonl cannot be read \(it is no text\)"),
        ("half.json", "r.jsonl", r"half\.json is no result of a search that can be read"),
        ("list.json", "r.jsonl", r"list\.json is no results file of a benchmark: line 1 is no record"),
        ("bare.json", "r.jsonl", r"bare\.json has no point of m with bytes and sqnr_db"),
    ],
)
def test_files_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], front: str, results: str, said: str
) -> None:
    searched(tmp_path / "t.json", trial("a", 100, 30.0))
    good = lines(tmp_path / "r.jsonl", record("x:a", 100, 30.0))
    (tmp_path / "bad.jsonl").write_text(good.read_text() + '{"kind": "record", "suite": 1}\n')
    (tmp_path / "empty.jsonl").write_text('{"kind": "machine"}\n')
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "half.json").write_text('{"trials": [], "front": [0]}')
    (tmp_path / "list.json").write_text("[1]")
    searched(tmp_path / "bare.json")
    assert main([str(tmp_path / front), str(tmp_path / results), "--model", "m"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmarks: ")
    assert error.count("\n") == 1
    with pytest.raises(UsageError, match=said):
        compared(tmp_path / front, tmp_path / results, "m", AXES, None, 0.0)


def test_an_unknown_model_or_axis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    front = searched(tmp_path / "t.json", trial("a", 100, 30.0))
    results = lines(tmp_path / "r.jsonl", record("x:a", 100, 30.0))
    assert main([str(front), str(results), "--model", "other"]) == 2
    assert "has no record of another tool for 'other'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([str(front), str(results), "--model", "m", "--axes", "bytes,beauty"])
    assert ended.value.code == 2
    assert "give one of bytes, latency" in capsys.readouterr().err


def test_a_front_becomes_recipes_that_the_suite_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fitted = replace(trial("b", 90, 60.0), pipeline='static-int8{skip=["a \\"b\\""]}')
    front = searched(tmp_path / "t.json", trial("a", 100, 30.0), fitted, trial("c", 1, 1.0), front=(0, 1))
    assert main([str(front), "--recipes", str(tmp_path / "made")]) == 0
    names = capsys.readouterr().out.split()
    assert names == [f"graphopt:{tmp_path}/made/front-{number}.toml" for number in (1, 2)]
    assert contenders(names) == names
    first, second = (Recipe.load(name.removeprefix("graphopt:")) for name in names)
    assert str(first.pipeline) == "dead-nodes"
    assert str(second.pipeline) == fitted.pipeline
    (tmp_path / "bad.json").write_text('{"trials": []}')
    assert main([str(tmp_path / "bad.json"), "--recipes", str(tmp_path / "made")]) == 2
    assert main([str(tmp_path / "none.json"), "--recipes", str(tmp_path / "made")]) == 2
    assert "none.json cannot be used (No such file or directory)" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([str(front)])
    assert ended.value.code == 2


def test_records_read_back(tmp_path: Path) -> None:
    one = record("x:a", 100, 30.0)
    assert records_of(lines(tmp_path / "r.jsonl", one)) == [one]
