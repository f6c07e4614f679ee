"""Ctrl-C, SIGTERM, a closed terminal and kill -9 at any moment of real commands, from the first instruction on."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import children, finished, is_gone, start
from scenes import SCENES, Scene
from warmed import REPOSITORY

SEED = 20261125
SIGNALS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated"), signal.SIGHUP: (129, "hung up")}


def set_up(scene: Scene, tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    scene.make(work)
    return work


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [one for child in found for one in descendants(child)]


def handles_signals(pid: int) -> bool:
    """Whether the program has got so far as to have handlers of its own: before that it is Python's start."""
    try:
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return False
    return caught is not None and bool(int(caught[1], 16) & 1 << (signal.SIGTERM - 1))


@pytest.mark.parametrize(
    "name", ["external-over", "everything", "learned", "bisect", "localize", "reduce", "sensitivity", "validate"]
)
def test_a_signal_at_a_random_moment(tmp_path: Path, name: str) -> None:
    """Nothing is lost, nothing is left, and one line says what happened."""
    if not Path("/proc/self/status").exists():
        pytest.skip("seeing how far a process is needs Linux's /proc")
    scene = SCENES[name]
    work = set_up(scene, tmp_path)
    before = {one.name: one.read_bytes() for one in work.iterdir() if one.is_file()}
    draw = random.Random(f"{SEED} {name}")
    number = draw.choice(list(SIGNALS))
    process = start(work, *scene.arguments)
    while not handles_signals(process.pid) and process.poll() is None:
        time.sleep(0.001)
    # The moment is one of processor time, which is how far the run is however loaded the machine.
    moment = draw.uniform(0.0, 1.5)
    while process.poll() is None and _cpu(process.pid) < moment:
        time.sleep(0.005)
    workers = descendants(process.pid)
    process.send_signal(number)
    code, _, err = finished(process)
    assert all(is_gone(one) for one in workers)
    if code == scene.code:  # it was done before
        assert err == ""
    else:
        expected, word = SIGNALS[number]
        assert code == expected, err
        assert re.fullmatch(f"graphopt: {word}(; [^\n]+)?\n", err), err
        if scene.output is not None:
            output = work / scene.output
            written = output.exists() and output.read_bytes() != before.get(scene.output)
            assert ("was written already" in err) is written
    assert list((tmp_path / "tmp").iterdir()) == []
    left = {one.name for one in work.iterdir()} - set(before)
    allowed = {one.rstrip("/") for one in scene.beside} | {scene.output or ""}
    assert {one for one in left - allowed if not one.startswith("out.onnx.")} == set(), left
    assert not any(one.startswith(".") for one in left)
    for one, data in before.items():
        if one not in (scene.output, "out.onnx.data"):
            assert (work / one).read_bytes() == data


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 1e9
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


IMPORTING = """
import os, signal, sys, threading
sys.argv = ["graphopt", "validate", "net.onnx", "other.onnx"]
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.{signal})
        return None
sys.meta_path.insert(0, Finder())
from graphopt.cli.start import main
main()
"""


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("typer", signal.SIGINT),
        ("graphopt.cli.app", signal.SIGTERM),
        ("numpy", signal.SIGINT),
        ("onnx", signal.SIGHUP),
        ("graphopt.validation.validate", signal.SIGTERM),
    ],
)
def test_a_signal_during_imports(tmp_path: Path, name: str, number: signal.Signals) -> None:
    work = set_up(SCENES["validate"], tmp_path)
    code, word = SIGNALS[number]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING.format(name=name, signal=number.name)],
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL) for one in SIGNALS] and None,
    )
    assert done.returncode == code, done.stderr
    assert re.fullmatch(f"graphopt: {word}[^\n]*\n", done.stderr), done.stderr


def test_ctrl_c_twice_ends_it_once(tmp_path: Path) -> None:
    """An impatient user does not break into the clearing up."""
    scene = SCENES["external-over"]
    work = set_up(scene, tmp_path)
    process = start(work, *scene.arguments)
    while not any(one.name.startswith(".graphopt-") for one in work.iterdir()) and process.poll() is None:
        time.sleep(0.002)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    code, _, err = finished(process)
    assert code in (0, 130), err
    assert err.count("\n") <= 1
    assert not any(one.name.startswith(".") for one in work.iterdir())
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_killed_run_is_cleared_up_by_the_next(tmp_path: Path) -> None:
    scene = SCENES["external-over"]
    work = set_up(scene, tmp_path)
    process = start(work, *scene.arguments)
    while not any(one.name.startswith(".graphopt-") for one in work.iterdir()) and process.poll() is None:
        time.sleep(0.002)
    workers = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    finished(process)
    deadline = time.monotonic() + 60
    while not all(is_gone(one) for one in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(is_gone(one) for one in workers)
    code, _, err = finished(start(work, *scene.arguments))
    assert (code, err) == (0, "")
    assert not any(one.name.startswith(".") for one in work.iterdir())
    assert list((tmp_path / "tmp").iterdir()) == []
