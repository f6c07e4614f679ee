"""A process that has imported everything, and forks for each run: a run costs its own work only.

Reads jobs, one JSON object a line, from standard input, and answers each with one line. In the
fork `graphopt`'s command line runs as in a process of its own, with the interposer armed; the
onnxruntime worker is a fork of that fork, in place of a new interpreter. Started by `warmed.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

PATIENCE = 90.0  # seconds that one run may take; only a run that hangs takes so long
_SUBREAPER = 36


class ForkedWorker:
    """What `subprocess.Popen` is to `graphopt.runtime.process`, without an exec."""

    faults: tuple[int, ...] | None = None

    def __init__(self, command: list[str], *, stdin: int, stdout: int, stderr: int, **how: Any) -> None:
        kept = set(how["pass_fds"])
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        try:
            library.faults_disarm()
            if self.faults:
                arm(self.faults)
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for one in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
                if one > 2 and one not in kept:
                    with contextlib.suppress(OSError):
                        os.close(one)
            # As in a new interpreter: nothing of the parent's runs here at the end.
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            sys.argv = ["worker", *command[-4:]]
            from graphopt.runtime.worker import main

            main()
        except BaseException as error:  # noqa: BLE001
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(1)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            time.sleep(0.002)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def arm(spec: tuple[int, ...] | list[int]) -> None:
    library.faults_arm(*(ctypes.c_long(one) for one in spec))


def warm_up(modules: list[str]) -> None:
    for name in modules:
        with contextlib.suppress(Exception):  # what cannot be imported here is imported in the run
            importlib.import_module(name)


def begin(job: dict[str, Any]) -> None:
    """In the fork: become the command line of a job."""
    os.setpgid(0, 0)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    tempfile.tempdir = None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for number, stream in ((1, job["out"]), (2, job["err"])):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    if job.get("mild"):  # the worker as it is for users
        pass
    else:
        from graphopt.runtime import process

        ForkedWorker.faults = job.get("worker")
        process.subprocess = types.SimpleNamespace(  # type: ignore[attr-defined]
            Popen=ForkedWorker, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
        )
    for name, most in job.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (most, most))
    sys.argv = ["graphopt", *job["arguments"]]


def follow(pid: int) -> tuple[int | None, list[int]]:
    """Wait for a run and for all that it has started: its status (None: it hung), and what did not end."""
    deadline = time.monotonic() + PATIENCE
    status = None
    while status is None and time.monotonic() < deadline:
        found, how = os.waitpid(pid, os.WNOHANG)
        if found:
            status = os.waitstatus_to_exitcode(how)
        else:
            time.sleep(0.002)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    # This process is the reaper of orphans: whatever the run has left behind is now its child.
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.002)
        except ChildProcessError:
            return status, []
    left = [int(one) for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    for one in left:
        os.kill(one, signal.SIGKILL)
        os.waitpid(one, 0)
    return status, left


def serve() -> dict[str, Any] | None:
    """Answer jobs; in the fork of a job, return it."""
    for line in sys.stdin:
        job = json.loads(line)
        if "import" in job:
            warm_up(job["import"])
            answer: dict[str, Any] = {}
        else:
            pid = os.fork()
            if not pid:
                return job
            status, left = follow(pid)
            seen = shared.contents
            log = [seen.log[at].value.decode(errors="replace") for at in range(min(seen.entries, ENTRIES))]
            answer = {"status": status, "left": left, "sites": seen.sites, "fired": seen.fired}
            answer |= {"named_memory": seen.named_memory, "log": log}
            arm((0, -1, 0, 0, 0, 0, 0))
        sys.__stdout__.write(json.dumps(answer) + "\n")
        sys.__stdout__.flush()
    return None


sys.path.insert(0, str(Path(__file__).resolve().parent))
from interposer import ENTRIES, Shared  # noqa: E402

library: Any
if "LD_PRELOAD" in os.environ:
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.faults_setup.restype = ctypes.POINTER(Shared)
else:
    from patched import Patched

    library = Patched()
shared = library.faults_setup()

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    wanted = serve()
    if wanted is not None:
        begin(wanted)
        from graphopt.cli.start import main

        if wanted.get("told"):  # which modules a run has imported, for the next ones
            import atexit

            atexit.register(lambda: Path(wanted["told"]).write_text("\n".join(sys.modules)))
        arm(wanted["faults"])
        code: Any = 0
        try:
            main()
        except SystemExit as ending:
            code = ending.code
        except BaseException:  # noqa: BLE001 - what no command line should let through
            import traceback

            traceback.print_exc()
            code = 1
        # What an interpreter does at its end, without the destructors of libraries, which wait for
        # threads that the fork does not have.
        import atexit

        atexit._run_exitfuncs()
        library.faults_disarm()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code if isinstance(code, int) else 1)
