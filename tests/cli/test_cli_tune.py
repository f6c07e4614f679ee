"""`graphopt tune`: what it writes and how it ends, and a sentence for everything that can be wrong on its line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_lines import Cli

from graphopt.testing import model


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    np.savez(tmp_path / "feeds.npz", x=np.random.default_rng(5).standard_normal((64, 64)).astype(np.float32))
    return tmp_path / "feeds.npz"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


TRY = ("--try", "int8-weights", "--generations", "1", "--budget", "sqnr_db>=25")


def test_it_writes_the_model_the_recipe_and_the_report(cli: Cli, net: Path, feeds: Path, caches: Path) -> None:
    out, recipe, report = net.with_name("out.onnx"), net.with_name("tuned.toml"), net.with_name("tuned.json")
    page = net.with_name("tuned.html")
    written = ("-o", out, "--recipe-out", recipe, "--report", report, "--html", page)
    done = cli("tune", net, "--feeds", feeds, *TRY, *written, "--json")
    assert done.code == 0, done.err
    said = done.json
    assert said["format"] == 1 and said["chosen"] == 0 and said["written"] == [str(out)]
    assert said["recipe"] == recipe.read_text()
    assert json.loads(report.read_text())["trials"] == said["trials"]
    assert page.read_text().startswith("<!doctype html>") and "int8-weights" in page.read_text()
    assert out.stat().st_size < net.stat().st_size / 2
    assert len(list((caches / "graphopt" / "tune").iterdir())) == 1
    again = cli("optimize", net, "--recipe", recipe, "--feeds", feeds, "-o", net.with_name("again.onnx"))
    assert again.code == 0 and net.with_name("again.onnx").read_bytes() == out.read_bytes()


def test_where_nothing_keeps_the_budget_it_ends_with_one(cli: Cli, net: Path, feeds: Path) -> None:
    out, recipe = net.with_name("out.onnx"), net.with_name("tuned.toml")
    done = cli("tune", net, "--feeds", feeds, *TRY, "--budget", "bytes<=10", "-o", out, "--recipe-out", recipe)
    assert done.code == 1
    assert "nothing was written" in done.out
    assert not out.exists() and not recipe.exists()
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "a search needs a budget for the outputs, for example --budget 'sqnr_db>=30'"),
        (("--budget", "bytes<=0.5"), "a search needs a budget for the outputs"),
        (("--budget", "sqnr_db<=30"), "has '<='"),
        (("--budget", "top1_drop<=0.01"), "needs labels"),
        ((*TRY, "--minimize", "sizes"), "--minimize expects size, latency or energy-proxy, not 'sizes'; did you mean"),
        ((*TRY, "--target", "phone"), "--target expects portable"),
        ((*TRY, "--target", "tensorrt", "--minimize", "latency"), "says nothing of tensorrt"),
        ((*TRY, "--for", "phone"), "--for expects mobile, edge, server-cpu or gpu, not 'phone'"),
        ((*TRY, "--minutes", "0"), "--minutes expects minutes, a number greater than zero, not '0'"),
        ((*TRY, "--minutes", "soon"), "--minutes expects minutes"),
        ((*TRY, "--generations", "0"), "--generations expects a whole number from 1 to 1024"),
        ((*TRY, "--workers", "two"), "--workers expects a whole number"),
        ((*TRY, "--workers", "0"), "--workers expects a whole number from 1 to 1024"),
        ((*TRY, "--cluster", "nonsense://x"), "there is no Dask scheduler at 'nonsense://x'"),
        ((*TRY, "--try", "weight-int9"), "weight-int9"),
        ((*TRY, "--try", "missing.toml"), "missing.toml"),
        ((*TRY, "--seed", "-1"), "--seed expects a whole number"),
        ((*TRY, "--metric", "best"), "there is no metric 'best'"),
        ((*TRY, "--feeds", "missing.npz"), "missing.npz'; give an .npz file"),
        ((*TRY, "--labels", "y.npy"), "there are 7 labels for 64 samples"),
        ((*TRY, "-o", "missing/out.onnx"), "-o missing/out.onnx: there is no folder"),
        ((*TRY, "--recipe-out", "tuned.txt"), "--recipe-out tuned.txt: name a file that ends in .toml"),
        ((*TRY, "--recipe-out", "missing/tuned.toml"), "there is no folder"),
        ((*TRY, "--report", "missing/r.json"), "there is no folder"),
        ((*TRY, "--journal", "missing/j.jsonl"), "there is no folder"),
        ((*TRY, "--ort", "out.ort"), "--ort writes the model of -o in another format; give -o OUT with it"),
        ((*TRY, "-o", "out.onnx", "--ort", "out.bin"), "let it end in .ort"),
        ((*TRY, "--timeout", "never"), "--timeout expects seconds"),
        ((*TRY, "--cache-dir", "feeds.npz"), "--cache-dir 'feeds.npz' cannot be used"),
        ((*TRY, "--forr", "mobile"), "there is no option --forr; did you mean '--for'?"),
    ],
)
def test_every_mistake_is_a_sentence(
    cli: Cli, net: Path, feeds: Path, options: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(net.parent)
    if "y.npy" in options:
        np.save("y.npy", np.zeros(7, np.int64))
    done = cli("tune", net, *(() if "--feeds" in options else ("--feeds", feeds)), *options)
    assert done.code == 2, done.err
    assert words in done.err and done.err.count("\n") == 1, done.err


@pytest.mark.parametrize("flag", ["-o", "--recipe-out", "--report", "--journal"])
def test_no_file_takes_the_place_of_what_is_read(cli: Cli, net: Path, feeds: Path, flag: str) -> None:
    for place, words in ((net, "this is the input"), (feeds, "this is the file of --feeds")):
        done = cli("tune", net, "--feeds", feeds, *TRY, flag, place)
        assert done.code == 2 and words in done.err
    done = cli("tune", net, "--feeds", feeds, *TRY, "--report", net.with_name("x"), "--journal", net.with_name("x"))
    assert done.code == 2 and "this is the file of --report" in done.err


def test_what_is_no_model_is_no_model(cli: Cli, tmp_path: Path, feeds: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"\x00\x01nothing")
    assert cli("tune", tmp_path / "no.onnx", "--feeds", feeds, *TRY).code == 3
    assert cli("tune", tmp_path / "missing.onnx", "--feeds", feeds, *TRY).code in (2, 3)


def test_a_recipe_that_runs_code_is_refused(cli: Cli, net: Path, feeds: Path) -> None:
    recipe = net.with_name("code.toml")
    recipe.write_text('name = "code"\npipeline = "command{run=\'cp {in} {out}\'}"\n')
    done = cli("tune", net, "--feeds", feeds, *TRY, "--try", recipe)
    assert done.code == 4 and "--allow-code" in done.err


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_keeps_the_journal_and_says_how_to_go_on(
    net: Path, feeds: Path, tmp_path: Path, number: signal.Signals, code: int, word: str
) -> None:
    journal, out = tmp_path / "j.jsonl", tmp_path / "out.onnx"
    line = [sys.executable, "-m", "graphopt", "tune", str(net), "--feeds", str(feeds), "--journal", str(journal)]
    line += [
        "-o",
        str(out),
        "--budget",
        "sqnr_db>=25",
        "--try",
        "int8-weights",
        "--try",
        "fp16",
        "--try",
        "weight-int4",
    ]
    running = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and not (journal.exists() and journal.read_text().count("\n") > 2):
            time.sleep(0.02)
        running.send_signal(number)
        _, said = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == code, said
    assert said.strip() == (
        f"graphopt: {word}; nothing was written; what was tried is kept, and the same command with --resume goes on "
        "from there"
    )
    assert journal.read_text().count("\n") > 2 and not out.exists()
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]
    if number is signal.SIGTERM:
        return
    done = subprocess.run(
        [*line, "--resume", "--generations", "1", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert out.exists()


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, graphopt.cli.app as a\ntry:\n a.app(['tune','--help'])\nexcept SystemExit: pass\n" \
        "print([m for m in ('onnx', 'onnxruntime', 'numpy', 'distributed') if m in sys.modules])"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert "--minimize" in done.stdout and done.stdout.rstrip().endswith("[]")


def test_a_model_that_cannot_be_made_less_is_left_as_it_is(cli: Cli, tidy: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", x=np.ones((2,), np.float32))
    assert model is not None
    done = cli(
        "tune", tidy, "--feeds", tmp_path / "two.npz", "--budget", "sqnr_db>=20", "-o", tmp_path / "o.onnx", "--json"
    )
    assert done.code == 0, done.err
    assert (tmp_path / "o.onnx").read_bytes() == tidy.read_bytes()
