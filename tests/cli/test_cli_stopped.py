"""What a run that was stopped says can be resumed, and what it leaves of its snapshots."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_lines import Cli

from graphopt.cli.resuming import resumable
from graphopt.cli.signals import Interrupted
from graphopt.errors import OverLimit, UsageError
from graphopt.stopping import Stop
from graphopt.storage.unfinished import MARK, Unfinished

REPOSITORY = Path(__file__).resolve().parents[2]
LEARNS = ("-p", "gptq{bits=8,min-elements=1}", "--budget", "sqnr_db>=1")
METRIC = "import os, signal, time\ndef stops(*given):\n    os.kill(os.getpid(), signal.{signal})\n    time.sleep(60)\n"


def stopped(tmp_path: Path, *options: str, by: str = "SIGTERM") -> str:
    """The sentence of a run whose metric sends a signal to the program that it is in."""
    (tmp_path / "stopping_metric.py").write_text(METRIC.format(signal=by))
    np.savez(tmp_path / "feeds.npz", x=np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32))
    process = subprocess.run(
        [sys.executable, "-m", "graphopt", "optimize", "net.onnx", "-o", "out.onnx", *options, "--feeds", "feeds.npz",
         "--metric", "stopping_metric:stops"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert process.returncode == (-9 if by == "SIGKILL" else 143), process.stderr
    return process.stderr


def test_a_signal_says_how_it_would_have_been_kept(net: Path, tmp_path: Path) -> None:
    assert stopped(tmp_path, *LEARNS) == (
        "graphopt: terminated; 'out.onnx' was not written; nothing that was learned from samples is kept: give "
        "--resume (or --cache-dir DIR), and a run that is stopped goes on where it was\n"
    )


def test_a_signal_says_where_it_is_kept(net: Path, tmp_path: Path) -> None:
    said = stopped(tmp_path, *LEARNS, "--cache-dir", "kept")
    assert said.endswith("what was learned from samples is kept in 'kept', and the same command goes on from there\n")
    assert list((tmp_path / "kept").iterdir())


def test_a_signal_in_a_run_that_learns_nothing(net: Path, tmp_path: Path) -> None:
    said = stopped(tmp_path, "-p", "weight-int8{min-elements=1}", "--budget", "sqnr_db>=1")
    assert said == "graphopt: terminated; 'out.onnx' was not written\n"


def test_what_ends_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted, match="interrupted; nothing that was learned"), resumable(True, None):
        raise Stop(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"^interrupted$"), resumable(False, None):
        raise Stop(signal.SIGINT)
    monkeypatch.setattr("graphopt.cli.resuming._has_learned", lambda: True)
    kept = "no time; what was learned from samples is kept in 'x'"
    with pytest.raises(OverLimit, match=kept), resumable(True, Path("x")):
        raise OverLimit("no time.")
    with pytest.raises(UsageError, match=r"^wrong$"), resumable(True, Path("x")):
        raise UsageError("wrong")
    monkeypatch.setattr("graphopt.cli.resuming._has_learned", lambda: False)
    with pytest.raises(OverLimit, match=r"^no time$"), resumable(True, None):
        raise OverLimit("no time")


SNAPSHOTS = ("-p", "identities,weight-int8{min-elements=1}", "--budget", "sqnr_db>=1", "--snapshots", "shots")


@pytest.mark.parametrize("by", ["SIGKILL", "SIGTERM"])
def test_snapshots_of_a_stopped_run_make_room_for_the_next(
    cli: Cli, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    stopped(tmp_path, *SNAPSHOTS, by=by)
    shots = tmp_path / "shots"
    assert {MARK, "000-input.txt", "001-identities.onnx"} <= {one.name for one in shots.iterdir()}
    monkeypatch.chdir(tmp_path)
    (shots / f".graphopt-{2**22 + 1}-0123456789abcdef.partial").touch()  # what it had not put in place
    ran = cli("optimize", "net.onnx", "-o", "out.onnx", "-p", "identities", "--snapshots", "shots")
    assert ran.code == 0, ran.err
    assert sorted(one.name for one in shots.iterdir()) == ["000-input.txt", "001-identities.onnx", "001-identities.txt"]
    again = cli("optimize", "net.onnx", "-o", "out.onnx", "-p", "identities", "--snapshots", "shots")
    assert again.sentence == "--snapshots shots: the folder holds other files; name an empty or a new one"


def test_a_failed_run_keeps_its_snapshots(cli: Cli, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("optimize", "net.onnx", "-o", "out.onnx", *SNAPSHOTS[:2], "--budget", "sqnr_db>=300",
               "--snapshots", "shots").code == 1  # fmt: skip
    assert (tmp_path / "shots/001-identities.onnx").exists()
    assert not (tmp_path / "shots" / MARK).exists()


def killed(folder: Path, *stems: str) -> None:
    """A folder as a run leaves it that is killed."""
    process = subprocess.Popen(["true"])
    process.wait()
    folder.mkdir()
    (folder / MARK).write_text("\n".join([str(process.pid), *stems, ""]))


def test_a_stranger_among_them_stays_and_so_does_the_rest(tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    killed(shots, "000-input")
    (shots / "000-input.txt").touch()
    (shots / "000-inputs.txt").touch()
    with pytest.raises(UsageError, match=r"'000-inputs\.txt' is not one of them; name an empty or a new folder"):
        Unfinished(shots, "--snapshots")
    assert len(list(shots.iterdir())) == 3


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_only_files_are_taken_for_its_own(tmp_path: Path, kind: str) -> None:
    shots, precious = tmp_path / "shots", tmp_path / "precious"
    precious.mkdir()
    killed(shots, "000-input")
    if kind == "folder":
        (shots / "000-input.txt").mkdir()
    else:
        (shots / "000-input.txt").symlink_to(precious)
    with pytest.raises(UsageError, match="is not one of them"):
        Unfinished(shots, "--snapshots")
    assert precious.exists()


@pytest.mark.parametrize("text", ["", "x\n", "1 2\n", "9" * 40, "\x00"])
def test_a_mark_that_says_nothing(tmp_path: Path, text: str) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    (shots / MARK).write_text(text)
    (shots / "000-input.txt").touch()
    with pytest.raises(UsageError, match="is not one of them" if not text else "holds other files"):
        Unfinished(shots, "--snapshots")
    assert len(list(shots.iterdir())) == 2


def test_an_empty_mark_alone_is_one_of_a_run_that_had_just_begun(tmp_path: Path) -> None:
    (tmp_path / MARK).touch()
    Unfinished(tmp_path, "--snapshots").finish()
    assert list(tmp_path.iterdir()) == []


def test_another_run_that_is_at_it(tmp_path: Path) -> None:
    first = Unfinished(tmp_path / "shots", "--snapshots")
    with pytest.raises(UsageError, match="another run is writing to this folder"):
        Unfinished(tmp_path / "shots", "--snapshots")
    first.begin("000-input")
    first.leave()  # as one that is stopped in a notebook does
    (tmp_path / "shots/000-input.onnx.data").touch()
    second = Unfinished(tmp_path / "shots", "--snapshots")
    assert [one.name for one in (tmp_path / "shots").iterdir()] == [MARK]
    second.finish()
    second.finish()


def test_a_link_is_no_mark(tmp_path: Path) -> None:
    shots, other = tmp_path / "shots", tmp_path / "other"
    shots.mkdir()
    other.write_text("1\n000-input\n")
    (shots / MARK).symlink_to(other)
    with pytest.raises(UsageError, match="holds other files"):
        Unfinished(shots, "--snapshots")
    assert other.exists()


def test_a_batch_that_is_stopped(net: Path, tmp_path: Path) -> None:
    """The second model's run waits for a pipe that nobody writes to."""
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(net.read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "graphopt", "optimize", "a.onnx", "b.onnx", "--out-dir", "out", "-p", "identities",
         "--feeds", "batch_feeds:feeds"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}"},
    )  # fmt: skip
    (tmp_path / "batch_feeds.py").write_text(
        "import numpy as np, pathlib, time\n"
        "def feeds():\n"
        "    if pathlib.Path('once').exists():\n        time.sleep(60)\n"
        "    pathlib.Path('once').touch()\n"
        "    return {'x': np.ones((2, 64), np.float32)}\n"
    )
    deadline = time.monotonic() + 50
    try:
        while not (tmp_path / "out/a.onnx").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, err
    assert err.endswith("interrupted; 1 of 2 models are done and stay; --resume goes on with the others\n")
