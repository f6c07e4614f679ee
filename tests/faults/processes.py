"""Command lines in processes of their own, as users start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from warmed import ONE_THREAD, REPOSITORY

CLOCK = 300.0  # seconds: only a run that hangs takes so long


def _as_from_a_terminal() -> None:
    """A shell that is no terminal's makes what it starts ignore Ctrl-C, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(work: Path, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start `graphopt ARGUMENTS` in a folder, beside which `tmp` is its temporary folder."""
    temporary = work.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    own = {"TMPDIR": str(temporary), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-m", "graphopt", *map(str, arguments)],
        cwd=work,
        env=os.environ | ONE_THREAD | own | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_as_from_a_terminal,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for it: its exit code, and what it printed."""
    try:
        out, err = process.communicate(timeout=CLOCK)
    finally:
        process.kill()
    return process.returncode, out, err


def children(pid: int) -> list[int]:
    """Of a process, where the system says."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_gone(pid: int) -> bool:
    """Whether a process has ended, though its new parent may not have asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
