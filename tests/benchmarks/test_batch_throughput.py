"""Batches as they are measured: what counts as lost, what a ratio is of, and how a worker is found and killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks import batches
from benchmarks.batches import Batch, lost, main, markdown, ratios, write_models


def row(name: str, code: int = 0, attempts: int = 1) -> dict[str, Any]:
    return {"model": f"/somewhere/{name}", "exit_code": code, "attempts": attempts}


def batch(*rows: dict[str, Any], seconds: float = 1.0, **results: str) -> Batch:
    return Batch(seconds, rows, results)


def models(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_the_same_seed_gives_the_same_models(tmp_path: Path) -> None:
    one, two = (write_models(tmp_path / name, 3, seed=5, nodes=12) for name in "ab")
    assert [path.read_bytes() for path in sorted(one.iterdir())] == [p.read_bytes() for p in sorted(two.iterdir())]
    for path in one.iterdir():
        onnx.checker.check_model(onnx.load(str(path)), full_check=True)


def test_nothing_is_lost_where_all_rows_and_results_are_there(tmp_path: Path) -> None:
    folder = models(tmp_path / "m", "a.onnx", "b.onnx")
    other = batch(row("a.onnx"), row("b.onnx", 6), a="1")
    again = batch(row("b.onnx", 6), row("a.onnx", attempts=2), a="1")
    assert lost(again, folder, other) == []
    assert again.begun_again == 1


def test_each_way_of_losing_a_model_is_said(tmp_path: Path) -> None:
    folder = models(tmp_path / "m", "a.onnx", "b.onnx", "c.onnx")
    other = batch(row("a.onnx"), row("b.onnx"), row("c.onnx"), a="1", b="2", c="3")
    bad = batch(row("b.onnx", 70), row("c.onnx"), b="2", c="4")
    assert lost(bad, folder, other) == [
        "a.onnx has no row",
        "b.onnx ended with 70 and not 0",
        "the result of a differs",
        "the result of c differs",
    ]


def test_ratios_are_of_rounds() -> None:
    # the machine was half as fast in the second round, for both
    found = {1: [batch(seconds=10), batch(seconds=20)], 2: [batch(seconds=5), batch(seconds=10)]}
    assert ratios(found) == {1: [1.0, 1.0], 2: [2.0, 2.0]}
    assert "| 2 | 26.67 | 2.00 | 2.00, 2.00 |" in markdown(200, found)


def test_a_row_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row("a.onnx")) + "\n" + '{"model": "b.on')
    assert [Path(one["model"]).name for one in batches._rows(tmp_path)] == ["a.onnx"]
    assert batches._rows(tmp_path / "none") == []


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are found in /proc")
def test_only_a_worker_is_killed() -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
    worker.start()
    try:
        until = time.monotonic() + 20
        while not batches._kill_one(os.getpid()):  # it shows its command line from when it has started
            assert time.monotonic() < until
            time.sleep(0.01)
        worker.join(20)
        assert worker.exitcode == -9
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert not batches._kill_one(os.getpid())


@pytest.mark.parametrize("given", [["--models", "0"], ["--workers", "1,x"], ["--workers", "0"], ["--rounds", "-1"]])
def test_numbers_that_are_none(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    assert "must be at least 1" in capsys.readouterr().err
