"""Batches: where results go, what the manifest keeps, what is not done again, and what the command line says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import scale_work as work

from graphopt.cli.app import app
from graphopt.errors import UsageError
from graphopt.scale import places
from graphopt.scale.batch import Summary, run_batch
from graphopt.scale.manifest import NAME, Manifest, Row, read_manifest
from graphopt.scale.processes import Processes

DEMO = Path(__file__).resolve().parents[2] / "graphopt" / "demo" / "digits_cnn.onnx"
needs_fsspec = pytest.mark.skipif(importlib.util.find_spec("fsspec") is None, reason="fsspec is not installed")


def batch(models: list[str], out: Path | str, *, resume: bool = False, options: tuple[str, ...] = ()) -> Summary:
    with Processes(2) as executor:
        return run_batch(models, str(out), options, work.row, executor, workers=2, version="1", resume=resume)


def files(folder: Path, *names: str) -> list[str]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return [str(folder / name) for name in names]


def test_results_lie_as_the_models_did_and_every_end_is_recorded(tmp_path: Path) -> None:
    models = files(tmp_path / "in", "a/one.onnx", "b/one.onnx", "b/bad.onnx", "dies.onnx")
    (tmp_path / "in" / "notes.txt").write_text("no model")
    found = batch([str(tmp_path / "in")], tmp_path / "out", options=("--seed", "3"))
    assert {row.model for row in found.rows} == set(models)
    assert (tmp_path / "out" / "a" / "one.onnx").read_text() == "a/one.onnx--seed 3"
    assert (tmp_path / "out" / "b" / "one.onnx").is_file() and not (tmp_path / "out" / "dies.onnx").exists()
    ends = {Path(row.model).name: (row.exit_code, row.attempts) for row in found.rows if "one" not in row.model}
    assert ends == {"bad.onnx": (3, 1), "dies.onnx": (70, 2)}
    assert found.exit_code == 1 and found.kept == 0
    assert read_manifest(tmp_path / "out" / NAME) == {row.model: row for row in found.rows}


def test_codes_that_all_failures_share_are_the_batch_s(tmp_path: Path) -> None:
    files(tmp_path, "bad1.onnx", "bad2.onnx", "good.onnx")
    assert batch([str(tmp_path / "*.onnx")], tmp_path / "out").exit_code == 3
    assert batch([str(tmp_path / "good.onnx")], tmp_path / "out").exit_code == 0


def test_what_was_done_stays_unless_input_options_or_result_changed(tmp_path: Path) -> None:
    models = files(tmp_path / "in", "a.onnx", "b.onnx", "c.onnx", "bad.onnx")
    out = tmp_path / "out"
    assert batch(models, out).kept == 0
    Path(models[0]).write_text("another")
    (out / "b.onnx").unlink()
    again = batch(models, out, resume=True)
    assert again.kept == 1  # c: a is another model, b's result is gone, and bad was no success
    assert (out / "a.onnx").read_text() == "another"
    assert batch(models, out, resume=True).kept == 3
    assert batch(models, out, resume=True, options=("--seed", "1")).kept == 0
    assert batch(models, out).kept == 0


def test_models_that_would_meet_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    models = files(tmp_path, "a/m.onnx")
    with pytest.raises(UsageError, match="would be replaced by its own result"):
        batch(models, tmp_path / "a")
    if importlib.util.find_spec("fsspec"):
        with pytest.raises(UsageError, match=r"would both be written to 'm\.onnx'; run them apart"):
            batch([*models, "memory://x/m.onnx"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["no/such/*.onnx", "empty"])
def test_what_stands_for_nothing_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there are no models at"):
        places.expanded([str(tmp_path / text)])


def test_a_manifest_survives_a_death_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / NAME
    row = Row("m", "o", 0, "done")
    manifest = Manifest(path)
    manifest.add(row)
    manifest.close()
    whole = path.read_text()
    for length in range(len(whole)):
        path.write_text(whole + whole[:length].rstrip("\n"))
        assert read_manifest(path) == {"m": row}
    Manifest(path).close()


@pytest.mark.parametrize(
    "line",
    ["[]", "{", '{"model": 3}', '{"model": "m"}', '{"nonsense": 1}', "null", "[" * 100_000],
)
def test_a_damaged_manifest_is_a_sentence(tmp_path: Path, line: str) -> None:
    (tmp_path / NAME).write_text(line + "\n\n")
    with pytest.raises(UsageError, match=r"line 1 of the manifest .* is damaged"):
        read_manifest(tmp_path / NAME)


def test_a_manifest_that_is_no_text_or_no_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        read_manifest(tmp_path / NAME)
    (tmp_path / "d" / NAME).mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot be read"):
        Manifest(tmp_path / "d" / NAME)


def test_a_line_that_was_cut_short_does_not_run_into_the_next(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text('{"model": "x", "outp')
    manifest = Manifest(path)
    manifest.add(Row("m", None, 3, "no model"))
    manifest.close()
    assert list(read_manifest(path)) == ["m"]


def test_where_results_go_below_what_the_models_share() -> None:
    assert places.common_folder(["/a/b/m.onnx", "/a/c/m.onnx"]) == "/a"
    assert places.common_folder(["s3://bucket/x/m.onnx", "s3://bucket/y/m.onnx"]) == "s3://bucket"
    assert places.common_folder(["s3://bucket/m.onnx", "gs://bucket/m.onnx"]) == ""
    assert str(places.place_of("s3://bucket/x/m.onnx", "s3://bucket")) == "x/m.onnx"
    assert str(places.place_of("/a/b/m.onnx", "")) == "m.onnx"
    assert places.is_url("s3://x") and not places.is_url("C:/x") and not places.is_url("a/b")


@needs_fsspec
def test_models_and_results_elsewhere(tmp_path: Path) -> None:
    import fsspec

    files(tmp_path / "in", "a.onnx", "deep/b.onnx")
    url, out = f"file://{tmp_path}/in", f"file://{tmp_path}/out"
    (tmp_path / "here").mkdir()
    found = batch([url], tmp_path / "here")
    assert sorted(path.name for path in (tmp_path / "here").rglob("*.onnx")) == ["a.onnx", "b.onnx"]
    assert found.exit_code == 0
    import os

    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        found = batch([url], out)
    finally:
        os.chdir(before)
    assert found.exit_code == 0, found.rows
    assert (tmp_path / "out" / "deep" / "b.onnx").read_text() == "deep/b.onnx"
    assert {row.output for row in found.rows} == {f"{out}/a.onnx", f"{out}/deep/b.onnx"}
    assert (tmp_path / NAME).is_file()
    with pytest.raises(UsageError, match=r"nosuch://bucket/m\.onnx' cannot be reached"):
        places.expanded(["nosuch://bucket/m.onnx"])
    assert fsspec


def test_the_command_line_does_several_models_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.onnx").write_bytes(DEMO.read_bytes())
    (tmp_path / "c.onnx").write_text("junk")
    with pytest.raises(SystemExit) as end:
        app(
            [
                "optimize",
                str(tmp_path),
                "--out-dir",
                str(tmp_path / "out"),
                "--json",
                "-p",
                "dead-nodes",
                "--max",
                "calls=9",
            ]
        )
    assert end.value.code == 3
    facts = json.loads(capsys.readouterr().out)
    assert (facts["models"], facts["done"]) == (3, 2)
    assert {tuple(row["options"]) for row in facts["rows"]} == {("--pipeline", "dead-nodes", "--max", "calls=9")}
    alone = tmp_path / "alone.onnx"
    with pytest.raises(SystemExit):
        app(["optimize", str(tmp_path / "a.onnx"), "-o", str(alone), "-p", "dead-nodes", "--quiet"])
    assert (tmp_path / "out" / "a.onnx").read_bytes() == alone.read_bytes()
    assert list(read_manifest(tmp_path / "out" / NAME)) and "junk" not in facts["rows"][2]["sentence"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["a.onnx", "b.onnx", "-o", "c.onnx"],
            "there are 2 models; name the folder of their results",
        ),
        (["a.onnx", "-o", "c.onnx", "--workers", "3"], "--workers is for a batch of models"),
        (["a.onnx", "--out-dir", "d", "-o", "c.onnx"], "--output is for one model; with --out-dir leave it out"),
        (["a.onnx", "--out-dir", "d", "--report", "r"], "--report is for one model"),
        (["a.onnx", "--out-dir", "d", "--in-place"], "--in-place is for one model"),
        (["a.onnx", "--out-dir", "d", "--workers", "0"], "--workers expects a whole number from 1 to 1024"),
        (["a.onnx", "--out-dir", "d", "--retries", "x"], "--retries expects a whole number"),
        (["none*.onnx", "--out-dir", "d"], "there are no models at 'none*.onnx'"),
    ],
)
def test_mistakes_have_their_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        app(["optimize", *arguments])
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
