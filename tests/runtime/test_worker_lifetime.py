"""The worker ends with its parent however that ends, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from little_models import DOUBLE, ENDLESS

from graphopt.errors import InternalError
from graphopt.runtime.client import Session, Worker, WorkerFailure

X = np.ones(4, np.float32)
BUSY = 50  # more ticks than starting takes: the worker is inside the endless model
HERE = str(Path(__file__).parent)


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def processor_ticks(pid: int) -> int:
    """Processor time in user mode, in hundredths of a second."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])


def works(session: Session) -> bool:
    return bool(np.array_equal(session.run({"x": X})["y"], 2 * X))  # type: ignore[arg-type]


def script(body: str) -> subprocess.Popen[str]:
    """A Python process with `worker` and the little models at hand."""
    start = "import os, threading, time\nimport numpy as np\nfrom little_models import DOUBLE, ENDLESS\n"
    start += "from graphopt.runtime.client import Worker\nworker = Worker()\n"
    environment = {**os.environ, "PYTHONPATH": HERE}
    return subprocess.Popen([sys.executable, "-c", start + body], stdout=subprocess.PIPE, text=True, env=environment)


def printed_number(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_closing_leaves_nothing_behind() -> None:
    def open_files() -> list[Path]:
        gc.collect()
        return sorted(Path("/proc/self/fd").iterdir())

    files, shared = open_files(), sorted(Path("/dev/shm").iterdir())
    with Worker() as worker:
        session = worker.load(DOUBLE)
        assert works(session)
        session.run({"x": np.ones(1 << 20, np.float32)})
        pid = worker.pid
        assert pid is not None
        assert sorted(Path("/dev/shm").iterdir()) == shared
    assert gone(pid)
    assert worker.pid is None
    assert open_files() == files
    assert works(session)  # even now it would start another
    worker.close()
    assert open_files() == files


def test_a_forgotten_worker_ends() -> None:
    worker = Worker()
    worker.load(DOUBLE)
    pid = worker.pid
    assert pid is not None
    del worker
    gc.collect()
    assert eventually(lambda: gone(pid))


@pytest.mark.parametrize("thread", [False, True], ids=["from the main thread", "from another thread"])
def test_the_worker_dies_with_a_killed_parent(thread: bool) -> None:
    body = (
        "def work():\n"
        "    session = worker.load(ENDLESS)\n"
        "    print(worker.pid, flush=True)\n"
        "    session.run({'x': np.float32(1)})\n"
    )
    body += "t = threading.Thread(target=work); t.start(); t.join()\n" if thread else "work()\n"
    with script(body) as process:
        pid = printed_number(process)
        assert eventually(lambda: processor_ticks(pid) > BUSY)
        process.send_signal(signal.SIGKILL)
    assert eventually(lambda: gone(pid))


def test_the_worker_dies_with_a_parent_that_has_forked() -> None:
    # The fork holds copies of every pipe, so their closing says nothing.
    body = (
        "session = worker.load(ENDLESS)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    time.sleep(60)\n"
        "print(worker.pid, child, sep='\\n', flush=True)\n"
        "session.run({'x': np.float32(1)})\n"
    )
    with script(body) as process:
        pid, fork = printed_number(process), printed_number(process)
        assert eventually(lambda: processor_ticks(pid) > BUSY)
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            assert eventually(lambda: gone(pid))
            assert not gone(fork)
        finally:
            os.kill(fork, signal.SIGKILL)


def test_an_ended_parent_takes_its_worker_along() -> None:
    with script("worker.load(DOUBLE); print(worker.pid, flush=True)\n") as process:
        pid = printed_number(process)
    assert process.returncode == 0
    assert gone(pid)


def test_the_worker_outlives_the_thread_that_started_it(worker: Worker) -> None:
    worker.close()
    sessions: list[Session] = []
    thread = threading.Thread(target=lambda: sessions.append(worker.load(DOUBLE)))
    thread.start()
    thread.join()
    pid = worker.pid
    assert pid is not None
    assert not eventually(lambda: gone(pid), seconds=0.1)
    assert works(sessions[0])
    assert worker.pid == pid


def test_a_fork_leaves_the_worker_alone() -> None:
    body = (
        "session = worker.load(DOUBLE); first = worker.pid\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    ok = session.run({'x': np.ones(1, np.float32)})['y'] == 2 and worker.pid != first\n"
        "    worker.close()\n"
        "    os._exit(0 if ok else 1)\n"
        "print(os.waitpid(child, 0)[1], flush=True)\n"
        "ok = session.run({'x': np.ones(1, np.float32)})['y'] == 2 and worker.pid == first\n"
        "print(0 if ok else 1, flush=True)\n"
    )
    with script(body) as process:
        assert printed_number(process) == 0
        assert printed_number(process) == 0


def test_interrupting_ends_the_worker(worker: Worker) -> None:
    session, endless = worker.load(DOUBLE), worker.load(ENDLESS)
    pid = worker.pid
    assert pid is not None
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        endless.run({"x": np.float32(1)})
    assert gone(pid)
    assert works(session)


def test_the_keyboard_does_not_reach_the_worker(worker: Worker) -> None:
    worker.load(DOUBLE)
    assert worker.pid is not None
    assert os.getpgid(worker.pid) == os.getsid(worker.pid) == worker.pid != os.getpgrp()


def test_several_threads_may_share_a_worker(worker: Worker) -> None:
    sessions = [worker.load(DOUBLE) for _ in range(2)]
    right: list[int] = []

    def use(number: int) -> None:
        x = np.full(1000 * (number + 1), number, np.float32)
        for _ in range(20):
            result = sessions[number % 2].run({"x": x})["y"]
            if np.array_equal(result, 2 * x):  # type: ignore[arg-type]
                right.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(right) == 4 * 20


def test_nothing_reaches_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    with Worker() as worker:
        for model in (b"nonsense", DOUBLE):
            try:
                worker.run_model(model, {"x": X})
            except WorkerFailure:
                continue
    assert capfd.readouterr() == ("", "")


def interpreter(folder: Path, *lines: str) -> str:
    path = folder / "python"
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A megabyte of noise is more than a pipe holds; only its end is kept.
    noise = "head -c 1000000 /dev/zero | tr '\\0' 'x'; echo; echo 'out of \x1b luck' >&2; exit 3"
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, noise))
    with pytest.raises(WorkerFailure) as no:
        Worker().load(DOUBLE)
    assert no.value.kind == "crash"
    assert str(no.value) == r"the worker ended with status 3 while starting; it last said: out of \x1b luck."


def test_an_interpreter_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('broken')")
    line = f'PYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"'
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, line))
    with pytest.raises(InternalError, match=r"^onnxruntime cannot be used by .*/python: broken\.$"):
        Worker().load(DOUBLE)


def test_the_current_folder_is_not_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "numpy", "graphopt"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with Worker() as worker:
        assert works(worker.load(DOUBLE))


def test_neither_side_imports_more_than_it_needs() -> None:
    for side in ("client", "worker"):
        code = f"import sys, graphopt.runtime.{side}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert {"onnx", "onnxruntime", "ml_dtypes"}.isdisjoint(done.stdout.split())
