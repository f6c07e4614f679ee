"""Runs a command line as a process of its own and looks at what it costs, with all its children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = 0.05
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (None: it was stopped after its time), streams, seconds, bytes.

    `worked` are the seconds that processors spent on it, which other processes do not make longer.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    worked: float
    peak: int


class Cold:
    """Each command line as a user would start it."""

    def run(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float) -> Ended:
        """Run `graphopt ARGUMENTS` in `folder`; it is stopped after `limit` seconds."""
        out, err = Path(environment["HOME"]) / "out", Path(environment["HOME"]) / "err"
        with out.open("wb") as first, err.open("wb") as second:
            process = subprocess.Popen(
                [sys.executable, "-m", "graphopt", *arguments], cwd=folder, env=dict(environment),
                stdin=subprocess.DEVNULL, stdout=first, stderr=second, start_new_session=True,
            )  # fmt: skip
            with _Clock(process.pid, limit) as clock:
                _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        return clock.ended(process.returncode, used.ru_utime + used.ru_stime, out, err)

    def close(self) -> None:
        """Nothing is kept."""


class Warm:
    """Command lines in forks of one process that has imported everything."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(_HERE / "commandserver.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float) -> Ended:
        """As `Cold.run`."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        out, err = Path(environment["HOME"]) / "out", Path(environment["HOME"]) / "err"
        request = {
            "arguments": list(arguments), "folder": str(folder), "environment": dict(environment),
            "out": str(out), "err": str(err),
        }  # fmt: skip
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        with _Clock(int(self._server.stdout.readline()), limit) as clock:
            code, worked = self._server.stdout.readline().split()
        return clock.ended(int(code), float(worked), out, err)

    def close(self) -> None:
        """End the process."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()
        assert self._server.stdout is not None
        self._server.stdout.close()


class _Clock:
    """Watches a process while the block lasts: its time, its memory; stops it when the time is over."""

    def __init__(self, process: int, limit: float) -> None:
        self._process, self._limit = process, limit
        self._peak, self._late = 0, False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _Clock:
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._begun
        self._done.set()
        self._thread.join()

    def ended(self, code: int, worked: float, out: Path, err: Path) -> Ended:
        """What was seen. The two files are read and removed."""
        texts = [path.read_bytes().decode("utf-8", "backslashreplace") for path in (out, err)]
        out.unlink()
        err.unlink()
        return Ended(None if self._late else code, texts[0], texts[1], self.seconds, worked, self._peak)

    def _watch(self) -> None:
        while not self._done.wait(_TICK):
            self._peak = max(self._peak, tree_memory(self._process))
            if time.monotonic() - self._begun > self._limit and not self._late:
                self._late = True
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process, signal.SIGKILL)


def tree_memory(root: int) -> int:
    """Resident bytes of a process and all below it; memory that they share is counted once a process."""
    children: dict[int, list[int]] = {}
    resident: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        process = int(entry.name)
        children.setdefault(int(fields[1]), []).append(process)
        resident[process] = int(fields[21]) * _PAGE
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        total += resident.get(process, 0)
        waiting += children.get(process, ())
    return total
