"""Results files, and two runs of the benchmarks beside each other: equal, different, noisy, missing, failed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare
from benchmarks.compared import COARSE, Row, compared, warnings
from benchmarks.record import Record
from benchmarks.results import Run, facts, flagged, latest, machines, read, versions
from benchmarks.steady import NOISE
from graphopt.errors import UsageError

LOPSIDED = {"latency_ratio": 1.0, "latency_ratio_low": 0.999, "latency_ratio_high": 1.028}
EXAMPLE = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "quantization.jsonl"


def made(
    contender: str = "graphopt:a", failure: str = "", words: Mapping[str, str] | None = None, **figures: float
) -> Record:
    return Record("quantization", "m", contender, "1", figures, words or {}, failure)


def paired(value: float, half: float = 0.005, **more: float) -> dict[str, float]:
    """A latency ratio whose interval reaches half a share to both sides."""
    ends = {"latency_ratio_low": value * (1 - half), "latency_ratio_high": value * (1 + half)}
    return {"latency_ratio": value, **ends, **more}


def row(old: Record, new: Record, limit: float = 0.03) -> Row:
    (found,) = compared([old], [new], limit)
    return found


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(one.to_json() if isinstance(one, Record) else one) + "\n" for one in lines))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    code = compare.main(parser.parse_args([str(one) for one in arguments]))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_committed_results_can_be_read() -> None:
    (found,) = read(EXAMPLE)
    assert not found.machine
    assert len(found.records) == 36
    assert versions(found.records)["onnxruntime"] == "1.32.0"


def test_a_line_about_the_machine_begins_a_run(tmp_path: Path) -> None:
    first, second = {"kind": "machine", "cpu": "x", "cores": 2}, {"kind": "machine", "cpu": "y"}
    lines = (made("early"), first, made("a", bytes=1.0), second, made("b"), made("a", bytes=2.0), second)
    runs = read(written(tmp_path / "r.jsonl", *lines))
    assert [(dict(one.machine), [each.contender for each in one.records]) for one in runs] == [
        ({}, ["early"]),
        ({"cpu": "x", "cores": 2}, ["a"]),
        ({"cpu": "y"}, ["b", "a"]),
    ]
    assert [(one.contender, dict(one.figures)) for one in latest(runs)] == [
        ("early", {}),
        ("a", {"bytes": 2.0}),
        ("b", {}),
    ]
    assert machines(runs) == [{"cpu": "x", "cores": 2}, {"cpu": "y"}]


def test_half_a_line_at_the_end_is_not_there_yet(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", made("a"), made("b"))
    whole = path.read_bytes()
    for cut in range(1, len(json.dumps(made("b").to_json()))):
        path.write_bytes(whole[: -1 - cut])
        assert [one.contender for one in latest(read(path))] == ["a"], cut
    path.write_bytes(whole[:-1])
    assert len(latest(read(path))) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no records"),
        ('{"kind": "machine"}\n', "holds no records"),
        ('{"kind": "rec\n{"kind": "machine"}\n', "is no results file: line 1 is no JSON"),
        ("\x08\x01\x12\n\xff\n", "is no results file: line 1 is no JSON"),
        ('\n[1, 2]\n', "line 2 is no JSON object"),
        ('{"kind": "record", "suite": "a"}\n', "line 1 has no 'model'"),
        (json.dumps({**made().to_json(), "speed": 1}) + "\n", "line 1 has an unknown field 'speed'"),
        (json.dumps({**made().to_json(), "model": 7}) + "\n", "line 1 has a name that is no text"),
        (json.dumps({**made().to_json(), "figures": [1]}) + "\n", "figures or words that are no JSON object"),
        (json.dumps({**made().to_json(), "words": {"noise": 1}}) + "\n", "line 1 has a word that is no text"),
        (json.dumps(made(bytes=float("nan")).to_json()) + "\n", "a figure 'bytes' that is no number"),
        (json.dumps({**made().to_json(), "figures": {"bytes": None}}) + "\n", "a figure 'bytes' that is no number"),
    ],
)  # fmt: skip
def test_what_is_no_results_file_is_said(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=said):
        read(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="is a directory"):
        read(tmp_path)


def test_facts_of_groups_are_named_with_them() -> None:
    assert facts({"cpu": "x", "versions": {"onnx": "1", "py_thon": [1, 2]}, "gb": 1234.5, "none": None, "n": 2}) == {
        "cpu": "x", "versions onnx": "1", "versions py thon": "1, 2", "gb": "1,234.5", "n": "2",
    }  # fmt: skip


def test_wide_intervals_are_marked_where_the_suite_did_not() -> None:
    narrow, wide, said = flagged(
        [made(**paired(2.0, 0.01)), made(**paired(2.0, 0.02)), made(words={"noise": "odd"}, **paired(1.0, 0.5))]
    )
    assert (narrow.words, wide.words, said.words) == ({}, {"noise": NOISE}, {"noise": "odd"})


def test_what_is_counted_is_compared_exactly() -> None:
    same, more, less = (row(made(nodes=100.0), made(nodes=value)) for value in (100.0, 101.0, 99.0))
    assert [(one.verdict, one.worse) for one in (same, more, less)] == [
        ("same", None), ("differs", True), ("differs", False),
    ]  # fmt: skip
    assert more.ratio == pytest.approx(1.01)
    assert row(made(bytes=1e9), made(bytes=1e9 + 1)).verdict == "differs"
    assert row(made(oddity=1.0), made(oddity=2.0)).worse is None
    assert row(made(metric_before=0.9), made(metric_before=0.8)).worse is None


def test_scores_may_move_in_their_last_digits() -> None:
    assert row(made(sqnr_db=40.0), made(sqnr_db=40.05)).verdict == "same"
    fell = row(made(sqnr_db=40.0), made(sqnr_db=39.0))
    assert (fell.verdict, fell.worse) == ("differs", True)
    assert row(made(metric_after=0.9), made(metric_after=0.95)).worse is False


@pytest.mark.parametrize(
    ("old", "new", "verdict", "worse"),
    [
        (paired(1.0), paired(1.02), "same", None),
        (paired(1.0), paired(1.05), "differs", True),
        (paired(1.0), paired(0.95), "differs", False),
        (paired(1.0, 0.1), paired(1.0), NOISE, None),
        (paired(1.0, 0.1), paired(1.1), NOISE, None),
        (paired(1.0, 0.1), paired(2.0, 0.1), "differs", True),  # as far apart as that is told by any interval
        (paired(1.0, 0.1), paired(1.23, 0.1), NOISE, None),  # apart, but by less than the limit
        (LOPSIDED, paired(1.032, 0.01), NOISE, None),  # medians apart, intervals not
        (paired(1.0), {"latency_ratio": 1.0}, NOISE, None),
    ],
)  # fmt: skip
def test_intervals_decide_about_ratios(
    old: dict[str, float], new: dict[str, float], verdict: str, worse: bool | None
) -> None:
    found = row(made(**old), made(**new))
    assert (found.figure, found.verdict, found.worse) == ("latency_ratio", verdict, worse)


def test_whether_intervals_overlap() -> None:
    assert row(made(**paired(1.0)), made(**paired(1.005))).overlap is True
    assert row(made(**paired(1.0)), made(**paired(1.2))).overlap is False
    assert row(made(nodes=1.0), made(nodes=1.0)).overlap is None


def test_a_wider_limit_tells_of_less() -> None:
    old, new = made(**paired(1.0, 0.03)), made(words={"noise": NOISE}, **paired(1.08, 0.03))
    assert row(old, new).verdict == NOISE
    assert row(old, new, 0.1).verdict == "same"
    assert row(made(**paired(1.0)), made(**paired(1.08))).verdict == "differs"


def test_single_times_tell_only_of_much() -> None:
    for ratio, verdict, worse in ((1.02, "same", None), (1.3, NOISE, None), (COARSE + 0.1, "differs", True)):
        found = row(made(cpu_seconds=2.0), made(cpu_seconds=2.0 * ratio))
        assert (found.verdict, found.worse) == (verdict, worse)
    assert row(made(peak_mb=200.0), made(peak_mb=100.0)).worse is False
    assert row(made(cpu_ratio=0.5), made(cpu_ratio=0.51)).verdict == "same"
    assert row(made(peak_mb=0.0), made(peak_mb=0.0)).verdict == "same"


def test_what_came_went_and_failed() -> None:
    old = [
        made("gone", nodes=1.0),
        made("breaks", nodes=1.0),
        made("mended", "bad"),
        made("bad", "x"),
        made("odd", "x"),
    ]
    new = [made("breaks", "it fell"), made("mended"), made("bad", "x"), made("odd", "y"), made("new", "too")]
    found = {one.contender: one for one in compared(old, new)}
    assert {name: (one.verdict, one.worse, one.figure) for name, one in found.items()} == {
        "gone": ("gone", None, ""), "breaks": ("failed", True, ""), "mended": ("works", False, ""),
        "bad": ("same", None, ""), "odd": ("differs", None, ""), "new": ("new", None, ""),
    }  # fmt: skip
    assert found["odd"].note == "y (before: x)"
    rows = compared([made(nodes=1.0, bytes=2.0)], [made(bytes=2.0, macs=3.0)])
    assert {one.figure: one.verdict for one in rows} == {"nodes": "gone", "bytes": "same", "macs": "new"}


def test_a_result_that_is_no_longer_right_got_worse() -> None:
    right, wrong = made(words={"verdict": "equivalent"}), made(words={"verdict": "different"})
    assert (row(right, wrong).verdict, row(right, wrong).worse) == ("differs", True)
    assert row(wrong, right).worse is False
    assert row(right, right).verdict == "same"
    assert row(made(words={"metric": "top1"}), made(words={"metric": "top5"})).worse is None
    assert compared([made(words={"noise": NOISE})], [made()]) == []


def test_other_machines_and_versions_are_warned_of() -> None:
    one: dict[str, Any] = {"cpu": "x", "started": "today", "versions": {"onnx": "1"}}
    other = {"cpu": "y", "started": "tomorrow", "versions": {"onnx": "1"}, "cores": 2}
    old = [Run(one, (made("tool:a"), made("own:a")))]
    new = [Run(other, (Record("quantization", "m", "tool:a", "2"), made("own:a")))]
    assert warnings(old, new) == [
        "the machine differs in cpu: x, then y",
        "the machine differs in cores: not noted, then 2",
        "tool has another version: 1, then 2",
    ]
    assert warnings(old, old) == []
    assert warnings([Run({}, (made(),))], old) == ["the first run does not say on which machine it was measured"]


def test_the_exit_code_says_whether_anything_got_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old.jsonl", made(nodes=10.0, **paired(1.0)), made("graphopt:b", nodes=5.0))
    better = written(tmp_path / "better.jsonl", made(nodes=9.0, **paired(1.0)), made("graphopt:b", nodes=5.0))
    code, out, _ = run(capsys, old, better)
    assert code == 0
    assert "differs, better" in out
    assert out.splitlines()[-1].startswith(
        "Of 3 figures 2 are the same (ratios at most 3 % apart), 1 differ (0 got worse, 1 better), 0 are too noisy"
    )
    code, out, _ = run(capsys, better, old)
    assert code == 1
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert "| nodes " in table[2]
    assert "1.111" in table[2]
    assert "| graphopt:b " in run(capsys, better, old, "--all")[1]


def test_json_has_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old.jsonl", made(nodes=10.0, **paired(1.0)))
    new = written(tmp_path / "new.jsonl", made(nodes=10.0, **paired(1.2)), made("tool:c", "it fell"))
    code, out, _ = run(capsys, old, new, "--json", "--limit", "0.05")
    found = json.loads(out)
    assert code == 1
    assert found["worse"] is True
    assert found["limit"] == 0.05
    assert found["counts"] == {
        "same": 1, "differs": 1, "too noisy": 0, "new": 1, "gone": 0, "failed": 0, "works": 0,
    }  # fmt: skip
    assert [one["figure"] for one in found["rows"]] == ["nodes", "latency_ratio", ""]
    assert found["rows"][1]["ratio"] == pytest.approx(1.2)
    assert found["rows"][1]["overlap"] is False


def test_a_run_compared_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, EXAMPLE, EXAMPLE)
    assert code == 0
    assert "0 differ" in out
    assert "8 are too noisy to tell" in out


def test_bad_input_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, EXAMPLE, tmp_path / "none.jsonl")
    assert (code, out) == (2, "")
    assert err.startswith("benchmarks: cannot read the results")
    for limit in ("0", "-1", "nan", "inf"):
        assert run(capsys, EXAMPLE, EXAMPLE, "--limit", limit)[0] == 2


def test_names_cannot_fake_lines_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old.jsonl", made("a|b\n\x1b[31m", nodes=1.0))
    new = written(tmp_path / "new.jsonl", made("a|b\n\x1b[31m", nodes=2.0))
    out = run(capsys, old, new)[1]
    assert "\x1b" not in out
    assert "| a/b\\n\\x1b[31m |" in out
