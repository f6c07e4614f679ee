"""Results files: their runs, half a line at the end, what is none, and what is noted of machines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from made_records import made, paired

from benchmarks.record import Record
from benchmarks.results import facts, flagged, latest, machines, read, versions
from benchmarks.steady import NOISE
from graphopt.errors import UsageError

EXAMPLE = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "quantization.jsonl"


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(one.to_json() if isinstance(one, Record) else one) + "\n" for one in lines))
    return path


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
    later = dataclasses.replace(runs[1], machine={"date": "tomorrow", **runs[1].machine})
    assert machines([runs[1], later]) == [runs[1].machine]


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
    machine = {"cpu": "x", "versions": {"onnx": "1", "py_thon": [1, 2]}, "none": None, "n": 2, "memory": 8_040_000_000}
    assert facts(machine) == {
        "cpu": "x", "versions onnx": "1", "versions py thon": "1, 2", "n": "2", "memory": "8.0 GB",
    }  # fmt: skip


def test_wide_intervals_are_marked_where_the_suite_did_not() -> None:
    narrow, wide, said = flagged(
        [made(**paired(2.0, 0.01)), made(**paired(2.0, 0.02)), made(words={"noise": "odd"}, **paired(1.0, 0.5))]
    )
    assert (narrow.words, wide.words, said.words) == ({}, {"noise": NOISE}, {"noise": "odd"})
