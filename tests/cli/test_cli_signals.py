"""Ctrl-C and SIGTERM: the worker goes, nothing is left behind, and the output is what it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from graphopt.cli.signals import Stop, ending, stoppable
from graphopt.testing import model

# Runs for hours, in the worker.
SLOW = """g (float[2] x) => (float[2] y) {
  n = Constant<value = int64 {2000000000}>()  c = Constant<value = bool {1}>()  a = Identity(x)
  y = Loop(n, c, a) <body = b (int64 i, bool k, float[2] v) => (bool l, float[2] w) { l = Identity(k)  w = Sin(v) }>
}"""


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_worker(pid: int) -> int:
    """Wait until the worker of process `pid` computes; its process id."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in children(pid):
            if cpu(child) > 1.0:
                return child
        time.sleep(0.05)
    raise AssertionError("the worker did not begin to compute")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`graphopt optimize` in the middle of a validation that would take hours, and its temporary folder."""
    if not Path("/proc/self/task").exists():
        pytest.skip("finding the worker needs Linux's /proc")
    onnx.save(model(SLOW), tmp_path / "slow.onnx")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "out.onnx").write_bytes(b"what stood here")
    process = subprocess.Popen(
        [sys.executable, "-m", "graphopt", "optimize", "slow.onnx", "-o", "out.onnx", "--report", "r.json"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, temporary
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
)
def test_a_signal_ends_the_run_and_leaves_nothing(
    running: tuple[subprocess.Popen[str], Path], tmp_path: Path, number: int, code: int, word: str
) -> None:
    process, temporary = running
    worker = busy_worker(process.pid)
    process.send_signal(number)
    process.send_signal(number)  # as an impatient user does; the first is being seen to
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "")
    assert err == f"graphopt: {word}; 'out.onnx' is unchanged\n"
    assert not Path(f"/proc/{worker}").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "slow.onnx", "temporary"]
    assert (tmp_path / "out.onnx").read_bytes() == b"what stood here"
    assert list(temporary.glob("graphopt*")) == []


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stop), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_interrupt_that_python_raised_itself_counts_as_ctrl_c() -> None:
    error = ending(KeyboardInterrupt(), "'x' is unchanged")
    assert (error.exit_code, str(error)) == (130, "interrupted; 'x' is unchanged")
