"""What a whole process takes: CPU seconds and the most memory of it and its children, each run by itself.

A child counts as its own the memory that its parent had when it was started, so a small interpreter starts the command
and reports; that is the least that can be measured.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.judged import without_folders

ROOT: Final = Path(__file__).resolve().parents[1]
_MINUTES: Final = 10.0
_LONGEST: Final = 240
_LAUNCHER: Final = (
    "import json, os, sys\n"
    "child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)\n"
    "_, status, used = os.wait4(child, 0)\n"
    "facts = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss]\n"
    "open(sys.argv[1], 'w').write(json.dumps(facts))\n"
)


@dataclass(frozen=True)
class Spent:
    """CPU seconds, the most resident memory of any of its processes in bytes, and why it failed ("": it did not)."""

    cpu: float = 0.0
    peak: int = 0
    failure: str = ""


def spent(command: Sequence[str], where: Path, minutes: float = _MINUTES) -> Spent:
    """Run a command in the folder `where`, with this copy of the project on its path."""
    program = shutil.which(command[0])
    if program is None:
        return Spent(failure=f"there is no program {Path(command[0]).name}")
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        facts = Path(folder) / "facts"
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(facts), program, *command[1:]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, cwd=where,
            env={**os.environ, "PYTHONPATH": paths}, start_new_session=True,
        )  # fmt: skip
        try:
            child.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            return Spent(failure=f"it was not through after {minutes:g} minutes")
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
        try:
            code, cpu, peak = json.loads(facts.read_text())
        except (OSError, ValueError):
            return Spent(failure="it could not be started")
    return Spent(cpu, peak * 1024, _reason(code, lines))


def _reason(code: int, lines: Sequence[str]) -> str:
    if code == 0:
        return ""
    if code < 0:
        return f"its process was ended by signal {-code}"
    last = (lines or ["it gave no reason"])[-1].removeprefix("graphopt: ")
    return without_folders(last)[:_LONGEST]
