"""Two runs of the benchmarks beside each other: equal, different, noisy, missing, failed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from made_records import made, paired

from benchmarks import compare
from benchmarks.compared import COARSE, Row, compared, warnings
from benchmarks.record import Record
from benchmarks.results import Run
from benchmarks.steady import NOISE

LOPSIDED = {"latency_ratio": 1.0, "latency_ratio_low": 0.999, "latency_ratio_high": 1.028}
EXAMPLE = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "quantization.jsonl"


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
        (paired(1.0, 0.1), paired(1.4, 0.1), NOISE, None),  # apart, but by less than they are wide
        (LOPSIDED, paired(1.032, 0.01), NOISE, None),  # medians apart, intervals not
        (paired(1.0), {"latency_ratio": 1.0}, NOISE, None),
        ({"latency_ratio": 1.0}, paired(1.0), NOISE, None),
    ],
)  # fmt: skip
def test_intervals_decide_about_ratios(
    old: dict[str, float], new: dict[str, float], verdict: str, worse: bool | None
) -> None:
    found = row(made(**old), made(**new))
    assert (found.figure, found.verdict, found.worse) == ("latency_ratio", verdict, worse)


def test_an_interval_of_too_few_rounds_says_nothing() -> None:
    for half in (0.0, 0.002):
        few, more, many = (made(words={"noise": NOISE}, **paired(value, half)) for value in (1.0, 1.4, 1.6))
        assert row(few, more).verdict == NOISE
        assert (row(few, many).verdict, row(few, many).worse) == ("differs", True)


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
    assert row(made(own_bytes=2e8), made(own_bytes=2.5e8)).verdict == NOISE
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


def test_what_a_tool_spends_beside_ours_tells_of_ours() -> None:
    def spent(contender: str, value: float, version: str = "1") -> Record:
        ends = {"cpu_ratio_low": value * 0.995, "cpu_ratio_high": value * 1.005}
        return Record("simplification", "m", contender, version, {"cpu_ratio": value, **ends})

    assert row(spent("tool:a", 4.0), spent("tool:a", 3.0)).worse is True  # the tool is the same, so ours takes longer
    assert row(spent("tool:a", 3.0), spent("tool:a", 4.0)).worse is False
    for other in (spent("tool:a", 3.0, "2"), spent("tool:a", 5.0, "2")):
        assert (row(spent("tool:a", 4.0), other).verdict, row(spent("tool:a", 4.0), other).worse) == ("differs", None)
    assert row(spent("graphopt:b", 4.0), spent("graphopt:b", 3.0)).worse is None


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
