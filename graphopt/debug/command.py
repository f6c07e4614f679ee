"""The user's own verdict on a model: a command, judged by how it exits."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from graphopt.debug.bisect import Answer
from graphopt.errors import UsageError

PLACE = "{model}"
_SKIP = 125
_NOT_RUN = (126, 127)  # what shells exit with when they cannot start a command
_TAIL = 4096  # bytes of output that the reason is looked for in
_SHOWN = 160


@dataclass(frozen=True)
class Judged:
    """An answer and why, in a clause."""

    answer: Answer
    why: str
    started: bool = True


@dataclass(frozen=True)
class Command:
    """A shell command with `{model}` where the path of the model goes.

    It exits with 0 for a good model, with 125 where it cannot tell, with anything else for a bad
    one. One that takes longer than `seconds` is ended, and told nothing. It runs in the user's own
    shell (SHELL, else /bin/sh), without standard input. Raises UsageError when it has no `{model}`.
    """

    text: str
    seconds: float = 600.0

    def __post_init__(self) -> None:
        if PLACE not in self.text:
            raise UsageError(f"--check {self.text!r} has no {PLACE}, which is where the path of the model goes")

    def judge(self, model: Path) -> Judged:
        """Run the command on a model file."""
        line = self.text.replace(PLACE, shlex.quote(str(model)))
        with tempfile.TemporaryFile() as said:
            code = self._run(line, said.fileno())
            said.seek(max(0, said.seek(0, os.SEEK_END) - _TAIL))
            last = _last_line(said.read())
        tail = f": {last}" if last else ""
        if code is None:
            return Judged(Answer.SKIP, f"the check took longer than {self.seconds:g} s")
        if code == 0:
            return Judged(Answer.GOOD, "the check exits with 0")
        if code == _SKIP:
            return Judged(Answer.SKIP, f"the check exits with 125{tail}")
        ended = f"the check exits with {code}" if code > 0 else f"the check is ended by signal {-code}"
        return Judged(Answer.BAD, ended + tail, code not in _NOT_RUN)

    def _run(self, line: str, output: int) -> int | None:
        """The exit code, minus the number of a signal, or None when time ran out."""
        try:
            running = subprocess.Popen(
                [_shell(), "-c", line],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that what it started can be ended with it
            )
        except OSError as error:
            raise UsageError(f"--check cannot be run: {os.strerror(error.errno or 0).lower()}") from None
        try:
            return running.wait(self.seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(OSError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def _shell() -> str:
    given = os.environ.get("SHELL", "")
    return given if given and Path(given).is_absolute() and os.access(given, os.X_OK) else "/bin/sh"


def _last_line(data: bytes) -> str:
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    text = lines[-1] if lines else ""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
