"""The child process that trains: started, listened to, and ended whatever happens.

PyTorch is in that process only: a crash, a lack of memory or Ctrl-C there leaves this one as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from graphopt.runtime.procfs import killed_for_memory

_ROOT: Final = str(Path(__file__).resolve().parents[2])

# `-P` keeps the current folder out of the import path: a file there must not pass for a library.
_START: Final = (
    "import sys; root = sys.argv.pop(1); root in sys.path or sys.path.insert(0, root); "
    "from graphopt.training.child import main; main()"
)


class Ended(Exception):
    """The process ended without a result; the text says how, in a clause."""


def told(folder: Path) -> Generator[dict[str, Any], None, None]:
    """Train what is in a folder; what the process says on its way, and at last how it ended. Raises Ended."""
    lifeline, ours = os.pipe()
    main_thread = threading.current_thread() is threading.main_thread()
    words = (folder / "words").open("wb")
    kills = killed_for_memory()
    arguments = [str(folder), str(lifeline), str(os.getpid()), str(int(main_thread))]
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, _ROOT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            pass_fds=(lifeline,),
            start_new_session=True,
            # Threads that wait for each other by running in circles take the machine from everything else.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(lifeline)
        words.close()
    try:
        assert child.stdout is not None
        for line in child.stdout:
            with contextlib.suppress(ValueError):  # what a library prints
                said = json.loads(line)
                if isinstance(said, dict):
                    yield said
        code = child.wait()
        if code:
            raise Ended(_why(code, folder, killed_for_memory() > kills))
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if child.stdout is not None:
            child.stdout.close()
        os.close(ours)


def _why(code: int, folder: Path, memory: bool) -> str:
    if code == -signal.SIGKILL:
        return "was killed by the system for lack of memory" if memory else "was killed from outside"
    lines = (folder / "words").read_text(errors="replace").splitlines()
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    how = f"died of signal {-code}" if code < 0 else f"ended with status {code}"
    return f"{how}; it last said: {last[:300]}" if last else how
