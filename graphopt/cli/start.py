"""Where the program starts: signals are seen to before anything that takes time is imported."""

from __future__ import annotations

import os
import signal
from types import FrameType

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
    from graphopt.cli.app import main as run

    run()


def _leave(number: int, frame: FrameType | None) -> None:
    """Nothing has begun, so there is nothing to clear up; or all is done and said, and the program is ending."""
    if settled():
        return
    code, word = SIGNALS[number]
    try:
        os.write(2, f"graphopt: {word}; nothing was begun\n".encode())
    finally:
        os._exit(code)
