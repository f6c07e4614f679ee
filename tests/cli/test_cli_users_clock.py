"""Functions of the user's own that never end: their clock, Ctrl-C, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lines import Cli

from graphopt.errors import OverLimit
from graphopt.limits import Limits, limited
from graphopt.validation.aside import left_behind, within_clock

CODE = """
import threading, time
import numpy as np

LOCAL = threading.local()
LOCAL.imported = True

def fine(*given):
    assert LOCAL.imported, "imported and called by one thread"
    return {"x": np.ones((2, 64), np.float32)} if not given else 0.5

def sleeps(*given):
    time.sleep(1000)

def spins(*given):
    while True:
        try:
            while True:
                pass
        except Exception:
            pass

def waits(*given):
    threading.Lock().acquire() and threading.Event().wait()

def trickles(*given):
    yield fine()
    while True:
        time.sleep(0.01)
"""
LOSSY = ("-p", "weight-int8{min-elements=1}", "--budget", "sqnr_db>=1", "--feeds", "clocked_code:fine")


@pytest.fixture(autouse=True)
def here(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "clocked_code.py").write_text(CODE)
    (tmp_path / "clocked_module.py").write_text("import time\ntime.sleep(1000)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    for name in ("clocked_code", "clocked_module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in ("clocked_code", "clocked_module"):
        sys.modules.pop(name, None)


def stopped(cli: Cli, tmp_path: Path, *options: str) -> str:
    before = sorted(tmp_path.iterdir())
    start = time.monotonic()
    ran = cli("optimize", "net.onnx", "-o", "out.onnx", "--max", "function-seconds=1", *options)
    assert ran.code == 5
    assert time.monotonic() - start < 20
    assert sorted(tmp_path.iterdir()) == before
    return ran.sentence


@pytest.mark.parametrize("name", ["sleeps", "spins", "waits", "trickles"])
def test_a_feeds_function(cli: Cli, tmp_path: Path, name: str) -> None:
    said = stopped(cli, tmp_path, "-p", "identities", "--feeds", f"clocked_code:{name}")
    assert said == (
        f"the feeds function clocked_code:{name} did not end within 1 second; --max function-seconds=N moves it"
    )


@pytest.mark.parametrize("name", ["sleeps", "spins"])
def test_a_metric(cli: Cli, tmp_path: Path, name: str) -> None:
    said = stopped(cli, tmp_path, *LOSSY, "--metric", f"clocked_code:{name}")
    assert said == f"the metric clocked_code:{name} did not end within 1 second; --max function-seconds=N moves it"


def test_a_module(cli: Cli, tmp_path: Path) -> None:
    said = stopped(cli, tmp_path, "-p", "identities", "--feeds", "clocked_module:f")
    assert said.startswith("the import of the module 'clocked_module' of the feeds did not end within 1 second;")


def test_one_that_ends_in_time(cli: Cli) -> None:
    ran = cli("optimize", "net.onnx", "-o", "out.onnx", *LOSSY, "--metric", "clocked_code:fine")
    assert ran.code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_does_not_wait(tmp_path: Path, number: int, code: int) -> None:
    said = "import sys\ndef told(*given):\n    print('in it', file=sys.stderr, flush=True)\n    sleeps()\n"
    (tmp_path / "clocked_code.py").write_text(CODE + said)
    process = subprocess.Popen(
        [sys.executable, "-m", "graphopt", "optimize", "net.onnx", "-o", "out.onnx", "-p", "identities",
         "--feeds", "clocked_code:told"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "in it\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == code
    assert "'out.onnx' was not written" in err


def test_what_is_left_behind_ends_at_its_next_step() -> None:
    found: list[threading.Thread] = []

    def spin() -> None:
        found.append(threading.current_thread())
        while True:
            time.sleep(0.001)

    with limited(Limits(function_seconds=1)), pytest.raises(OverLimit):
        within_clock("it", spin)
    assert left_behind()
    found[0].join(10)
    assert not found[0].is_alive()


def test_no_time_at_all() -> None:
    with limited(Limits(function_seconds=0)), pytest.raises(OverLimit, match="within 0 seconds"):
        within_clock("it", lambda: time.sleep(0.2))


def test_calls_within_calls_and_errors() -> None:
    main = threading.current_thread()
    assert within_clock("it", lambda: within_clock("it", threading.current_thread)) is not main
    with pytest.raises(ZeroDivisionError):
        within_clock("it", lambda: 1 / 0)
    assert within_clock("it", threading.current_thread) is within_clock("it", threading.current_thread)


def test_the_thread_goes_with_the_one_it_is_beside() -> None:
    found: list[threading.Thread] = []
    one = threading.Thread(target=lambda: found.append(within_clock("it", threading.current_thread)))
    one.start()
    one.join()
    found[0].join(10)
    assert not found[0].is_alive()
