"""Where the program starts: signals are seen to before anything that takes time is imported."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from graphopt.errors import OUT_OF_MEMORY, OverLimit
from graphopt.stopping import settled

SIGNALS = {
    int(getattr(signal, name)): (code, word)
    for name, code, word in (
        ("SIGINT", 130, "interrupted"),
        ("SIGTERM", 143, "terminated"),
        ("SIGHUP", 129, "hung up"),
    )
    if hasattr(signal, name)
}
"""The exit code of each signal that ends a run, and its word."""


def main() -> None:
    """The console script `graphopt`."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _leave)
    try:
        from graphopt.cli.app import main as run

        run()
    except SystemExit as ended:
        _end(ended)
        raise
    except (MemoryError, OSError) as error:  # before the command line itself could see to it
        if "--debug" in sys.argv:
            raise
        said = OUT_OF_MEMORY if isinstance(error, MemoryError) else f"the system refused to go on: {error}"
        _say(said)
        sys.exit(OverLimit.exit_code)
    finally:
        for number in SIGNALS:  # all is done and said; the end of the interpreter must not be cut short, either
            signal.signal(number, signal.SIG_IGN)


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"graphopt: {text}\n".encode(errors="backslashreplace"))


def _end(ended: SystemExit) -> None:
    """End at once where a function of the user's still runs: the libraries that it is in cannot be closed."""
    aside = sys.modules.get("graphopt.validation.aside")
    if aside is not None and aside.left_behind():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


def _leave(number: int, frame: FrameType | None) -> None:
    """Nothing has begun, so there is nothing to clear up; or all is done and said, and the program is ending."""
    if settled():
        return
    code, word = SIGNALS[number]
    try:
        _say(f"{word}; nothing was begun")
    finally:
        os._exit(code)
